import pytest
import torch
from torch import nn

import zoo
from zoo.datasets import motion, translate_rotate
from zoo.errors import UsageError
from zoo.registry.plugins import resolve
from zoo.training.finalizing import example_of
from zoo_stdcf import evaluation, sampling, training
from zoo_stdcf.recipes import RECIPES

CPU = torch.device("cpu")


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


class Dimmer(nn.Module):
    """Reconstructs all but the first frame, of which it leaves half."""

    def forward(self, x):
        return torch.cat((x[:, :, :1] / 2, x[:, :, 1:]), dim=2)


def test_the_error_is_that_of_the_fixed_test_clips(mnist):
    found = evaluation.evaluate_reconstruction(Dimmer(), CPU, 30, batch_size=7)
    images, drawn = translate_rotate.fixed_set("test", 30)
    first = (translate_rotate.render(images, drawn)[:, 0, 0].double() / 255 / 2).square().mean().item()
    (metric,) = found["metrics"]
    assert (metric["dataset"], metric["split"], metric["name"]) == ("tr_mnist", "test", "mean squared error")
    assert metric["value"] == pytest.approx(first / 8, abs=1e-6)
    assert found["clips_measured"] == 30
    errors = [row["mean squared error"] for row in found["breakdown"]["frame"]]
    assert errors == pytest.approx([first, *[0] * 7], abs=1e-6)
    with pytest.raises(UsageError, match="1 to 5,000"):
        evaluation.evaluate_reconstruction(Dimmer(), CPU, 5_001)


class Oracle(nn.Module):
    """Says what is right for all but every tenth clip, by the order in which they come."""

    def __init__(self):
        super().__init__()
        self.right = training.labels(motion.fixed_set("test", 40)[1])
        self.seen = 0

    def forward(self, x):
        number = torch.arange(self.seen, self.seen + len(x))
        self.seen += len(x)
        return nn.functional.one_hot((self.right[number] + (number % 10 == 0)) % 9, 9).float()


def test_accuracy_is_the_share_of_right_clips(mnist):
    found = evaluation.evaluate_motion(Oracle(), CPU, 40, batch_size=16)
    assert found["metrics"] == [{"dataset": "motion_mnist", "split": "test", "name": "motion accuracy", "value": 0.9}]
    rows = found["breakdown"]["motion"]
    assert sum(row["clips"] for row in rows) == found["clips_measured"] == 40
    assert sum(row["clips"] * row["motion accuracy"] for row in rows) == pytest.approx(36, abs=0.01)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_example_and_the_evaluation_fit_the_network(mnist, recipe):
    network = resolve(recipe.build)(**recipe.arguments).eval()
    example = example_of(recipe)
    with torch.no_grad():
        said = network(example)
    assert said.shape == (example.shape if recipe.arguments["design"] == "autoencoder" else (1, 9))
    assert resolve(recipe.evaluate)(network, CPU, 2)["clips_measured"] == 2


def test_the_bundled_samples_are_those_that_sampling_writes(mnist, tmp_path):
    from importlib.resources import files

    labels = sampling.write(tmp_path)
    for model, name in (("stdcf_autoencoder", "tr_mnist"), ("stdcf_kth", "motion_mnist")):
        (sample,) = zoo.info(model).samples
        assert sample.labels == labels[name]
        bundled = files("zoo_stdcf").joinpath(f"samples/{name}.safetensors").read_bytes()
        assert (tmp_path / f"{name}.safetensors").read_bytes() == bundled
