"""Motions of filters in pixels and words, against pictures that a filter's own resampling moves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from explain.temporal.motions import direction, displacements, most_moving, motion
from explain.temporal.parameters import LayerParameters


def layer(scale, rotation, x, y, *, k=3, name="layer", told=None):
    """A layer of the filters whose parameters are given, each steps x filters."""
    tensors = [torch.tensor(values, dtype=torch.float64) for values in (scale, rotation, x, y)]
    identified = torch.ones(tensors[0].shape, dtype=torch.bool) if told is None else torch.tensor(told)
    names = ("scale", "rotation", "translate_x", "translate_y")
    return LayerParameters(
        name=name,
        kind="3tconv",
        kernel_size=(len(scale) + 1, k, k),
        identified=identified,
        **dict(zip(names, tensors, strict=True)),
    )


def one(scale=1.0, rotation=0.0, x=0.0, y=0.0, steps=2, k=3):
    return motion(layer(*([[value]] * steps for value in (scale, rotation, x, y)), k=k), 0)


def test_a_blob_in_the_centre_goes_where_the_positions_say():
    """Slice after slice as the layer makes them: the blob's centre of mass, in pixels to the right and down."""
    scale, rotation, x, y = [1.1, 0.9, 0.95], [0.4, -0.2, 0.5], [-0.2, 0.1, -0.1], [0.15, -0.25, 0.1]
    k = 61
    told = motion(layer(*([[value] for value in values] for values in (scale, rotation, x, y)), k=k), 0)
    at = torch.arange(k, dtype=torch.float64) - (k - 1) / 2
    slice_ = torch.exp(-(at[:, None].square() + at.square()) / 18).view(1, 1, k, k)
    for step, (s, r, tx, ty) in enumerate(zip(scale, rotation, x, y, strict=True), start=1):
        turned = s * torch.tensor([[math.cos(r), -math.sin(r)], [math.sin(r), math.cos(r)]], dtype=torch.float64)
        theta = torch.cat([turned, turned @ torch.tensor([[tx], [ty]], dtype=torch.float64)], dim=1)
        grid = F.affine_grid(theta[None], [1, 1, k, k], align_corners=True)
        slice_ = F.grid_sample(slice_, grid, align_corners=True)
        mass = slice_[0, 0] / slice_.sum()
        right, down = float((mass.sum(dim=0) * at).sum()), float((mass.sum(dim=1) * at).sum())
        assert (right, down) == pytest.approx(told.positions[step], abs=0.02)
    assert math.hypot(*told.positions[-1]) > 5


def test_the_displacement_is_the_root_mean_square_over_the_kernels_square():
    """Two Gauss points along each axis integrate the square of an affine map exactly."""
    scale, rotation, x, y = [[0.8], [1.1]], [[0.3], [0.2]], [[0.1], [-0.2]], [[0.05], [0.3]]
    k = 7
    told = layer(scale, rotation, x, y, k=k)
    half = (k - 1) / 2
    points = half / math.sqrt(3) * torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    moved = points
    for step in range(2):
        s, r = scale[step][0], rotation[step][0]
        inverse = torch.tensor([[math.cos(r), math.sin(r)], [-math.sin(r), math.cos(r)]], dtype=torch.float64) / s
        moved = moved @ inverse.T - half * torch.tensor([x[step][0], y[step][0]], dtype=torch.float64)
    expected = (moved - points).square().sum(dim=1).mean().sqrt() / 2
    assert float(displacements(told)[0]) == pytest.approx(float(expected), rel=1e-12)


def test_what_stands_still_has_no_displacement():
    still = layer([[1.0]], [[0.0]], [[0.0]], [[0.0]])
    assert float(displacements(still)[0]) == 0
    assert most_moving([still], 1) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": -0.8}, "Follows a pattern that moves 0.8 pixels right per frame."),
        ({"x": 0.5, "k": 5}, "Follows a pattern that moves 1 pixel left per frame."),
        ({"y": 0.6}, "Follows a pattern that moves 0.6 pixels up per frame."),
        ({"x": 0.3, "y": -0.3, "steps": 1}, "Follows a pattern that moves 0.42 pixels down and left per frame."),
        ({"rotation": math.radians(5)}, "Follows a pattern that turns 5° counter-clockwise per frame."),
        ({"rotation": math.radians(-5)}, "Follows a pattern that turns 5° clockwise per frame."),
        ({"scale": 0.8}, "Follows a pattern that grows by 25 % per frame."),
        ({"scale": 1.25}, "Follows a pattern that shrinks by 20 % per frame."),
        (
            {"scale": 0.8, "rotation": -0.1, "x": -0.5, "steps": 1},
            "Follows a pattern that moves 0.5 pixels right, turns 5.7° clockwise and grows by 25 % per frame.",
        ),
        ({"x": 0.02, "rotation": 0.004}, "Follows a pattern that ends where, and as, it began."),
    ],
)
def test_what_a_pattern_does_is_said_in_words(given, said):
    assert one(**given).sentence("frame") == said


def test_directions_are_those_of_the_screen():
    found = [direction(math.cos(eighth * math.pi / 4), math.sin(eighth * math.pi / 4)) for eighth in range(8)]
    assert found == ["right", "down and right", "down", "down and left", "left", "up and left", "up", "up and right"]
    assert direction(1.0, -0.1) == direction(1.0, 0.1) == "right"


def test_the_way_back_is_no_way():
    told = motion(layer([[1.0], [1.0]], [[0.0], [0.0]], [[-0.5], [0.5]], [[0.0], [0.0]]), 0)
    assert told.positions == ((0, 0), (0.5, 0), (0, 0))
    assert told.displacement == 0
    assert told.sentence() == "Follows a pattern that ends where, and as, it began."


def test_those_that_move_most_come_first_and_only_where_all_their_motion_is_known():
    still = [[1.0] * 4] * 2
    zero = [[0.0] * 4] * 2
    moved = [[0.1, 0.9, 0.5, 0.3]] * 2
    first = layer(still, zero, moved, zero, name="a", told=[[True, True, True, True], [True, False, True, True]])
    second = layer([[1.0, -1.0]], [[0.0, 0.0]], [[0.4, 0.0]], [[0.0, 0.0]], name="b")
    found = most_moving([first, second], 3)
    assert [(one.layer, one.channel) for one in found] == [("a", 2), ("b", 0), ("a", 3)]
    assert [one.displacement for one in found] == pytest.approx([0.5, 0.4, 0.3])
    assert len(most_moving([first, second], 99)) == 4
