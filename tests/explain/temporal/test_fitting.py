"""Motion planted in slices comes back; what no motion explains is not said to move."""

import pytest
import torch
import torch.nn.functional as F

from explain.temporal import fitting
from explain.temporal.fitting import fit


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("k", "channels"), [(7, 1), (7, 20), (8, 2), (9, 1)])
def test_planted_motion_comes_back_from_wide_kernels(motion, k, channels, seed):
    draw = torch.Generator().manual_seed(seed)
    planted = motion.motions(12, draw)
    found = fit(motion.moved(motion.smooth(12, channels, k, draw), planted))
    assert found.identified.double().mean() > 0.9
    assert (motion.read(found) - planted)[:, found.identified].abs().max() < 1e-6  # asked for: 1e-2
    torch.testing.assert_close(found.r2[found.identified], torch.ones(int(found.identified.sum())).double())
    torch.testing.assert_close(found.gain[found.identified], torch.ones(int(found.identified.sum())).double())


def test_a_small_valley_beside_the_deepest_is_left(motion):
    draw = torch.Generator().manual_seed(7)
    planted = motion.motions(64, draw)
    slices = motion.moved(motion.smooth(64, 1, 7, draw), planted)[50:51, :, 1:]  # all starts lead to 0.11 off in scale
    assert (motion.read(fit(slices)) - planted[:, 1:, 50:51]).abs().max() < 1e-6


@pytest.mark.parametrize("k", [5, 3])
def test_planted_motion_comes_back_from_narrow_kernels_with_several_channels(motion, k):
    planted = motion.motions(32, motion.draw)
    found = fit(motion.moved(motion.smooth(32, 16, k, motion.draw), planted))
    assert found.identified.all()
    assert (motion.read(found) - planted).abs().max() < 1e-6


@pytest.mark.parametrize("which", range(4), ids=["scale", "rotation", "translate_x", "translate_y"])
def test_large_motions_of_one_kind_come_back_in_both_directions(motion, which):
    planted = torch.zeros(4, 1, 16, dtype=torch.float64)
    planted[0] = 1
    planted[which] += torch.linspace(-1, 1, 16).double() * (0.25, 0.7, 0.6, 0.6)[which]
    found = fit(motion.moved(motion.smooth(16, 8, 7, motion.draw), planted))
    assert (motion.read(found) - planted).abs().max() < 1e-6


@pytest.mark.parametrize(("which", "far", "bound"), [(1, 1.62, torch.pi / 2), (2, 1.05, 1), (3, -1.05, -1)])
def test_motions_larger_than_what_is_searched_are_not_identified_though_they_fit(motion, which, far, bound):
    planted = torch.zeros(4, 1, 8, dtype=torch.float64)
    planted[0], planted[which] = 1, far
    found = fit(motion.moved(motion.smooth(8, 8, 7, motion.draw), planted))
    torch.testing.assert_close(motion.read(found)[which], torch.full((1, 8), bound).double())
    assert found.r2.min() > 0.9
    assert not found.identified.any()


@pytest.mark.parametrize(("far", "found"), [(1 / 1.9, 1 / 1.9), (1 / 2.1, 1 / 2)], ids=["within", "beyond"])
def test_growth_beyond_what_is_searched_ends_at_the_bound_and_is_not_identified(motion, far, found):
    planted = torch.zeros(4, 1, 8, dtype=torch.float64)
    planted[0] = far
    fitted = fit(motion.moved(motion.smooth(8, 8, 7, motion.draw), planted))
    torch.testing.assert_close(fitted.scale, torch.full((1, 8), found).double())
    assert fitted.r2.min() > 0.9
    assert fitted.identified.tolist() == [[far == found] * 8]


def test_shrinking_ends_where_too_little_is_left_to_compare_and_is_not_identified(motion):
    planted = torch.zeros(4, 1, 8, dtype=torch.float64)
    planted[0] = 2.1
    assert not fit(motion.moved(motion.smooth(8, 8, 7, motion.draw), planted)).identified.any()


def test_errors_grow_with_noise_no_faster_than_the_table_says(motion):
    planted = motion.motions(24, motion.draw)
    slices = motion.moved(motion.smooth(24, 16, 7, motion.draw), planted)
    size = slices.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()
    noise = torch.randn(slices.shape, generator=motion.draw, dtype=torch.float64)
    errors = []
    for share in (0.05, 0.1, 0.2):
        found = fit(slices + share * size * noise)
        errors.append(float((motion.read(found) - planted).square().mean().sqrt()))
    assert errors[0] < errors[1] < errors[2] < 0.02
    assert errors[0] < 0.004


def test_a_change_of_contrast_is_no_motion(motion):
    planted = motion.motions(8, motion.draw, steps=1)
    slices = motion.moved(motion.smooth(8, 4, 7, motion.draw), planted)
    slices[:, :, 1] *= torch.linspace(0.2, 3, 8).reshape(8, 1, 1, 1).double()
    found = fit(slices)
    assert (motion.read(found) - planted).abs().max() < 1e-6
    torch.testing.assert_close(found.gain[0], torch.linspace(0.2, 3, 8).double())


def test_a_filter_that_repeats_its_slice_stands_still_and_both_shares_say_so(motion):
    slices = motion.smooth(8, 4, 5, motion.draw).unsqueeze(2).repeat(1, 1, 3, 1, 1)
    found = fit(slices)
    torch.testing.assert_close(found.r2_still, torch.ones(2, 8).double())
    assert found.identified.all()
    still = torch.tensor([1.0, 0, 0, 0]).double().reshape(4, 1, 1)
    assert (motion.read(found) - still).abs().max() < 1e-9


def test_the_share_of_the_unmoved_slice_is_the_squared_cosine_and_none_where_contrast_is_reversed():
    first = torch.tensor([[1.0, 2, 0], [0, 1, 0], [3, 0, 1]]).double()
    second = torch.tensor([[1.0, 1, 0], [0, 2, 0], [2, 0, 0]]).double()
    found = fit(torch.stack([torch.stack([first, second]), torch.stack([first, -second])]).unsqueeze(1))
    cosine = F.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    torch.testing.assert_close(found.r2_still[0], torch.stack([cosine**2, torch.zeros_like(cosine)]))
    assert (found.r2 >= found.r2_still).all()


def test_the_share_explained_is_that_of_the_definition_by_coverage_and_precision(motion):
    """R² = 1 - sum w p (b - g M a / c)² / sum w b², with c = M 1, w = c^8 and p = 2 / (1 + sum (M / c)²)."""
    slices = torch.randn(6, 3, 2, 5, 5, generator=motion.draw, dtype=torch.float64)
    found = fit(slices)
    pictures = torch.eye(25, dtype=torch.float64).reshape(1, 25, 5, 5)  # the columns of M are these, resampled
    for one, (before, after) in enumerate(slices.transpose(1, 2).flatten(3)):
        by = motion.moved(pictures, motion.read(found)[:, :, one : one + 1])[0, :, 1].flatten(1).T
        coverage = by.sum(dim=1)
        weight, by = coverage**8, by / coverage.clamp_min(1e-6).unsqueeze(1)
        precision = 2 / (1 + by.square().sum(dim=1))
        rest = weight * precision * (after - found.gain[0, one] * before @ by.T).square()
        torch.testing.assert_close(found.r2[0, one], 1 - rest.sum() / (weight * after.square()).sum())


def test_slopes_and_curvatures_are_those_of_finite_differences(motion):
    slices = motion.smooth(4, 2, 5, motion.draw)
    before, after = slices.flatten(2).mT, motion.smooth(4, 2, 5, motion.draw).flatten(2).mT
    after = after / after.square().sum(dim=(1, 2), keepdim=True).sqrt() + 0.1 * before
    after = after / after.square().sum(dim=(1, 2), keepdim=True).sqrt()
    target = after.square().sum(dim=2)
    pair = torch.arange(4)
    at = torch.tensor([[0.05, 0.13, 0.21, -0.34]]).double().repeat(4, 1)
    for padded in (False, True):
        pairs = fitting._Pairs(5, 5, 2, padded=padded, own=before @ before.mT, cross=after @ before.mT, target=target)
        here, _ = fitting._state(pairs, at, pair)
        assert (here.gain > 0).any()
        for one in range(4):
            offset = torch.zeros(4).double()
            offset[one] = 1e-6
            ends = [fitting._state(pairs, at + way * offset, pair, here.weights)[1] for way in (1, -1)]
            slope = (ends[1] - ends[0]) / 2e-6  # the weights are held
            torch.testing.assert_close(2 * here.slope[:, one], slope, rtol=1e-5, atol=1e-7)


def test_maps_of_the_grid_are_judged_as_single_ones(motion):
    slices = torch.randn(3, 2, 2, 5, 5, generator=motion.draw, dtype=torch.float64)
    before, after = slices.flatten(3).permute(2, 0, 3, 1)
    target = after.square().sum(dim=2)
    maps = torch.tensor([[0.05, 0.13, 0.21, -0.34], [0.0, 0, 0, 0]]).double()
    for padded in (False, True):
        pairs = fitting._Pairs(5, 5, 2, padded=padded, own=before @ before.mT, cross=after @ before.mT, target=target)
        each = [fitting._state(pairs, one.expand(3, 4), torch.arange(3))[0].loss for one in maps]
        torch.testing.assert_close(fitting._losses(pairs, maps), torch.stack(each))


def test_the_motion_of_round_and_of_empty_slices_cannot_be_told():
    at = torch.arange(7).double() - 3
    round_ = torch.exp(-(at[:, None] ** 2 + at**2) / 4)
    found = fit(torch.stack([round_.expand(2, 7, 7), torch.zeros(2, 7, 7).double()]).unsqueeze(1))
    assert found.identified.tolist() == [[False, False]]
    torch.testing.assert_close(found.r2, torch.tensor([[1.0, 0]]).double())


def test_a_pattern_that_may_have_turned_either_way_is_not_identified():
    at = torch.arange(11).double() - 5
    radius, angle = torch.hypot(at[:, None], at), torch.atan2(at[:, None], at)
    ring = torch.exp(-((radius - 3) ** 2) / 2)
    first, second = ring * torch.cos(4 * angle), ring * torch.cos(4 * angle + torch.pi)  # an eighth of a turn apart
    found = fit(torch.stack([first, second]).reshape(1, 1, 2, 11, 11))
    assert float(found.r2) > 0.8
    assert float(found.rotation.abs()) == pytest.approx(torch.pi / 4, abs=0.01)
    assert not found.identified.any()


def test_a_slice_that_vanishes_or_appears_has_no_motion(motion):
    slices = motion.smooth(2, 3, 5, motion.draw).unsqueeze(2).repeat(1, 1, 2, 1, 1)
    slices[0, :, 1] = 0
    slices[1, :, 0] = 0
    found = fit(slices)
    assert not found.identified.any()
    assert motion.read(found)[:, 0].tolist() == [[1, 1], [0, 0], [0, 0], [0, 0]]
    assert found.r2.tolist() == found.gain.tolist() == [[0, 0]]


@pytest.mark.parametrize(("k", "channels", "most"), [(3, 1, 0.12), (3, 4, 0.03), (5, 2, 0.03), (7, 1, 0.03)])
def test_slices_that_have_nothing_to_do_with_each_other_seldom_move(motion, k, channels, most):
    found = fit(torch.randn(40, channels, 2, k, k, generator=motion.draw))
    assert found.identified.double().mean() <= most


def test_four_numbers_cannot_tell_a_motion_of_four(motion):
    found = fit(torch.randn(200, 1, 2, 2, 2, generator=motion.draw))
    assert (found.r2 > 0.99).double().mean() > 0.2  # the fit explains many of them
    assert not found.identified.any()


def test_neither_scale_nor_batching_nor_the_other_filters_matter(motion, monkeypatch):
    planted = motion.motions(10, motion.draw)
    slices = motion.moved(motion.smooth(10, 2, 5, motion.draw), planted)
    slices += 0.1 * torch.randn(slices.shape, generator=motion.draw, dtype=torch.float64)
    together = fit(slices)
    counted = []
    monkeypatch.setattr(fitting, "BLOCK", 2 * 25 * 128 * 4)  # four filters
    alone = fit(1e-9 * slices, lambda done, total: counted.append((done, total)))
    assert counted == [(4, 10), (8, 10), (10, 10)]
    torch.testing.assert_close(motion.read(alone), motion.read(together), rtol=1e-6, atol=1e-7)
    assert torch.equal(alone.identified, together.identified)


def test_slices_need_not_be_square_and_move_as_pixels_do(motion):
    wide = motion.smooth(6, 6, 5, motion.draw, width=9)
    slices = torch.stack([wide, torch.roll(wide, (1, -2), dims=(2, 3))], dim=2)
    slices[:, :, 1, :1] = 0
    slices[:, :, 1, :, -2:] = 0
    found = fit(slices)
    torch.testing.assert_close(found.translate_y, torch.full((1, 6), -0.5).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.translate_x, torch.full((1, 6), 0.5).double(), atol=1e-6, rtol=0)
    assert found.rotation.abs().max() < 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_same(motion):
    planted = motion.motions(32, motion.draw)
    slices = motion.moved(motion.smooth(32, 3, 7, motion.draw), planted)
    here, there = fit(slices), fit(slices.cuda())
    assert there.scale.device.type == "cpu"
    torch.testing.assert_close(motion.read(there), motion.read(here), rtol=1e-5, atol=1e-6)
    assert (motion.read(there) - planted)[:, there.identified].abs().max() < 1e-2
