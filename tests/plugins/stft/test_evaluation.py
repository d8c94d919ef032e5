from importlib.resources import files

import pytest
import torch
from torch import nn

import zoo
from zoo.datasets import motion
from zoo.registry.plugins import resolve
from zoo.training.finalizing import example_of
from zoo_stft import evaluation, sampling, training
from zoo_stft.recipes import RECIPES


class Oracle(nn.Module):
    """Says what is right for all but every tenth clip, by the order in which they come."""

    def __init__(self):
        super().__init__()
        _, drawn = motion.fixed_set("test", 40)
        self.right = training.labels(drawn)
        self.shapes = set()
        self.seen = 0

    def forward(self, x):
        self.shapes.add(tuple(x.shape[1:]))
        number = torch.arange(self.seen, self.seen + len(x))
        said = self.right[number] + (number % 10 == 0)
        self.seen += len(x)
        return nn.functional.one_hot(said % 9, 9).float()


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


@pytest.mark.parametrize("frames", [16, 8, 32])
def test_accuracy_is_the_share_of_right_clips(mnist, frames):
    oracle = Oracle()
    found = evaluation.evaluate(oracle, torch.device("cpu"), 40, frames=frames, batch_size=16)
    assert oracle.shapes == {(1, frames, 64, 64)}
    (metric,) = found["metrics"]
    assert metric["value"] == 0.9
    assert metric["dataset"] == ("motion_mnist" if frames == 16 else f"motion_mnist, {frames} frames")
    assert found["clips_measured"] == 40
    for table, rows in found["breakdown"].items():
        assert sum(row["clips"] for row in rows) == 40
        assert sum(row["clips"] * row["motion accuracy"] for row in rows) == pytest.approx(36, abs=0.01)
        assert {row[table] for row in rows} <= {*motion.MOTIONS, *"0123456789"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_example_and_the_evaluation_fit_the_network(mnist, recipe):
    frames = recipe.stages[0].arguments["frames"]
    example = example_of(recipe)
    assert example.shape == (1, 1, frames, 64, 64)
    assert 0.9 < example.max() <= 1
    network = training.build(**{**recipe.arguments, "narrowed": 16}).eval()
    with torch.no_grad():
        assert network(example).shape == (1, recipe.arguments["classes"])
    found = resolve(recipe.evaluate)(network, torch.device("cpu"), 2, **recipe.evaluate_arguments)
    assert found["clips_measured"] == 2
    assert found["metrics"][0]["dataset"].endswith("mnist" if frames == 16 else f"{frames} frames")


def test_the_bundled_samples_are_those_that_sampling_writes(mnist, tmp_path):
    labels = sampling.write(tmp_path / "samples.safetensors")
    (sample,) = zoo.info("t_stft_w16").samples
    assert sample.labels == labels
    bundled = files("zoo_stft").joinpath("samples/motion_mnist.safetensors").read_bytes()
    assert (tmp_path / "samples.safetensors").read_bytes() == bundled
    assert len({label.split(",")[0] for label in labels}) == 9
