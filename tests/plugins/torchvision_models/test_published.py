"""Files as torchvision publishes them, made here with random numbers, become weights of our entries."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

import zoo
from zoo.weights import torch_files
from zoo.weights.files import map_tensors


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Put a state dictionary where torch.hub would, and obtain it through the entry of a model."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def obtain(name, state):
        weights = zoo.info(name).weights[0]
        path = tmp_path / "torch" / "hub" / "checkpoints" / weights.source.rpartition("/")[2]
        path.parent.mkdir(parents=True)
        torch.save(state, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return torch_files.obtain(dataclasses.replace(weights, sha256=digest), offline=True).source

    return obtain


def test_googlenet_says_the_same_without_auxiliary_heads_and_with_its_input_moved_before(torchvision, publish):
    theirs = torchvision.models.googlenet(
        weights=None, aux_logits=True, transform_input=True, init_weights=False
    ).eval()
    ours = zoo.load("googlenet", weights=publish("googlenet", theirs.state_dict()))
    photo = torch.randint(256, (1, 300, 280, 3), dtype=torch.uint8)
    transforms = torchvision.models.get_model_weights("googlenet").DEFAULT.transforms()
    with torch.no_grad():
        expected = theirs(transforms(photo.permute(0, 3, 1, 2)))
        torch.testing.assert_close(ours(zoo.preprocess(photo, ours)), expected, rtol=0, atol=0.02 * expected.std())
        batch = torch.randn(1, 3, 64, 64)
        moved = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1) * batch
        moved = (moved + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1) - 0.5) / 0.5
        torch.testing.assert_close(ours(moved), theirs(batch))


def test_googlenet_takes_other_channels():
    model = zoo.load("googlenet", weights=None, in_channels=1)
    with torch.no_grad():
        assert model(torch.rand(1, 1, 64, 64)).shape == (1, 1000)


def test_names_of_older_vision_transformers_are_understood(torchvision, publish):
    with torch.device("meta"):
        names = list(torchvision.models.vit_b_16(weights=None).state_dict())
    older = [name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.") for name in names]
    assert set(older) != set(names)
    numbers = {name: torch.tensor([float(number)]) for number, name in enumerate(older)}
    found = map_tensors(Path(publish("vit_b_16", numbers)))
    assert {name: float(tensor) for name, tensor in found.items()} == {name: n for n, name in enumerate(names)}
