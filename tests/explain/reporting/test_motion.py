"""Drawings of motion: what stands on the axes, shared axes, the same bytes each time, files that open anywhere."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from explain.drawing import figures, motion
from explain.drawing import kernels as slices
from explain.drawing.motion import drawings
from explain.temporal.motions import most_moving
from explain.temporal.parameters import LayerParameters, TemporalParameters


def parameters(spread, *, filters=200, steps=2, k=3, told=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(steps, filters, generator=generator, dtype=torch.float64) * spread for _ in range(4)]
    layer = LayerParameters(
        name="stem",
        kind="3tconv",
        kernel_size=(steps + 1, k, k),
        scale=1 + drawn[0],
        rotation=drawn[1],
        translate_x=drawn[2],
        translate_y=drawn[3],
        identified=torch.full((steps, filters), told),
    )
    return TemporalParameters(layers={"stem": layer})


def filter_of(*, x=0.5, y=0.25, rotation=0.1, scale=0.9):
    values = [torch.tensor([[value], [value]], dtype=torch.float64) for value in (scale, rotation, x, y)]
    names = ("scale", "rotation", "translate_x", "translate_y")
    layer = LayerParameters(
        name="stem",
        kind="3tconv",
        kernel_size=(3, 3, 3),
        identified=torch.ones(2, 1, dtype=torch.bool),
        **dict(zip(names, values, strict=True)),
    )
    return most_moving([layer], 1)[0]


@pytest.fixture
def axes():
    with figures.style():
        yield figures.figure(900, 300).subplots(1, 3)


def test_curves_hold_what_the_pattern_does_over_a_line_of_standing_still(axes):
    motion.paint_curves(axes, filter_of())
    size, turn, shift = axes
    assert size.lines[0].get_ydata() == pytest.approx([1 / 0.9] * 2)
    assert turn.lines[0].get_ydata() == pytest.approx([-math.degrees(0.1)] * 2)
    assert [line.get_ydata()[0] for line in shift.lines[:2]] == pytest.approx([-0.5, -0.25])
    assert [line.get_label() for line in shift.lines[:2]] == ["right", "down"]
    assert [part.lines[-1].get_ydata()[0] for part in axes] == [1, 0, 0]


def test_next_to_nothing_looks_like_nothing(axes):
    motion.paint_curves(axes, filter_of(x=1e-4, y=0, rotation=1e-4, scale=1.0001))
    motion.paint_trajectory(figures.figure(100, 100).subplots(), filter_of(x=1e-4, y=0, rotation=0, scale=1))
    for part, still, least in zip(axes, (1, 0, 0), (0.05, 2, 0.25), strict=True):
        low, high = part.get_ylim()
        assert (still - low, high - still) == pytest.approx((1.1 * least, 1.1 * least), rel=1e-3)


def test_the_way_begins_blue_ends_red_and_goes_down_the_page():
    with figures.style():
        axes = figures.figure(100, 100).subplots()
        one = filter_of(x=0.5, y=-0.5, rotation=0, scale=1)
        motion.paint_trajectory(axes, one)
        marked = {line.get_label(): line for line in axes.lines}
        assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in (marked["start"], marked["end"])] == [
            (0, 0),
            (-1, 1),
        ]
        low, high = axes.get_ylim()
        assert low > 1 > -1 > high  # a larger "down" is lower
        assert axes.get_xlim() == (high, low)
    drawn = motion.trajectory(one, "way")
    assert "fill: var(--series-1)" in drawn  # blue, in both schemes
    assert "fill: var(--series-8)" in drawn  # red
    assert (
        'aria-label="Way of the pattern of channel 0 of stem: from the centre to -1 pixels right and 1 pixels' in drawn
    )


def test_curves_are_told_to_those_who_cannot_see_them():
    assert "step 2: size 1.11, -5.7 degrees clockwise, -0.5 pixels right, -0.25 down" in motion.curves(filter_of(), "c")


def test_distributions_of_several_models_share_their_axes_and_hold_every_value(axes):
    wide, narrow = motion.spreads(parameters(0.3)), motion.spreads(parameters(0.01))
    shared = motion.limits([wide, narrow])
    seen = []
    for values in (wide, narrow):
        row = figures.figure(900, 300).subplots(1, 3)
        for part, paint in zip(row, motion.PAINTERS.values(), strict=True):
            paint(part, values, shared)
        seen.append([(part.get_xlim(), part.get_ylim()) for part in row])
        for part in row[:2]:
            bottom = part.get_ylim()[0]
            assert sum(bar.get_height() + bottom for bar in part.patches) == pytest.approx(1)
    assert seen[0] == seen[1]
    assert shared.shift >= np.quantile(np.abs(wide.right), 0.99)


def test_values_beyond_an_axis_are_in_its_last_bar_and_identity_in_the_middle_one(axes):
    size = np.concatenate([np.full(96, 1.0), np.full(4, 9.0)])
    still = np.zeros(100)
    values = motion.Spreads(size=size, rotation=still, right=still, down=still)
    shared = motion.Limits(size=0.5, rotation=2, shift=0.25, least=0.01)
    motion.PAINTERS["size"](axes[0], values, shared)
    bars = {round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height() + bar.get_y() for bar in axes[0].patches}
    assert bars == pytest.approx({0.0: 0.96, 0.488: 0.04})


def test_shifts_lie_in_cells_of_their_share(axes):
    """Nine of ten stand still, one in ten moves right and down: full colour in the middle, less beside it."""
    right = np.array([0.0] * 900 + [0.24] * 95 + [-0.24] * 5)
    values = motion.Spreads(size=right + 1, rotation=right, right=right, down=right)
    motion.PAINTERS["shift"](axes[2], values, motion.Limits(size=1, rotation=1, shift=0.25, least=0.001))
    cells = {patch.get_label(): patch.get_path().get_extents() for patch in axes[2].patches}
    opacity = {patch.get_label(): patch.get_alpha() for patch in axes[2].patches}
    assert cells["over 10 %"].contains(0, 0)
    assert cells["1 to 10 %"].contains(0.24, 0.24)
    assert cells["0.1 to 1 %"].contains(-0.24, -0.24)
    assert opacity["under 0.1 %"] < opacity["0.1 to 1 %"] < opacity["1 to 10 %"] < opacity["over 10 %"] == 1


def test_only_motions_that_can_be_told_count():
    found = parameters(0.1)
    found.layers["stem"].identified[1] = False
    told = motion.spreads(found)
    assert told.size == pytest.approx(1 / found.layers["stem"].scale[0].numpy())
    assert len(told.down) == 200


def test_a_slice_is_grey_where_its_weight_is_zero_and_each_filter_has_its_own_range():
    kernel = torch.zeros(2, 1, 2, 1, 2)
    kernel[0, 0, :, 0] = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    kernel[1, 0, 1, 0, 0] = 1e-3
    seen = slices.pictures(kernel)
    assert seen.shape == (2, 2, 1, 2, 1)
    assert seen[0, ..., 0].tolist() == [[[191, 0]], [[128, 128]]]
    assert seen[1, 1, 0, 0, 0] == 255


def test_three_channels_are_colours_and_of_others_the_strongest_is_seen():
    kernel = torch.zeros(1, 3, 1, 1, 1)
    kernel[0, 0] = 1.0
    assert slices.pictures(kernel)[0, 0, 0, 0].tolist() == [255, 128, 128]
    assert slices.pictures(kernel, blue_first=True)[0, 0, 0, 0].tolist() == [128, 128, 255]
    many = torch.zeros(1, 4, 1, 1, 2)
    many[0, 2] = torch.tensor([-3.0, 3.0])
    many[0, 1, 0, 0, 0] = 4.0
    assert slices.strongest_channel(many, 0) == 2
    assert slices.pictures(many)[0, 0, 0, :, 0].tolist() == [0, 255]


def test_the_strength_of_slices_is_that_of_their_weights():
    kernel = torch.zeros(2, 2, 3, 1, 2)
    kernel[0, 0, :, 0, 0], kernel[0, 1, :, 0, 1] = torch.tensor([3.0, 0.0, 6.0]), torch.tensor([4.0, 5.0, -8.0])
    assert slices.strengths(kernel, 0) == pytest.approx([1, 1, 2])
    assert slices.strengths(kernel, 1) == [0, 0, 0]


def test_an_animation_has_a_frame_for_each_slice_and_the_filters_in_their_order():
    kernel = torch.zeros(3, 1, 2, 1, 1)
    kernel[:, 0, :, 0, 0] = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    with Image.open(io.BytesIO(slices.animated(slices.pictures(kernel)))) as picture:
        assert picture.n_frames == 2
        assert picture.info["loop"] == 0
        first = np.asarray(picture.convert("L")).astype(int)
    cell = first.shape[0] // 5  # two filters, and three lines between and around them
    assert [
        first[int((1.5 + 2 * row) * cell), int((1.5 + 2 * column) * cell)] > 128 for row in (0, 1) for column in (0, 1)
    ][:3] == [True, False, True]


def test_files_are_drawn_of_every_model_and_the_same_each_time():
    models = {"a.one": parameters(0.1, filters=2), "../b": parameters(0.02, filters=1, seed=1)}
    kernels = {"a.one": {"stem": torch.rand(2, 1, 3, 3, 3)}}
    files = drawings(models, kernels)
    assert list(files) == ["distributions.svg", "a.one.filters.svg", "a.one.stem.webp", ".._b.filters.svg"]
    assert files == drawings(models, kernels)
    for name, content in files.items():
        if name.endswith(".svg"):
            root = ElementTree.fromstring(content)
            assert root.attrib["role"] == "img"
            assert "a.one" in root.attrib["aria-label"] or name.startswith(".._b")
            assert b"var(--" not in content
            assert b"prefers-color-scheme: dark" in content
    assert files["a.one.filters.svg"].count(b"<image") == 2
    assert b"<image" not in files[".._b.filters.svg"]


def test_the_drawing_says_how_many_motions_are_left_out():
    whole = parameters(0.1, filters=3)
    layer = whole.layers["stem"]
    known = layer.identified.clone()
    known[0, :2] = False
    partly = replace(whole, layers={"stem": replace(layer, identified=known)})
    assert b"4 of 6 steps of filters can be told" in drawings({"partly": partly})["distributions.svg"]


def test_a_model_whose_motion_cannot_be_told_is_not_drawn():
    models = {"told": parameters(0.1, filters=1), "untold": parameters(0.1, told=False)}
    files = drawings(models)
    assert list(files) == ["distributions.svg", "told.filters.svg"]
    assert b"untold" not in files["distributions.svg"]
    assert b"2 steps of filters<" in files["distributions.svg"]
    assert b"further out is in the outermost bars" in files["distributions.svg"]
    assert drawings({"untold": models["untold"]}) == {}
