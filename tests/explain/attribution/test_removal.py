import itertools
import math
import sys

import captum.attr
import pytest
import torch

import explain
from explain.attribution.rise import CELLS
from zoo.errors import UnknownNameError, UsageError

#: Four parts of a clip of 4 x 6 x 5: two stretches of time, of each two stretches of rows.
PARTS = (torch.arange(4)[:, None, None] // 2 * 2 + torch.arange(6)[:, None] // 3).expand(4, 6, 5)
BY_PARTS = ("feature_ablation", "shapley_sampling", "kernel_shap")


def products(model, batch, baseline):
    """For a linear model, what each part adds: samples x parts."""
    shares = model.weight[0].detach() * (batch - baseline)
    return torch.stack([shares[:, :, part == PARTS].sum(dim=(1, 2)) for part in range(4)], dim=1)


@pytest.mark.parametrize("method", BY_PARTS)
@pytest.mark.parametrize("draws", [12, 14])  # by drawing, and all there are
def test_of_a_linear_model_a_part_has_its_weighted_sum(nets, having, method, draws):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    options = having(method, {"feature_mask": PARTS, "n_samples": draws, "baseline": 0.3})
    result = explain.attribute(model, batch, method=method, target=0, **options)
    assert torch.allclose(result.map, products(model, batch, 0.3)[:, PARTS])
    assert torch.allclose(result.raw, result.map[:, None].expand_as(batch))


def test_lime_of_a_linear_model_is_nearly_so(nets):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    result = explain.attribute(model, batch, method="lime", target=0, feature_mask=PARTS, n_samples=64, baseline=0.3)
    expected = products(model, batch, 0.3)[:, PARTS]
    assert torch.allclose(result.map, expected, atol=0.03 * float(expected.abs().max()))


def exact_shapley(score, batch, baseline):
    """Shapley values of the four parts, as the definition reads: over all orders."""
    values = torch.zeros(len(batch), 4)
    orders = list(itertools.permutations(range(4)))
    for order in orders:
        clip, before = torch.full_like(batch, baseline), score(torch.full_like(batch, baseline))
        for part in order:
            clip[:, :, part == PARTS] = batch[:, :, part == PARTS]
            after = score(clip)
            values[:, part] += (after - before) / len(orders)
            before = after
    return values


@pytest.mark.parametrize(("method", "draws", "tolerance"), [("kernel_shap", 14, 1e-9), ("shapley_sampling", 200, 0.1)])
def test_are_shapley_values(nets, method, draws, tolerance):
    model = nets.QuadraticClips((1, 4, 6, 5))
    model.forward = lambda x: (model.a * x).flatten(1).sum(dim=1, keepdim=True).square()
    batch = torch.randn(2, 1, 4, 6, 5)
    with torch.no_grad():
        expected = exact_shapley(lambda x: model(x)[:, 0], batch, 0.2)
    result = explain.attribute(model, batch, method=method, feature_mask=PARTS, n_samples=draws, baseline=0.2)
    largest = float(expected.abs().max())
    assert torch.allclose(result.map, expected[:, PARTS], atol=tolerance * largest)
    parts = torch.stack([result.map[:, part == PARTS][:, 0] for part in range(4)], dim=1)
    difference = model(batch) - model(torch.full_like(batch, 0.2))
    assert torch.allclose(parts.sum(dim=1), difference[:, 0].detach())


def test_kernel_shap_refuses_too_few_draws(nets):
    with pytest.raises(UsageError, match="4 parts apart; give more than 8"):
        explain.attribute(
            nets.LinearClips(), torch.randn(1, 2, 4, 6, 5), method="kernel_shap", feature_mask=PARTS, n_samples=5
        )


def test_one_part_alone_has_the_whole_difference(nets, having):
    model, batch = nets.LinearClips(), torch.randn(1, 2, 4, 6, 5)
    whole = model(batch)[0, 0].detach()
    for method in BY_PARTS:
        options = having(method, {"feature_mask": torch.zeros_like(PARTS), "n_samples": 3})
        result = explain.attribute(model, batch, method=method, target=0, **options)
        assert torch.allclose(result.map, whole)


def test_feature_ablation_equals_captum_over_the_grid(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    blocks = torch.arange(4)[:, None, None] // 2 * 4 + torch.arange(6)[:, None] // 3 * 2 + torch.arange(6) // 4
    expected = captum.attr.FeatureAblation(lambda x: model(x)["speed"]).attribute(batch, feature_mask=blocks)
    result = explain.attribute(model, batch, method="feature_ablation", target="speed", window=(2, 3, 4))
    assert torch.allclose(result.raw, expected, atol=1e-12)


def test_time_before_channels_and_images_have_parts_too(nets, having):
    folded, batch = nets.FoldedFrames(), torch.randn(2, 5, 2, 6, 6)
    folded.zoo_entry = nets.entry("NTCHW")
    turned = torch.nn.Module()
    turned.forward = lambda x: folded(x.transpose(1, 2))
    for method in (*BY_PARTS, "lime", "rise", "temporal_occlusion", "frame_order"):
        options = {"method": method, "target": 1, "n_samples": 20, "window": (2, 3, 6), "feature_mask": "grid"}
        options = having(method, options)
        ours = explain.attribute(folded, batch, **options)
        assert torch.allclose(ours.map, explain.attribute(turned, batch.transpose(1, 2), **options).map)
    image = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    few = {"feature_mask": "grid", "n_samples": 100}
    for method in (*BY_PARTS, "lime", "rise"):
        result = explain.attribute(image, torch.randn(1, 1, 6, 6), method=method, **having(method, few))
        assert result.map.shape == (1, 1, 6, 6)
        assert result.map.abs().sum() > 0


def test_rise_of_a_linear_model_grows_with_weight_times_difference(nets):
    model = nets.LinearClips((1, 4, 7, 7))
    with torch.no_grad():
        model.weight.zero_()
        model.weight[0, 0, 1, 2, 3] = 1.0
    result = explain.attribute(model, torch.ones(1, 1, 4, 7, 7), method="rise", target=0, n_samples=400)
    assert CELLS == (4, 7, 7)
    assert result.map.flatten().argmax() == 1 * 49 + 2 * 7 + 3
    # Every cell is a pixel here: it shows or does not, half of the time each.
    assert result.map.max() == pytest.approx(0.5, abs=0.05)
    others = result.map.flatten()[torch.arange(196) != 1 * 49 + 2 * 7 + 3]
    assert others.abs().max() < 0.12


@pytest.mark.parametrize("method", ["rise", "lime", "kernel_shap", "shapley_sampling"])
def test_draws_differ_by_seed_and_batches_change_nothing(nets, having, method):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    options = having(method, {"feature_mask": "grid", "window": (2, 3, 3), "n_samples": 24, "method": method})
    results = [explain.attribute(model, batch, batch_size=size, **options).raw for size in (1, 3, 24)]
    assert torch.allclose(results[1], results[0], atol=1e-12)
    assert torch.allclose(results[2], results[0], atol=1e-12)
    assert not torch.allclose(explain.attribute(model, batch, seed=1, **options).raw, results[0])


def test_supervoxels_are_the_regions_of_one_colour(nets):
    pytest.importorskip("skimage")
    batch = torch.zeros(1, 1, 4, 12, 12)
    batch[:, :, :2, :, 6:] = 1.0
    model = nets.LinearClips((1, 4, 12, 12))
    result = explain.attribute(model, batch, method="supervoxel_occlusion", target=0)
    values = torch.unique(result.map[0])
    assert 2 < len(values) <= 80
    for value in values:
        assert len(torch.unique(batch[0, 0][result.map[0] == value])) == 1
    sums = [float(result.map[0][result.map[0] == v][0]) for v in values if abs(v) > 1e-12]
    weighted = (model.weight[0].detach() * batch[0]).sum()
    assert math.isclose(sum(sums), float(weighted), rel_tol=1e-9)


def test_supervoxels_without_scikit_image_are_refused_with_the_remedy(nets, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    batch = torch.randn(1, 2, 4, 6, 5)
    for method in ("supervoxel_occlusion", "lime", "kernel_shap"):
        with pytest.raises(UsageError, match=r"pip install 'motion-zoo\[supervoxels\]'"):
            explain.attribute(nets.LinearClips(), batch, method=method)
    assert "scikit-image" in explain.applicability(nets.LinearClips(), batch)["lime"]


def test_parts_that_do_not_fit_are_refused(nets):
    model, batch = nets.LinearClips(), torch.randn(1, 2, 4, 6, 5)
    for features, said in ((PARTS[1:], r"\(4, 6, 5\)"), (PARTS.double(), "integers"), (PARTS * 2, "every number")):
        with pytest.raises(UsageError, match=said):
            explain.attribute(model, batch, method="feature_ablation", feature_mask=features)
    with pytest.raises(UnknownNameError, match="supervoxels"):
        explain.attribute(model, batch, method="feature_ablation", feature_mask="supervoxel")
    with pytest.raises(UsageError, match=r"n_samples.* at least 1"):
        explain.attribute(model, batch, method="rise", n_samples=0)
