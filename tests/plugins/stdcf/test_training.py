from dataclasses import replace

import pytest
import torch

from zoo.entries.recipes import Stage
from zoo.errors import UsageError
from zoo.registry import catalog
from zoo.registry.plugins import resolve
from zoo_stdcf import networks, training, translate_rotate
from zoo_stdcf.layer import Stdcf
from zoo_stdcf.recipes import EPOCHS, RECIPES, ROUNDS

CPU = torch.device("cpu")


def stage(batch_size=4, **arguments):
    return Stage(
        name="clips", steps=1, batch_size=batch_size, learning_rate=1e-3, data="", loss="", arguments=arguments
    )


@pytest.fixture
def mnist(monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))


def test_every_epoch_shows_each_clip_once_in_an_order_of_its_own(monkeypatch):
    bright = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1, 1).expand(10, 1, 8, 28, 28)
    monkeypatch.setattr(translate_rotate, "fixed_set", lambda split: (torch.zeros(1, 28, 28), None))
    monkeypatch.setattr(translate_rotate, "render", lambda images, drawn: bright)
    batch_at = training.fixed_clips(None, stage(), 3, CPU)
    shown = torch.cat([batch_at(step)["clips"][:, 0, 0, 0, 0] for step in range(5)]).tolist()
    assert batch_at(2)["clips"].shape == (4, 1, 8, 28, 28)
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert shown[:10] != shown[10:]
    assert batch_at(2)["clips"][:, 0, 0, 0, 0].tolist() == shown[8:12]  # across the end of an epoch, in any order asked
    other = training.fixed_clips(None, stage(), 4, CPU)
    assert torch.cat([other(step)["clips"][:, 0, 0, 0, 0] for step in range(3)]).tolist() != shown[:12]
    large = training.fixed_clips(None, stage(batch_size=25), 3, CPU)(0)["clips"][:, 0, 0, 0, 0]
    assert large[:20].bincount().tolist() == [2] * 10


def test_the_autoencoders_learn_as_the_appendix_has_it():
    recipes = [recipe for recipe in RECIPES if recipe.arguments["design"] == "autoencoder"]
    assert [(recipe.name, recipe.seed) for recipe in recipes[:2]] == [
        ("stdcf_autoencoder.tr_mnist", 1),
        ("rank1_autoencoder.tr_mnist", 1),
    ]
    assert len(recipes) == 6
    for recipe in recipes:
        (only,) = recipe.stages
        assert (only.batch_size, only.learning_rate, only.final_rate, only.weight_decay) == (64, 1e-3, 1.0, 0.0)
        assert (only.warmup, only.averaging) == (0, 0.0)
        assert EPOCHS == 50
        assert 0 <= only.steps * 64 - 50 * translate_rotate.CLIPS["train"] < 64


def test_the_error_is_the_mean_square_over_pixels():
    network = torch.nn.Identity()
    clips = torch.randint(0, 256, (2, 1, 4, 4, 4), dtype=torch.uint8)
    assert training.squared_error(network, {"clips": clips}, stage())[0] == 0
    halved, _ = training.squared_error(lambda x: x / 2, {"clips": clips}, stage())
    assert halved.item() == pytest.approx(((clips.double() / 255 / 2) ** 2).mean().item(), rel=1e-6)


def test_a_stage_learns_its_parts_and_keeps_the_others(mnist):
    network = networks.action(kernel="stdcf", classes=9)
    one = stage(2, learned=["phi", "alpha"], size=32)
    batch_at = training.moving_clips(network, one, 1, CPU)
    layers = [part for part in network.modules() if isinstance(part, Stdcf)]
    assert len(layers) == 3
    training.cross_entropy(network, batch_at(0), one)[0].backward()
    for layer in layers:
        assert layer.psi.grad is None
        assert layer.phi.grad.abs().max() > 0
        assert layer.alpha.grad.abs().max() > 0
    assert network.fc.weight.grad is not None
    training.moving_clips(network, stage(), 1, CPU)
    assert all(value.requires_grad for value in network.parameters())
    with pytest.raises(UsageError, match="no chi to learn; expected some of psi, phi, alpha"):
        training.learn(network, ["chi"])


@pytest.mark.parametrize("short", ["", "_short"])
def test_alternating_takes_as_many_operations_as_joint_training(short):
    recipes = {recipe.name: recipe for recipe in RECIPES}
    (joint,) = recipes[f"stdcf_kth.motion_mnist{short}"].stages
    turns = recipes[f"stdcf_kth.motion_mnist_itsl{short}"].stages
    assert [one.name for one in turns] == [*(f"{kind}{k}" for k in range(1, ROUNDS + 1) for kind in "ts"), "all"]
    network = networks.action(kernel="stdcf", classes=9)

    def operations(one):
        size, frames = one.arguments.get("size", 64), one.arguments.get("frames", 16)
        layers = {
            "conv1": (frames, size, size),
            "conv2": (frames, size // 2, size // 2),
            "conv3": (frames // 2, size // 4, size // 4),
        }
        found = 0
        for name, shape in layers.items():
            layer = getattr(network, name)
            building = layer.alpha.numel() * layer.kernel_size[0] * 9
            found += layer.cost((one.batch_size, layer.in_channels, *shape))["dense"] - building
        return one.steps * found

    assert sum(map(operations, turns)) == operations(joint)
    for one in turns[:-1]:
        kept = {"t": "psi", "s": "phi"}[one.name[0]]
        assert sorted(one.arguments["learned"]) == sorted({"psi", "phi", "alpha"} - {kept})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_step_of_each_recipe_learns(recipe, mnist, monkeypatch):
    if recipe.arguments["design"] == "autoencoder":
        images, drawn = translate_rotate.fixed_set("train", 4)
        monkeypatch.setattr(translate_rotate, "fixed_set", lambda split: (images, drawn))
    torch.manual_seed(recipe.seed)
    network = resolve(recipe.build)(**recipe.arguments).train()
    for one in recipe.stages[-1:]:
        one = replace(one, batch_size=2)
        loss, _ = resolve(one.loss)(network, resolve(one.data)(network, one, recipe.seed, CPU)(0), one)
        loss.backward()
        assert loss.isfinite()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in network.conv1.parameters())
    assert catalog.recipe(recipe.name) is not None
