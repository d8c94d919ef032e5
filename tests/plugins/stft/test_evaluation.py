from importlib.resources import files

import pytest
import torch

import zoo
from zoo.registry.plugins import resolve
from zoo.training.finalizing import example_of
from zoo_stft import sampling, training
from zoo_stft.recipes import RECIPES


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


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
