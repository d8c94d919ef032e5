"""Deletion and insertion against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import explain
from explain.faithfulness import removal
from explain.faithfulness.curves import cell_of, counts, parts_of, ranks_of, scores_of, spread
from zoo.errors import UsageError

AXES = {"spatial": (1, 2), "temporal": (1, 3, 4), "both": (1,)}


@pytest.mark.parametrize("kind", ["spatial", "temporal", "both"])
def test_curves_of_a_linear_model_are_sums_of_its_sorted_terms(nets, first, kind):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    attribution = explain.attribute(model, batch, method="input_x_gradient", target=first)
    curves = explain.check_faithfulness(model, batch, attribution, steps=1000, depths=1, fill="baseline").curves[kind]
    terms = (model.weight[0] * batch).detach().sum(dim=AXES[kind]).flatten(1)
    terms = terms.sort(dim=1, descending=True).values
    total = terms.sum(dim=1, keepdim=True)
    sums = torch.cat([torch.zeros(2, 1), terms.cumsum(dim=1)], dim=1)
    assert torch.allclose(curves.deletion, 1 - sums / total.abs())
    assert torch.allclose(curves.insertion, 1 + (sums - total) / total.abs())
    assert torch.allclose(curves.removed, torch.linspace(0, 1, terms.shape[1] + 1))
    assert torch.allclose(curves.shown, curves.removed)


def test_random_orders_of_a_linear_model_lose_half_on_average(nets, first):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    attribution = explain.attribute(model, batch, method="saliency", target=first)
    result = explain.check_faithfulness(model, batch, attribution, steps=12, draws=6, depths=1, fill="baseline")
    for kind, curves in result.curves.items():
        draws = 4 if kind == "spatial" else 6  # no verdict goes by it
        assert curves.random_deletion.shape == (draws, 2, len(curves.removed))
        sign = (result.value - result.empty).sign()
        middle = 1 - 0.5 * sign
        assert torch.allclose(curves.area(curves.random_deletion).mean(dim=0), middle)
        assert torch.allclose(curves.inserted_area(curves.random_insertion).mean(dim=0), middle)


@pytest.mark.parametrize("fill", ["surroundings", "baseline"])
def test_insertion_shows_what_comes_first_and_nothing_else(nets, fill):
    """Every point of both curves, by a slow re-implementation, on a model that is not linear."""
    model, batch = nets.QuadraticClips(), torch.randn(1, 1, 3, 4, 4)
    attribution = explain.attribute(model, batch, method="occlusion", window=(1, 1, 1), stride=(1, 1, 1))
    result = explain.check_faithfulness(model, batch, attribution, baseline=0.5, steps=7, depths=1, fill=fill)
    order = attribution.map[0].flatten().argsort(descending=True)
    curves = result.curves["both"]

    def share(indices):
        gone = torch.zeros(batch.numel(), dtype=torch.bool)
        gone[indices] = True
        gone, empty = gone.view(1, *batch.shape[2:]), torch.full_like(batch, 0.5)
        changed = removal.fill(batch, gone, empty) if fill == "surroundings" else torch.where(gone, empty, batch)
        output = model(changed)[:, 0].detach()
        return float(1 + (output - result.value) / (result.value - result.empty).abs())

    parts = len(order)
    for at, gone in enumerate(counts(parts, 7).tolist()):
        assert float(curves.deletion[0, at]) == pytest.approx(share(order[:gone]))
    for at, shown in enumerate((curves.shown * parts).round().long().tolist()):
        assert float(curves.insertion[0, at]) == pytest.approx(share(order[shown:]))


def test_the_centre_prior_begins_in_the_middle():
    class Middle(nn.Module):
        """Sees one pixel in the middle of each frame, in the middle frame most."""

        def forward(self, x):
            return (x[:, 0, :, 2, 2] * torch.tensor([1.0, 10.0, 1.0])).sum(dim=1, keepdim=True)

    batch = torch.rand(1, 1, 3, 5, 5) + 0.5
    attribution = explain.attribute(Middle(), batch, method="saliency", target=lambda output: output[:, 0])
    result = explain.check_faithfulness(Middle(), batch, attribution, steps=75, fill="baseline")
    for kind, before in {"spatial": 1 / 25, "temporal": 1 / 3, "both": 1 / 75}.items():
        curves = result.curves[kind]
        assert float(curves.removed[1]) == pytest.approx(before)
        assert float(curves.centre_deletion[0, 1]) < 0.3
        assert float(curves.centre_insertion[0, 1]) > 0.7


def test_equal_scores_follow_chance_not_rows():
    chance = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    ranks = ranks_of(torch.zeros(2, 1000), chance)
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0].sort().values, torch.arange(1000))
    correlation = torch.corrcoef(torch.stack([ranks[0].double(), torch.arange(1000).double()]))[0, 1]
    assert abs(float(correlation)) < 0.15
    assert ranks_of(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([2, 0, 1])).tolist() == [[2, 0, 1]]


@pytest.mark.parametrize(("parts", "steps"), [(30, 12), (30, 7), (4, 16), (31, 8), (5, 1)])
def test_counts_go_from_none_to_all_in_even_steps(parts, steps):
    found = counts(parts, steps)
    assert len(found) == min(parts, steps) + 1
    assert found[0] == 0
    assert found[-1] == parts
    assert found.diff().min() >= 1
    assert found.diff().max() - found.diff().min() <= 2
    inner = found[: len(found) // 2]
    assert torch.equal(parts - inner, found.flip(0)[: len(inner)])


def test_large_clips_are_taken_apart_in_blocks():
    extent = (48, 40, 16)
    assert cell_of("both", (16, 16, 16)) == (1, 1, 1)
    cell = cell_of("both", extent)
    assert cell == (3, 3, 1)
    assert parts_of(extent, cell) == (16, 14, 16)
    assert cell_of("spatial", extent) == (48, 3, 1)
    assert parts_of(extent, cell_of("temporal", extent)) == (48, 1, 1)
    heat = torch.rand(2, *extent)
    scores = scores_of(heat, cell)
    assert scores.shape == (2, 16 * 14 * 16)
    assert torch.allclose(scores.view(2, 16, 14, 16)[:, 2, 13, 5], heat[:, 6:9, 39:42, 5].double().sum(dim=(1, 2)))
    one = torch.zeros(16, 14, 16, dtype=torch.bool)
    one[2, 13, 5] = True
    mask = torch.zeros(extent, dtype=torch.bool)
    mask[6:9, 39:42, 5] = True
    assert torch.equal(spread(one, extent, cell), mask)


def test_an_output_that_rises_without_the_clip_has_shares_above_one(nets, first):
    class Falling(nn.Module):
        def forward(self, x):
            return -x.flatten(1).sum(dim=1, keepdim=True)

    batch = torch.rand(1, 1, 3, 4, 4)
    attribution = explain.attribute(Falling(), batch, method="input_x_gradient", target=first)
    result = explain.check_faithfulness(Falling(), batch, attribution, steps=8, fill="baseline")
    assert float(result.main.deletion[0, 0]) == pytest.approx(1)
    assert float(result.main.deletion[0, -1]) == pytest.approx(2)
    assert 1 < float(result.deletion) < 1.5


@pytest.mark.parametrize("shape", [(2, 3, 6, 6), (2, 3, 1, 6, 6)])
def test_an_image_has_no_curves_over_time(shape, first):
    model = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)).double()
    batch = torch.randn(shape, dtype=torch.float64)
    attribution = explain.attribute(model, batch, method="input_x_gradient", target=first)
    result = explain.check_faithfulness(model, batch, attribution, steps=6)
    assert list(result.curves) == ["spatial"]
    assert result.missing == {"temporal": "there is one frame only", "both": "there is one frame only"}
    assert result.deletion.shape == result.insertion.shape == (2,)


def test_frames_may_come_before_channels(nets, first):
    clips = torch.randn(1, 2, 4, 6, 5)
    model = nets.LinearClips()

    class TimeFirst(nn.Module):
        zoo_entry = nets.entry(layout="NTCHW")

        def forward(self, x):
            return model(x.transpose(1, 2))

    one = explain.attribute(model, clips, method="saliency", target=first)
    other = explain.attribute(TimeFirst(), clips.transpose(1, 2), method="saliency", target=first)
    ours = explain.check_faithfulness(model, clips, one, steps=5)
    theirs = explain.check_faithfulness(TimeFirst(), clips.transpose(1, 2), other, steps=5)
    for kind, curves in ours.curves.items():
        assert torch.allclose(curves.deletion, theirs.curves[kind].deletion)
    assert torch.allclose(ours.infidelity, theirs.infidelity)


def test_where_the_clip_does_not_matter_there_is_no_curve(nets, first):
    model, batch = nets.LinearClips(), torch.zeros(1, 2, 4, 6, 5)
    attribution = explain.attribute(model, batch, method="saliency", target=first)
    result = explain.check_faithfulness(model, batch, attribution, steps=5)
    assert result.curves == {}
    assert "does not change the output" in result.missing["deletion"]
    assert result.verdict.parts["deletion"][0] == "inconclusive"


def test_the_baseline_is_that_of_the_attribution_unless_told(nets, first):
    model, batch = nets.QuadraticClips(), torch.randn(1, 1, 3, 4, 4)
    ones = torch.ones(1, 1, 3, 4, 4)
    integrated = explain.attribute(model, batch, method="integrated_gradients", target=first, baseline=1.0)
    assert float(explain.check_faithfulness(model, batch, integrated, steps=3).empty) == float(model(ones).detach())
    assert float(explain.check_faithfulness(model, batch, integrated, baseline=0, steps=3).empty) == 0.0
    tensor = explain.attribute(model, batch, method="integrated_gradients", target=first, baseline=ones)
    with pytest.raises(UsageError, match="give that tensor as baseline"):
        explain.check_faithfulness(model, batch, tensor)
    given = explain.check_faithfulness(model, batch, tensor, baseline=ones, steps=3)
    number = explain.check_faithfulness(model, batch, integrated, steps=3)
    assert torch.equal(given.deletion, number.deletion)
    assert torch.allclose(given.sensitivity, number.sensitivity)
