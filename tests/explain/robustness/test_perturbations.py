import math

import pytest
import torch

from explain.robustness.perturbations import BUILT_IN, check_fill, fill_values, find
from zoo.errors import UnknownNameError, UsageError

BY_NAME = {one.name: one for one in BUILT_IN}
EXTENT = (8, 20, 12)


def clip(channels=3, extent=EXTENT, dtype=torch.float32):
    return torch.rand((channels, *extent), generator=torch.Generator().manual_seed(0), dtype=dtype)


def perturbed(name, level, x=None, sample=0, draw=0, fill=0.5):
    one, x = BY_NAME[name], clip() if x is None else x
    return one.apply(x, level, one.generator(0, level, sample, draw), fill_values(fill, x))


@pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_comes_out_is_a_changed_clip_within_the_range(one, dtype):
    x = clip(dtype=dtype)
    before = x.clone()
    levels = one.levels(5, EXTENT)
    assert len(levels) == (4 if one.name == "lower_frame_rate" else 5)
    assert list(levels) == sorted(set(levels))
    assert levels == one.checked(levels, EXTENT)
    for level in levels:
        y = perturbed(one.name, level, x)
        assert (y.shape, y.dtype) == (x.shape, dtype)
        assert y.min() >= 0
        assert y.max() <= 1
        assert not torch.equal(y, x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
def test_each_level_sample_and_draw_has_numbers_of_its_own(one):
    level = one.levels(3, EXTENT)[1]
    first = perturbed(one.name, level)
    assert torch.equal(first, perturbed(one.name, level))
    for other in ({"sample": 1}, {"draw": 1}):
        assert torch.equal(first, perturbed(one.name, level, **other)) != one.drawn


def test_gaussian_noise_has_the_deviation_of_its_level():
    grey = torch.full((1, 10, 100, 100), 0.5)
    noise = perturbed("gaussian_noise", 0.1, grey) - grey
    assert float(noise.std()) == pytest.approx(0.1, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize("level", [1e-7, 1e-25, 1e-200])
def test_more_photons_than_can_be_counted_leave_the_clip_as_it_is(level):
    assert torch.allclose(perturbed("poisson_noise", level), clip(), atol=1e-5)


@pytest.mark.parametrize("brightness", [0.1, 0.4])
def test_poisson_noise_counts_photons(brightness):
    """Variance x / k of a brightness x that k photons make white; black stays black."""
    x = torch.full((1, 10, 100, 100), brightness)
    counted = perturbed("poisson_noise", 0.1, x)
    assert float(counted.mean()) == pytest.approx(brightness, rel=0.01)
    assert float(counted.var()) == pytest.approx(brightness * 0.1**2, rel=0.03)
    assert torch.allclose(counted * 100, (counted * 100).round(), atol=1e-4)  # whole photons
    assert not perturbed("poisson_noise", 0.5, torch.zeros(1, 4, 9, 9)).any()


def test_salt_and_pepper_take_their_share_of_pixels_in_all_channels():
    x = torch.full((3, 10, 100, 100), 0.5)
    y = perturbed("salt_and_pepper", 0.3, x)
    assert torch.equal(y, y[:1].expand_as(y))
    assert float((y == 0).double().mean()) == pytest.approx(0.15, abs=0.005)
    assert float((y == 1).double().mean()) == pytest.approx(0.15, abs=0.005)


def test_a_blur_is_a_gaussian_in_each_frame():
    x = torch.zeros(1, 2, 41, 41, dtype=torch.float64)
    x[0, 1, 20, 20] = 1
    y = perturbed("blur", 2.0, x)[0]
    assert not y[0].any()
    assert float(y[1].sum()) == pytest.approx(1)
    places = torch.arange(41, dtype=torch.float64) - 20
    assert float((y[1].sum(dim=0) * places.square()).sum()) == pytest.approx(4.0, rel=0.03)


@pytest.mark.parametrize("size", [(9, 9), (5, 12)])
def test_a_missing_square_grows_pixel_by_pixel_around_one_place(size):
    x = torch.zeros(2, 3, *size)
    for sample in range(8):
        before = torch.zeros(size, dtype=torch.bool)
        for side in range(1, max(size) + 1):
            gone = perturbed("missing_square", side, x, sample=sample, fill=1.0) == 1
            assert torch.equal(gone, gone[:1, :1].expand_as(gone))  # the same in all frames and channels
            inside = gone[0, 0]
            assert int(inside.sum()) == math.prod(min(side, length) for length in size)
            assert bool((inside | ~before).all())
            before = inside


def frames_of(name, level, count=8, sample=0):
    x = (torch.arange(count) / count).view(1, -1, 1, 1).expand(1, count, 2, 2)
    shown = perturbed(name, level, x, sample=sample, fill=1.0)[0, :, 0, 0] * count
    return shown.round().int().tolist()


def test_missing_and_dropped_frames_are_as_many_as_said_and_grow():
    for sample in range(5):
        gone, dropped = set(), set()
        for level in range(1, 8):
            shown = frames_of("missing_frames", level, sample=sample)
            now = {at for at, frame in enumerate(shown) if frame == 8}
            assert len(now) == level
            assert gone < now
            gone = now
            assert [frame for frame in shown if frame < 8] == [at for at in range(8) if at not in now]
            shown = frames_of("dropped_frames", level, sample=sample)
            now = {at for at, frame in enumerate(shown) if frame != at}
            assert len(now) == level
            assert dropped < now
            dropped = now
            assert shown[0] == 0
            assert all(
                frame == max(at for at in range(place + 1) if at not in now) for place, frame in enumerate(shown)
            )


def test_shuffled_frames_all_leave_their_places_and_the_others_stay():
    for sample in range(5):
        for moved in range(2, 9):
            shown = frames_of("shuffled_frames", moved / 8, sample=sample)
            assert sorted(shown) == list(range(8))
            assert sum(frame != at for at, frame in enumerate(shown)) == moved


def test_a_lower_frame_rate_holds_each_kept_frame():
    assert frames_of("lower_frame_rate", 3) == [0, 0, 0, 3, 3, 3, 6, 6]


def test_a_hundred_levels_are_possible_and_no_more_than_there_are():
    assert len(BY_NAME["gaussian_noise"].levels(100, EXTENT)) == 100
    assert BY_NAME["missing_square"].levels(100, EXTENT) == tuple(range(1, 21))
    assert BY_NAME["missing_square"].levels(3, EXTENT) == (7, 13, 20)
    assert BY_NAME["dropped_frames"].levels(100, EXTENT) == tuple(range(1, 8))
    assert BY_NAME["lower_frame_rate"].levels(3, EXTENT) == (2, 4, 8)
    assert [one.name for one in BUILT_IN if not one.levels(8, (1, 20, 12))] == [
        one.name for one in BUILT_IN if one.over_time
    ]


@pytest.mark.parametrize(
    ("name", "levels", "said"),
    [
        ("gaussian_noise", [0.0], "no level 0"),
        ("salt_and_pepper", [0.2, 1.5], "at most 1"),
        ("missing_square", [2.5], "whole number"),
        ("lower_frame_rate", [1], "above 1"),
        ("blur", [], "no level"),
        ("gaussian_noise", [math.nan], "no level nan"),
        ("poisson_noise", [math.inf], "no level inf"),
    ],
)
def test_levels_that_cannot_be_are_refused(name, levels, said):
    with pytest.raises(UsageError, match=said):
        BY_NAME[name].checked(levels, EXTENT)


def test_fills_have_names_or_are_numbers():
    x = clip()
    assert fill_values("grey", x).tolist() == [0.5] * 3
    assert torch.allclose(fill_values("mean", x), x.mean(dim=(1, 2, 3)))
    assert check_fill("0.25") == 0.25
    with pytest.raises(UnknownNameError, match="'grey'"):
        check_fill("gray")
    with pytest.raises(UsageError, match="outside"):
        check_fill(1.5)


def test_near_names_are_offered():
    with pytest.raises(UnknownNameError, match="gaussian_noise"):
        find(["gausian_noise"])
    assert [one.name for one in find(["blur", "gaussian_noise"])] == ["gaussian_noise", "blur"]
