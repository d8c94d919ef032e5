from dataclasses import replace

import pytest
import torch

from zoo.registry import catalog
from zoo_motion_mnist import task
from zoo_stft import training
from zoo_stft.recipes import RECIPES


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


def test_all_networks_have_one_recipe():
    first, *others = RECIPES
    for other in others:
        one = replace(other.stages[0], arguments=first.stages[0].arguments)
        assert one == first.stages[0]
        assert other.seed == first.seed
        assert {**other.arguments, "kind": None} == {**first.arguments, "kind": None}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_step_of_each_recipe_learns(recipe, mnist):
    network = training.build(**{**recipe.arguments, "narrowed": 16}).train()
    one = replace(recipe.stages[0], batch_size=2)
    batch = training.clips(network, one, 1, torch.device("cpu"))(0)
    loss, terms = training.loss(network, batch, one)
    loss.backward()
    assert catalog.recipe(recipe.name) == recipe
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert next(iter(network.parameters())).grad.abs().max() > 0
    logits = network.eval()(task.as_input(batch["clips"]))
    assert logits.shape == (2, 9)
    loss, terms = training.loss(network, batch, one)
    assert loss.item() == pytest.approx(-logits.log_softmax(1)[[0, 1], batch["label"]].mean().item(), rel=1e-4)
    assert terms["accuracy"] == (logits.argmax(1) == batch["label"]).float().mean()
