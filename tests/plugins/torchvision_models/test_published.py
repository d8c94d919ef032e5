"""Files as torchvision publishes them, made here with random numbers, become weights of our entries."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

import zoo
from zoo import foreign
from zoo.weights import map_tensors


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
        return foreign.obtain(dataclasses.replace(weights, sha256=digest), offline=True).source

    return obtain


def test_auxiliary_heads_of_googlenet_are_left(torchvision, publish):
    theirs = torchvision.models.googlenet(
        weights=None, aux_logits=True, transform_input=True, init_weights=False
    ).eval()
    ours = zoo.load("googlenet", weights=publish("googlenet", theirs.state_dict()))
    photo = torch.randn(1, 3, 64, 64)
    assert torch.equal(ours(photo), theirs(photo))


def test_names_of_older_vision_transformers_are_understood(torchvision, publish):
    with torch.device("meta"):
        names = list(torchvision.models.vit_b_16(weights=None).state_dict())
    older = [name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.") for name in names]
    assert set(older) != set(names)
    numbers = {name: torch.tensor([float(number)]) for number, name in enumerate(older)}
    found = map_tensors(Path(publish("vit_b_16", numbers)))
    assert {name: float(tensor) for name, tensor in found.items()} == {name: n for n, name in enumerate(names)}
