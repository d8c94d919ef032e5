"""Motion of images that go on beyond the border, planted by scipy, comes back without bias from their windows."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from explain.temporal import fitting
from explain.temporal.fitting import fit

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))  # where the same filters are measured at length
import planted_motion

FILTERS, UNRELATED = 24, 200


def errors(found, planted, k):
    """Medians over identified filters of the errors of scale, rotation (degrees) and shift (pixels)."""
    known = found.identified[0].numpy()
    assert known.mean() > 0.7
    half = (k - 1) / 2
    scale, turn, x, y = (
        getattr(found, name)[0].numpy() for name in ("scale", "rotation", "translate_x", "translate_y")
    )
    wrong = (
        abs(1 / scale - planted.scale),
        abs(-np.degrees(turn) - planted.rotation),
        np.hypot(-half * x - planted.right, -half * y - planted.down),
    )
    return [float(np.median(one[known])) for one in wrong]


def drawn(kind, k, channels, **options):
    draw = np.random.default_rng([k, planted_motion.KINDS.index(kind)])
    planted = planted_motion.motions(kind, FILTERS, draw)
    return planted, planted_motion.windows(planted, channels, k, draw, **options)


@pytest.mark.parametrize("order", [1, 3], ids=["bilinear", "cubic"])
@pytest.mark.parametrize("kind", planted_motion.KINDS)
@pytest.mark.parametrize(
    ("k", "most"), [(5, (0.015, 0.5, 0.03)), (7, (0.01, 0.3, 0.02)), (9, (0.01, 0.3, 0.02))], ids=["5", "7", "9"]
)
def test_motion_is_found_without_bias(k, most, kind, order):
    planted, slices = drawn(kind, k, 8, order=order)
    assert np.less(errors(fit(slices), planted, k), most).all()


@pytest.mark.parametrize("kind", planted_motion.KINDS)
@pytest.mark.parametrize(("k", "most"), [(5, (0.03, 1.2, 0.06)), (7, (0.015, 0.6, 0.03))], ids=["5", "7"])
def test_noise_adds_no_bias(k, most, kind):
    planted, slices = drawn(kind, k, 8, noise=0.1)
    assert np.less(errors(fit(slices), planted, k), most).all()


@pytest.mark.parametrize("order", [1, 3], ids=["bilinear", "cubic"])
@pytest.mark.parametrize("kind", ["shift", "turn", "grow"])
def test_narrow_kernels_of_many_channels_shift_turn_and_grow(kind, order):
    planted, slices = drawn(kind, 3, 16, order=order)
    assert np.less(errors(fit(slices), planted, 3), (0.05, 1, 0.05)).all()


@pytest.mark.parametrize("order", [1, 3], ids=["bilinear", "cubic"])
def test_narrow_kernels_cannot_tell_that_something_shrinks(order):
    """All pixels but one read from outside."""
    _, slices = drawn("shrink", 3, 16, order=order)
    assert not fit(slices).identified.any()


def test_a_motion_is_identified_only_if_it_reads_three_pixels_of_nine_from_inside():
    """Noise lets a pattern that shrinks seem to have moved by something else."""
    _, slices = drawn("shrink", 3, 16, noise=0.1)
    found = fit(slices)
    at = torch.arange(3).double() - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    turn, scale, right, down = (
        getattr(found, name)[0].reshape(-1, 1, 1) for name in ("rotation", "scale", "translate_x", "translate_y")
    )
    column = scale * (turn.cos() * (x + right) - turn.sin() * (y + down))
    row = scale * (turn.sin() * (x + right) + turn.cos() * (y + down))
    inside = ((column.abs() < 1.02) & (row.abs() < 1.02)).sum(dim=(1, 2))
    assert (inside < 3).any()
    assert not found.identified[0, inside < 3].any()


@pytest.mark.parametrize("smooth", [False, True], ids=["white", "smooth"])
@pytest.mark.parametrize(("k", "channels", "most"), [(3, 1, 0.03), (5, 1, 0.02), (7, 1, 0.01), (3, 4, 0), (5, 4, 0)])
def test_unrelated_slices_hardly_ever_move(k, channels, most, smooth):
    draw = np.random.default_rng([k, channels])
    found = fit(planted_motion.unrelated(UNRELATED, channels, k, draw, smooth=smooth))
    assert found.identified.double().mean() <= most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [3, 5])
def test_padding_is_told_from_content_by_the_numbers(k, dtype):
    draw = np.random.default_rng(k)
    planted = planted_motion.motions("mixed", FILTERS, draw)
    slices = planted_motion.images(FILTERS, 16, k, draw)[..., 9 : 9 + k, 9 : 9 + k]
    padded = fit(planted_motion.padded(planted, torch.from_numpy(slices)).to(dtype))
    assert padded.padded.all()
    assert max(errors(padded, planted, k)) < (2e-5 if dtype == torch.float32 else 0.1)
    assert not fit(planted_motion.windows(planted, 16, k, draw)).padded.any()


def test_a_fit_that_ends_where_too_little_is_compared_is_not_identified(monkeypatch):
    planted, slices = drawn("shrink", 5, 8)
    assert fit(slices).identified.all()
    monkeypatch.setattr(fitting, "LEAST_COVERED", 0.6)
    assert not fit(slices).identified.any()
    assert planted.scale.max() < 1
