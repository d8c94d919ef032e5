import pytest
import torch

from zoo.registry.plugins import resolve
from zoo.training.finalizing import example_of
from zoo_tconv3 import training
from zoo_tconv3.recipes import RECIPES


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_the_example_and_the_evaluation_fit_the_network(mnist, recipe):
    network = training.build(**recipe.arguments).eval()
    with torch.no_grad():
        assert network(example_of(recipe)).shape == (1, recipe.arguments["classes"])
    found = resolve(recipe.evaluate)(network, torch.device("cpu"), 2, **recipe.evaluate_arguments)
    assert found["clips_measured"] == 2
