import pytest
import torch
from torch import nn

import zoo
from zoo.datasets import motion
from zoo.registry.plugins import resolve
from zoo.training.finalizing import example_of
from zoo_tconv3 import evaluation, sampling, training
from zoo_tconv3.recipes import CLASSES, RECIPES


class Oracle(nn.Module):
    """Says what is right for all but every tenth clip, by the order in which they come."""

    def __init__(self, kind):
        super().__init__()
        _, drawn = motion.fixed_set("test", 40, training.motions(kind))
        self.right = training.labels(drawn, kind)
        self.kind = kind
        self.seen = 0

    def forward(self, x):
        said = self.right[self.seen : self.seen + len(x)].clone()
        number = torch.arange(self.seen, self.seen + len(x))
        said[number % 10 == 0] += 1
        self.seen += len(x)
        return nn.functional.one_hot(said % len(CLASSES[self.kind]), len(CLASSES[self.kind])).float()


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


@pytest.mark.parametrize("kind", CLASSES)
def test_accuracy_is_the_share_of_right_clips(mnist, kind):
    found = evaluation.evaluate(Oracle(kind), torch.device("cpu"), 40, kind=kind, batch_size=16)
    (metric,) = found["metrics"]
    assert metric["value"] == 0.9
    assert metric["name"] == ("digit accuracy" if kind == "static" else "motion accuracy")
    assert found["clips_measured"] == 40
    for table, rows in found["breakdown"].items():
        assert sum(row["clips"] for row in rows) == 40
        assert sum(row["clips"] * row[metric["name"]] for row in rows) == pytest.approx(36, abs=0.01)
        assert {row[table] for row in rows} <= {*motion.MOTIONS, *"0123456789"}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_example_and_the_evaluation_fit_the_network(mnist, recipe):
    network = training.build(**recipe.arguments).eval()
    with torch.no_grad():
        assert network(example_of(recipe)).shape == (1, recipe.arguments["classes"])
    found = resolve(recipe.evaluate)(network, torch.device("cpu"), 2, **recipe.evaluate_arguments)
    assert found["clips_measured"] == 2


def test_the_bundled_samples_are_those_that_sampling_writes(mnist, tmp_path):
    labels = sampling.write(tmp_path / "samples.safetensors")
    (sample,) = zoo.info("3t_resnet18_w16").samples
    assert sample.labels == labels
    from importlib.resources import files

    bundled = files("zoo_tconv3").joinpath("samples/motion_mnist.safetensors").read_bytes()
    assert (tmp_path / "samples.safetensors").read_bytes() == bundled
