"""Operations are counted as papers do, times two, and no value is computed for it."""

from __future__ import annotations

import dataclasses

import pytest

import zoo
from zoo.errors import ModelError
from zoo.models import flops
from zoo.registry import catalog


def test_operations_of_a_convolution_and_a_linear_layer_are_counted_by_hand(installed, tiny, monkeypatch):
    installed.add("plain", tiny)
    installed.use(monkeypatch)
    positions, kernel = 4 * 8 * 8, 27
    assert flops.flops(zoo.info("tiny")) == 2 * (2 * positions * kernel + 2 * 3)


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet18", 1.814e9), ("r3d_18", 40.697e9), ("squeezenet1_1", 0.349e9), ("mc3_18", 43.343e9)],
)
def test_operations_are_twice_the_multiply_adds_that_torchvision_publishes(name, published):
    assert zoo.info(name).flops == pytest.approx(2 * published, rel=2e-3)


@pytest.mark.parametrize(
    "name", ["conv3d", "convlstm", "2d_resnet18_w16", "3t_resnet18_w16", "3d_googlenet_w16", "r3d_18"]
)
def test_entries_say_what_is_counted(name):
    (listing,) = (one for one in catalog.listings() if one.entry.name == name)
    assert listing.entry.flops == flops.flops(listing.entry)


def test_every_first_party_entry_says_its_operations():
    assert all(listing.entry.flops for listing in catalog.listings())


def test_weights_with_arguments_of_their_own_are_not_counted_as_the_architecture():
    assert zoo.info("3t_resnet18_w16").flops
    assert zoo.info("3t_resnet18_w16.static").flops is None


def test_a_network_that_needs_values_cannot_be_counted(installed, tiny, monkeypatch):
    code = tiny.replace(
        "if not meta:", "if True:\n            model[2].forward = lambda x: x if x.sum() > 0 else -x\n        if 0:"
    )
    installed.add("asking", code)
    installed.use(monkeypatch)
    with pytest.raises(ModelError, match="cannot be followed through the model"):
        flops.flops(dataclasses.replace(zoo.info("tiny")))
