"""Receptive fields of torchvision's own networks: theoretical as published, and gradients never outside of them."""

from __future__ import annotations

import pytest
import torch

import zoo
from explain.fields.effective import effective_fields
from explain.fields.theoretical import trace


def by_windows(layers):
    """Field and jump behind layers, each (window, stride), along one axis (Araujo et al., Distill 2019)."""
    field, jump = 1, 1
    for window, stride in layers:
        field, jump = field + (window - 1) * jump, jump * stride
    return field, jump


def test_r3d_18_sees_what_its_windows_say():
    model = zoo.load("r3d_18", weights=None)
    traced = trace(model, (1, 3, 8, 16, 16), blocks=True)
    rows = {row.layer: row for row in traced.rows}
    fields = {name: rows[name].field for name in ("stem", "layer1", "layer2", "layer3")}
    assert fields == {"stem": (3, 7, 7), "layer1": (11, 23, 23), "layer2": (25, 51, 51), "layer3": (53, 107, 107)}
    stages = [[(3, 1)] * 4, *([(3, 2), *[(3, 1)] * 3] for _ in range(3))]
    time, space = [(3, 1)], [(7, 2)]
    for at, stage in enumerate(stages, start=1):
        time, space = time + stage, space + stage
        row = rows[f"layer{at}"]
        assert (row.field[0], row.stride[0]) == by_windows(time)
        assert (row.field[1], row.stride[1]) == by_windows(space)


def test_googlenet_sees_as_far_as_its_widest_branch():
    model = zoo.load("googlenet", weights=None)
    rows = {row.layer: row for row in trace(model, (1, 3, 224, 224), blocks=True).rows}
    stem = [(7, 2), (3, 2), (1, 1), (3, 1), (3, 2)]
    assert rows["maxpool2"].field[1:] == (by_windows(stem)[0],) * 2
    # torchvision's 5 x 5 branches are 3 x 3: the widest are 3 x 3 poolings, or convolutions, between 1 x 1.
    assert rows["inception3a"].field[1] == by_windows([*stem, (3, 1)])[0]
    assert rows["inception3b"].field[1] == by_windows([*stem, (3, 1), (3, 1)])[0]
    third = [*stem, (3, 1), (3, 1), (3, 2)]
    assert rows["maxpool3"].field[1] == by_windows(third)[0]
    assert (rows["inception4e"].field[1], rows["inception4e"].stride[1]) == by_windows([*third, *[(3, 1)] * 5])


@pytest.mark.parametrize(
    ("name", "shape", "layers"),
    [
        ("r3d_18", (1, 3, 8, 32, 32), ["stem.0", "layer2.0.conv1.0", "layer2"]),
        ("googlenet", (1, 3, 128, 128), ["maxpool1", "inception3b.branch4.1.conv", "inception4a"]),
        ("squeezenet1_1", (1, 3, 127, 127), ["features.5", "features.9.expand3x3"]),
        ("mobilenet_v3_large", (1, 3, 96, 96), ["features.3.block.1.0", "features.4.block.0.0"]),
    ],
)
def test_gradients_stay_within_theoretical_boxes(name, shape, layers):
    model = zoo.load(name, weights=None)
    batch = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    traced = trace(model, shape, blocks=True)
    rows = {row.layer: row for row in traced.rows}
    for found in effective_fields(model, layers, batch, draws=1, share=1.0, traced=traced):
        box = traced.box(rows[found.layer], found.position)
        assert all(low <= first <= last <= high for (low, high), (first, last) in zip(box, found.box, strict=True))
        # They fill it but for what poolings and ReLUs happen to leave out.
        assert all(
            last - first + 1 >= 0.7 * (high - low + 1)
            for (low, high), (first, last) in zip(box, found.box, strict=True)
        )
