import cmath
import itertools
import math
import re

import pytest
import torch

from zoo.errors import ClipError, UsageError
from zoo_stft.layer import FREQUENCIES, ShortTimeFourier3d, kernel

#: Figure 3, as printed, in units of k.
FIGURE_3 = [
    [1, 0, 0],
    [1, 0, 1],
    [1, 0, -1],
    [0, 1, 0],
    [0, 1, 1],
    [0, 1, -1],
    [1, 1, 0],
    [1, 1, 1],
    [1, 1, -1],
    [1, -1, 0],
    [1, -1, 1],
    [1, -1, -1],
    [0, 0, 1],
]
AXES = ["thw", "hw", "t"]
COUNTS = {"thw": 26, "hw": 8, "t": 2}


def term_by_term(clip, frequencies, n, reach):
    """Equation 2 at every position of a clip T x H x W, as complex numbers in plain Python; outside it is 0."""
    found = torch.zeros(2 * len(frequencies), *clip.shape, dtype=torch.float64)
    values = clip.tolist()
    for x in itertools.product(*map(range, clip.shape)):
        for number, steps in enumerate(frequencies):
            total = 0j
            for y in itertools.product(*(range(a - r, a + r + 1) for a, r in zip(x, reach, strict=True))):
                if all(0 <= b < extent for b, extent in zip(y, clip.shape, strict=True)):
                    turn = sum(step / n * (a - b) for step, a, b in zip(steps, x, y, strict=True))
                    total += values[y[0]][y[1]][y[2]] * cmath.exp(-2j * math.pi * turn)
            found[(2 * number, *x)], found[(2 * number + 1, *x)] = total.real, total.imag
    return found


@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("axes", AXES)
def test_the_layer_is_equation_2_term_by_term(axes, n):
    torch.manual_seed(0)
    clips = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64)
    reach = [n // 2 if axis in axes else 0 for axis in "thw"]
    frequencies = FIGURE_3 if axes == "thw" else FREQUENCIES[axes]
    layer = ShortTimeFourier3d(2, axes, n).double()
    expected = torch.cat([term_by_term(channel, frequencies, n, reach) for channel in clips[0]])
    torch.testing.assert_close(layer(clips)[0], expected, rtol=0, atol=1e-12)


def test_strides_leave_positions_out():
    torch.manual_seed(0)
    clip = torch.randn(2, 3, 7, 6, 5, dtype=torch.float64)
    dense = ShortTimeFourier3d(3).double()(clip)
    strided = ShortTimeFourier3d(3, stride=(2, 1, 3)).double()(clip)
    torch.testing.assert_close(strided, dense[:, :, ::2, :, ::3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [3, 5, 7])
@pytest.mark.parametrize("axes", AXES)
def test_filters_are_independent_and_see_no_constant(axes, n):
    filters = kernel(axes, n).flatten(1)
    assert filters.shape == (COUNTS[axes], n ** len(axes))
    assert torch.linalg.matrix_rank(filters) == COUNTS[axes]
    assert filters.sum(1).abs().max() < 1e-12
    constant = torch.ones(1, 1, 3 * n, 3 * n, 3 * n, dtype=torch.float64)
    inside = ShortTimeFourier3d(1, axes, n).double()(constant)[..., n:-n, n:-n, n:-n]
    assert inside.abs().max() < 1e-12


@pytest.mark.parametrize("axes", AXES)
def test_at_3_the_filters_span_all_kernels_of_mean_zero(axes):
    filters = kernel(axes, 3).flatten(1)
    assert len(filters) == filters.shape[1] - 1


@pytest.mark.parametrize(("axes", "count"), [("thw", 13), ("hw", 4), ("t", 1)])
def test_frequencies_are_the_lowest_without_conjugates(axes, count):
    found = FREQUENCIES[axes]
    assert len(found) == count
    both = {*found, *(tuple(-step for step in one) for one in found)}
    free = [(-1, 0, 1) if axis in axes else (0,) for axis in "thw"]
    assert both == set(itertools.product(*free)) - {(0, 0, 0)}
    assert [list(one) for one in FREQUENCIES["thw"]] == FIGURE_3


def test_over_time_the_filters_are_a_second_and_a_first_difference():
    real, imaginary = kernel("t").flatten(1)
    torch.testing.assert_close(real, torch.tensor([-0.5, 1, -0.5], dtype=torch.float64))
    torch.testing.assert_close(imaginary, torch.tensor([-1.0, 0, 1], dtype=torch.float64) * math.sqrt(0.75))


def test_no_dtype_rounds_the_filters_of_another():
    layer = ShortTimeFourier3d(1).half().float().double()
    assert torch.equal(layer.weight[:, 0], kernel())
    with torch.device("meta"):
        layer = ShortTimeFourier3d(1)
    assert torch.equal(layer.to_empty(device="cpu").weight[:, 0], kernel().float())
    assert torch.equal(layer.double().weight[:, 0], kernel())


def test_the_layer_has_no_parameters_and_no_state():
    layer = ShortTimeFourier3d(4)
    assert not list(layer.parameters())
    assert not layer.state_dict()


@pytest.mark.parametrize("size", [2, 4, 1, 0, -3, 3.0, True])
@pytest.mark.parametrize("made", [kernel, lambda axes, size: ShortTimeFourier3d(1, axes, size)])
def test_a_window_is_odd_and_at_least_3(made, size):
    with pytest.raises(UsageError, match="expected an odd whole number of at least 3"):
        made("thw", size)


def test_other_nonsense_is_named():
    with pytest.raises(UsageError, match="'tw': expected one of 'thw', 'hw', 't'"):
        kernel("tw")
    for arguments in (
        {"channels": 0},
        {"channels": 2.0},
        {"channels": 1, "stride": 0},
        {"channels": 1, "stride": (1, 2)},
    ):
        with pytest.raises(UsageError, match="expected positive whole numbers"):
            ShortTimeFourier3d(**arguments)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5, 5), (2, 4, 5, 5)])
def test_inputs_of_other_channels_or_axes_are_named(shape):
    with pytest.raises(ClipError, match=re.escape(f"given {shape}; expected N x 2 x T x H x W")):
        ShortTimeFourier3d(2)(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 2, 8), (8, 8, 2), (0, 8, 8)])
def test_a_clip_that_does_not_outlast_the_stride_is_named(shape):
    layer = ShortTimeFourier3d(1, stride=(2, 3, 3))
    with pytest.raises(ClipError, match="do not outlast the stride of this layer; expected at least 2 frames of 3 x 3"):
        layer(torch.zeros(1, 1, *shape))
    assert layer(torch.zeros(1, 1, 2, 3, 3)).shape == (1, 26, 1, 1, 1)
