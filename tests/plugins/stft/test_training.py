from dataclasses import replace

import pytest
import torch

from zoo.datasets import motion
from zoo.entries.recipes import Stage
from zoo.registry import catalog
from zoo_stft import training
from zoo_stft.recipes import RECIPES


def stage(frames, batch_size=4):
    return Stage(
        name="clips", steps=1, batch_size=batch_size, learning_rate=1e-3, data="", loss="", arguments={"frames": frames}
    )


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


def test_a_step_shows_the_same_digits_and_motions_in_any_number_of_frames(mnist):
    batches = {frames: training.clips(None, stage(frames), 1, torch.device("cpu")) for frames in (8, 16, 32)}
    short, usual, long = (batch_at(0) for batch_at in batches.values())
    assert short["clips"].shape == (4, 1, 8, 64, 64)
    assert torch.equal(short["label"], usual["label"])
    assert torch.equal(long["label"], usual["label"])
    assert torch.equal(batches[16](0)["clips"], usual["clips"])
    assert not torch.equal(batches[16](1)["clips"], usual["clips"])


def test_more_frames_show_smaller_steps_of_one_video():
    digits = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    for name in ("zoom in", "clockwise", "left"):
        generator = torch.Generator().manual_seed(0)
        drawn = motion.draw(1, torch.zeros(1, dtype=torch.int64), generator=generator, motions=[name])
        usual = motion.render(digits, drawn)
        assert torch.equal(training.render(digits, drawn, 16), usual)
        # frame k of T stands in the middle of its part of the video: frames 3k + 1 of 48 are frames k of 16
        finer = training.render(digits, drawn, 48)[:, :, 1::3]
        assert (finer.int() - usual.int()).abs().max() <= 1
        assert not torch.equal(training.render(digits, drawn, 8), usual[:, :, ::2])


def test_labels_are_those_of_what_was_drawn():
    drawn = motion.draw(
        50, torch.arange(10), generator=torch.Generator().manual_seed(0), motions=("up", "clockwise", "left")
    )
    names = [motion.MOTIONS[label] for label in training.labels(drawn)]
    assert [name == "clockwise" for name in names] == (drawn.rotation > 0).tolist()
    assert [name == "left" for name in names] == (drawn.translation[:, 0] < 0).tolist()


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
    logits = network.eval()(training.as_input(batch["clips"]))
    assert logits.shape == (2, 9)
    loss, terms = training.loss(network, batch, one)
    assert loss.item() == pytest.approx(-logits.log_softmax(1)[[0, 1], batch["label"]].mean().item(), rel=1e-4)
    assert terms["accuracy"] == (logits.argmax(1) == batch["label"]).float().mean()
