import pytest
import torch
from torch import nn

import zoo
from zoo.errors import UsageError
from zoo.registry.plugins import resolve
from zoo.training.finalizing import example_of
from zoo_stdcf import evaluation, sampling, translate_rotate
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

    labels = sampling.write(tmp_path / "samples.safetensors")
    (sample,) = zoo.info("stdcf_autoencoder").samples
    assert sample.labels == labels
    bundled = files("zoo_stdcf").joinpath("samples/tr_mnist.safetensors").read_bytes()
    assert (tmp_path / "samples.safetensors").read_bytes() == bundled
