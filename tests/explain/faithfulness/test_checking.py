"""Faithfulness as a whole: verdicts, measures, and what is left as found."""

from __future__ import annotations

import dataclasses

import captum.metrics
import pytest
import torch
from torch import nn

import explain
from explain.attribution.methods import BUILT_IN, find_method
from explain.attribution.options import accepted
from explain.faithfulness.checking import Effort, check_all
from explain.faithfulness.removal import Boxes, Subject
from explain.faithfulness.repetition import NOISE, Again
from explain.faithfulness.results import Curves, Randomized
from explain.faithfulness.verdicts import on_deletion, on_model
from explain.model.preservation import generator, prepared
from explain.model.targets import select
from zoo.errors import MemoryLimitError, ModelError, UnknownNameError, UsageError

SHORT = {"steps": 6, "draws": 4}


def blob_watcher(size=8, frames=4):
    """A linear model of a blob, a clip with that blob in it, and the noise around."""
    weight = torch.zeros(1, frames, size, size)
    weight[:, 1:3, 1:4, 2:5] = 1.0
    weight += 0.05 * torch.randn(weight.shape)

    class Watcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.stack([weight, torch.randn(weight.shape)]))

        def forward(self, x):
            return torch.einsum("ncthw,kcthw->nk", x, self.weight)

    clip = 0.3 * torch.rand(1, 1, frames, size, size)
    clip[:, :, 1:3, 1:4, 2:5] += 1.0
    return Watcher(), clip


def test_a_good_map_passes_and_random_numbers_do_not(nets, first, with_map):
    model, batch = blob_watcher()
    good = explain.attribute(model, batch, method="input_x_gradient", target=first)
    result = explain.check_faithfulness(model, batch, good, steps=16)
    assert result.verdict.word == "passes", str(result.verdict)
    for _ in range(10):
        noise = with_map(good, torch.randn(good.map.shape))
        found = explain.check_faithfulness(model, batch, noise, steps=16, depths=1).verdict
        assert found.parts["deletion"][0] != "passes"
        assert found.word != "passes"


def test_the_opposite_of_a_good_map_is_flagged(nets, first, with_map):
    model, batch = blob_watcher()
    good = explain.attribute(model, batch, method="input_x_gradient", target=first)
    result = explain.check_faithfulness(model, batch, with_map(good, -good.map), steps=16, depths=1)
    assert result.verdict.parts["deletion"][0] == "flagged"
    assert "no better than chance" in str(result.verdict)


def test_a_map_that_ignores_the_model_is_flagged(nets, first, edge_method):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    edges = explain.attribute(model, batch, method=edge_method)
    result = explain.check_faithfulness(model, batch, edges, method=edge_method, **SHORT)
    assert [float(one.correlation.min()) for one in result.randomization] == pytest.approx([1.0] * 6)
    assert result.verdict.word == "flagged"
    assert "does not depend on the model" in str(result.verdict)


def test_guided_backprop_hardly_depends_on_the_model_and_saliency_does(nets):
    """On a ReLU network whose last layer is redrawn, as on r3d_18 (Adebayo et al., figure 2)."""
    import sys
    import types

    from explain.attribution.job import Raw
    from explain.attribution.methods import Method

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv3d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv3d(16, 32, 3, padding=1), nn.ReLU(),
                nn.Conv3d(32, 64, 3, padding=1), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(self.body(x).mean(dim=(2, 3, 4)))

    def guided(job):
        method = captum.attr.GuidedBackprop(job.model)
        values = method.attribute(job.batch.clone().requires_grad_(), target=job.score.target.classes[job.samples])
        return Raw(values=values)

    import captum.attr

    module = types.ModuleType("guided_of_tests")
    module.guided = guided
    sys.modules["guided_of_tests"] = module
    method = Method(name="guided", summary="", run="guided_of_tests:guided", source="", reduction="magnitude")
    model, batch = Deep(), torch.randn(1, 1, 6, 12, 12)
    with pytest.warns(UserWarning, match="backward hooks"):
        attribution = explain.attribute(model, batch, method=method)
        blind = explain.check_faithfulness(model, batch, attribution, method=method, depths=1, **SHORT)
    saliency = explain.attribute(model, batch, method="saliency")
    seeing = explain.check_faithfulness(model, batch, saliency, depths=1, **SHORT)
    assert float(blind.randomization[0].correlation) > float(seeing.randomization[0].correlation) + 0.3
    assert blind.verdict.parts["model"][0] == "flagged"
    assert seeing.verdict.parts["model"][0] == "passes"


@pytest.mark.parametrize(
    ("correlation", "word"),
    [(0.85, "flagged"), (0.75, "inconclusive"), (0.45, "inconclusive"), (0.3, "passes"), (-0.9, "passes")],
)
def test_the_verdict_on_the_model_goes_by_the_last_layer(correlation, word):
    """With a margin of 0.1 where it was drawn once."""
    first, second = (torch.tensor([value]) for value in (correlation, 1.0))
    rows = [Randomized(layer="b", depth=1, correlation=first), Randomized(layer="a", depth=2, correlation=second)]
    assert on_model(rows, {})[0] == word
    assert on_model((), {"randomization": "no method"})[0] == "inconclusive"


@pytest.mark.parametrize(
    ("correlation", "written"), [(-0.104, "\N{MINUS SIGN}0.10"), (-0.004, "0.00"), (0.104, "0.10")]
)
def test_verdicts_write_minus_signs_and_none_before_nothing(correlation, written):
    _, sentence = on_model([Randomized(layer="a", depth=1, correlation=torch.tensor([correlation]))], {})
    assert f"the original is {written} (" in sentence


@pytest.mark.parametrize(("value", "judged"), [(0.02, False), (0.5, True)])
def test_deletion_is_not_judged_where_the_whole_clip_changes_less_than_its_parts(value, judged):
    """An output that is dark with the clip and without, and lights up where a part of it is gone."""
    at = torch.linspace(0, 1, 5, dtype=torch.float64)
    fading, lit = value * (1 - at), 0.1 * torch.tensor([0.0, 0.5, 1.0, 0.5, 0.0], dtype=torch.float64)
    random = torch.stack([fading + lit, fading + 1.1 * lit])[:, None] / value
    own, last = (fading**2 / value)[None] / value, (fading.flip(0) + value * lit.sign())[None] / value
    curves = Curves(
        kind="both",
        removed=at,
        shown=at,
        deletion=own,
        insertion=last,
        random_deletion=random,
        random_insertion=random.flip(2),
        centre_deletion=random[0],
        centre_insertion=random[0].flip(1),
    )
    word, said = on_deletion(curves, {})
    mean = float(torch.trapezoid(random, at).mean())
    assert word == ("passes" if judged else "inconclusive")
    assert ("is no measure" in said) is not judged
    assert f"{100 * mean:.0f}\N{NO-BREAK SPACE}%" in said


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "grad_cam", "occlusion"])
def test_the_model_and_the_process_are_left_as_found(nets, method):
    model, batch = nets.TwoHeads().train(), torch.randn(2, 1, 4, 6, 6)
    model(batch)["digit"].sum().backward()
    found, copy = nets.fingerprint(model), batch.clone()
    options = accepted(find_method(method), {"n_steps": 2, "window": (2, 3, 3)})
    attribution = explain.attribute(model, batch, method=method, **options)
    explain.check_faithfulness(model, batch, attribution, **SHORT)
    assert nets.fingerprint(model) == found
    assert torch.equal(batch, copy)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("after", [3, 40, 150, "random"])
def test_the_model_and_the_process_are_left_as_found_on_failure(nets, after, error):
    """Also while its parameters are random."""
    model, batch = nets.TwoHeads().train(), torch.randn(2, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="occlusion", window=(2, 3, 3), stride=(1, 1, 1))
    runs, weights = [], set()

    def failing(module, inputs):
        runs.append(1)
        weights.add(float(model.digit.weight.detach()[0, 0]))
        torch.rand(1)
        if len(weights) > 1 if after == "random" else len(runs) > after:
            raise error("stop")

    model.stem[0].register_forward_pre_hook(failing)
    found = nets.fingerprint(model)
    # Asked why, it fails again: a model error.
    with pytest.raises(ModelError if error is RuntimeError else error):
        explain.check_faithfulness(model, batch, attribution, batch_size=1, depths=1, **SHORT)
    assert len(weights) == (2 if after == "random" else 1)
    assert nets.fingerprint(model) == found


@pytest.mark.parametrize(
    ("method", "frames"),
    [*((method.name, 4) for method in BUILT_IN), *((name, 1) for name in ("gradient_shap", "deep_lift_shap"))],
)
def test_the_map_of_every_method_is_checked_and_made_again_as_it_was(nets, method, frames):
    """With its own baselines and seed, which are not those of the check."""
    pytest.importorskip("skimage")
    model, batch = nets.Rectified(), torch.randn(1, 1, frames, 6, 6)
    model.lstm[0] = nn.MaxPool1d(1)  # which leaves one frame one
    options = {"n_steps": 2, "n_samples": 5, "window": (1, 3, 3), "feature_mask": "grid"}
    if method in {"kernel_shap", "lime", "shapley_sampling"}:
        options["n_samples"] = 120 if method == "kernel_shap" else 20
    attribution = explain.attribute(model, batch, method=method, seed=7, **accepted(find_method(method), options))
    again = Again(model, attribution, find_method(method), seed=1)
    assert torch.equal(again(batch, torch.tensor([0])), attribution.map.double())
    result = explain.check_faithfulness(model, batch, attribution, depths=1, steps=3, draws=2, seed=1)
    assert result.sensitivity is not None
    assert len(result.randomization) == 1


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="saliency")
    one, again, other = (
        explain.check_faithfulness(model, batch, attribution, seed=seed, **SHORT).record() for seed in (0, 0, 1)
    )
    assert one == again
    for key in ("infidelity", "sensitivity", "randomization"):
        assert one[key] != other[key]
    assert one["curves"]["both"]["random_deletion"] != other["curves"]["both"]["random_deletion"]
    assert one["curves"]["both"]["deletion"] == other["curves"]["both"]["deletion"]


def test_samples_and_batches_do_not_matter(nets):
    model, batch = nets.TwoHeads(), torch.randn(3, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="saliency")
    together = explain.check_faithfulness(model, batch, attribution, depths=2, **SHORT)
    single = explain.check_faithfulness(model, batch, attribution, depths=2, batch_size=1, **SHORT)
    for at in range(3):
        one = batch[at : at + 1]
        own = explain.attribute(model, one, method="saliency", target=select(attribution.target, torch.tensor([at])))
        alone = explain.check_faithfulness(model, one, own, depths=2, batch_size=5, **SHORT)
        for other, where in ((alone, 0), (single, at)):
            for name in ("deletion", "insertion", "infidelity", "sensitivity"):
                assert torch.allclose(getattr(together, name)[at], getattr(other, name)[where]), name
            for ours, theirs in zip(together.randomization, other.randomization, strict=True):
                assert torch.allclose(ours.correlation[at], theirs.correlation[where])


def test_fewer_at_once_are_tried_when_memory_runs_out(nets):
    class Hungry(nn.Module):
        most = 2

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            if len(x) > self.most:
                raise torch.OutOfMemoryError("a lot")
            return self.model(x)

    model, batch = nets.TwoHeads(), torch.randn(3, 1, 4, 6, 6)
    plain, hungry = (explain.attribute(model, batch, method="saliency", target="digit"), Hungry())
    own = explain.attribute(hungry, batch, method="saliency", target=plain.target)
    expected = explain.check_faithfulness(model, batch, plain, depths=2, **SHORT)
    found = explain.check_faithfulness(hungry, batch, own, depths=2, **SHORT)
    assert torch.allclose(expected.deletion, found.deletion)
    assert torch.allclose(expected.sensitivity, found.sensitivity)
    hungry.most = 0
    with pytest.raises(MemoryLimitError, match="smaller clip"):
        explain.check_faithfulness(hungry, batch, own, **SHORT)


def test_several_maps_equal_the_single_ones(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    maps = [explain.attribute(model, batch, method=name) for name in ("saliency", "grad_cam")]
    maps.append(explain.attribute(model, batch, method="integrated_gradients", baseline="blur", n_steps=2))
    effort = Effort(steps=6, draws=4, depths=2)
    together = check_all(model, batch, maps, effort)
    for one, found in zip(maps, together, strict=True):
        assert check_all(model, batch, [one], effort)[0].record() == found.record()


def test_a_coarser_method_is_compared_with_itself(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    fine = explain.attribute(model, batch, method="occlusion", target="digit", window=(1, 1, 1))
    blocks = {"window": (2, 3, 3), "stride": (2, 3, 3)}
    coarse = explain.attribute(model, batch, method="occlusion", target=fine.target, **blocks)
    found = check_all(model, batch, [fine], Effort(steps=4, depths=3, settings=blocks))[0]
    expected = check_all(model, batch, [coarse], Effort(steps=4, depths=3))[0]
    assert [float(one.correlation) for one in found.randomization] == [
        float(one.correlation) for one in expected.randomization
    ]
    assert not torch.allclose(found.deletion, expected.deletion)


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient"])
def test_linear_models_are_explained_without_infidelity(nets, first, method):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    attribution = explain.attribute(model, batch, method=method, target=first)
    result = explain.check_faithfulness(model, batch, attribution, **SHORT)
    assert torch.allclose(result.infidelity, torch.zeros(2), atol=1e-9)
    assert torch.allclose(result.sensitivity, torch.zeros(2)) is (method == "saliency")
    wrong = explain.attribute(model, batch, method=method, target=lambda output: -output[:, 0])
    wrong = dataclasses.replace(wrong, target=attribution.target)
    assert torch.allclose(explain.check_faithfulness(model, batch, wrong, **SHORT).infidelity, torch.ones(2))


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "grad_cam"])
def test_infidelity_is_captums_by_the_mean_square_of_the_losses(nets, method):
    model, batch = nets.TwoHeads().eval(), torch.randn(1, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method=method, target="digit:1")
    with prepared(model):
        boxes = Boxes(Subject(model, batch, attribution.target, 0.25), 12, seed=1)
    masks = torch.stack(boxes.masks)[:, None]

    def perturb(inputs, _baselines=None):
        gone = masks * (inputs - 0.25)
        return (gone if method == "saliency" else masks.double()), inputs - gone

    values = attribution.raw if method != "grad_cam" else attribution.map[:, None]
    with torch.no_grad():
        expected = captum.metrics.infidelity(
            lambda inputs: model(inputs)["digit"][:, 1],
            lambda inputs: (perturb(inputs)[0], perturb(inputs)[1]),
            batch,
            values,
            n_perturb_samples=12,
            normalize=True,
        )
    from explain.attribution.methods import find_method

    found = boxes.infidelity(attribution, find_method(method))
    assert float(found) < 1
    assert torch.allclose(found * boxes.losses.square().mean(dim=1), expected)


def test_max_sensitivity_is_the_largest_change_of_the_map(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="input_x_gradient")
    result = explain.check_faithfulness(model, batch, attribution, depths=1, seed=5, **SHORT)
    noise = torch.rand(8, *batch.shape[1:], generator=generator(5, NOISE)) * 2 - 1
    for at in range(2):
        radius = 0.02 * (batch[at].max() - batch[at].min())
        target = select(attribution.target, torch.tensor([at]))
        changes = [
            explain.attribute(model, batch[at : at + 1] + radius * one, method="input_x_gradient", target=target).map
            - attribution.map[at : at + 1]
            for one in noise
        ]
        largest = max(change.norm() for change in changes) / attribution.map[at].norm()
        assert float(result.sensitivity[at]) == pytest.approx(float(largest))


def test_a_value_is_measured_by_its_change_too(nets):
    """Adding a constant to a value changes no share."""
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    plain = explain.attribute(model, batch, method="input_x_gradient", target="speed")
    expected = explain.check_faithfulness(model, batch, plain, depths=1, **SHORT)
    with torch.no_grad():
        model.speed.bias += 100.0
    moved = explain.attribute(model, batch, method="input_x_gradient", target="speed")
    found = explain.check_faithfulness(model, batch, moved, depths=1, **SHORT)
    assert torch.allclose(found.deletion, expected.deletion)
    assert torch.allclose(found.insertion, expected.insertion)
    assert found.target == "speed"


def test_a_map_of_an_unknown_method_is_checked_as_far_as_it_goes(nets):
    model, batch = nets.TwoHeads(), torch.randn(1, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="saliency")
    stranger = dataclasses.replace(attribution, method="dowsing")
    result = explain.check_faithfulness(model, batch, stranger, **SHORT)
    assert result.sensitivity is None
    assert result.randomization == ()
    assert "dowsing" in result.missing["randomization"]
    assert result.verdict.parts["model"][0] == "inconclusive"
    assert result.record()["sensitivity"] is None


def test_progress_goes_up_to_its_total(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="integrated_gradients", n_steps=2)
    told = {}
    explain.check_faithfulness(
        model, batch, attribution, progress=lambda step, *counts: told.setdefault(step, []).append(counts), **SHORT
    )
    assert len(told) == 3
    for counts in told.values():
        done, totals = zip(*counts, strict=True)
        assert list(done) == sorted(done)
        assert done[-1] == totals[-1]
        assert len(set(totals)) == 1


def test_what_cannot_be_checked_is_refused(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    attribution = explain.attribute(model, batch, method="saliency")
    with pytest.raises(UsageError, match="give the batch that was explained"):
        explain.check_faithfulness(model, batch[:1], attribution)
    with pytest.raises(UnknownNameError, match="surroundings"):
        explain.check_faithfulness(model, batch, attribution, fill="surrounding")
    for option, value in {"steps": 1, "draws": 1, "depths": 0}.items():
        with pytest.raises(UsageError, match=f"{option} must be at least"):
            explain.check_faithfulness(model, batch, attribution, **{option: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_what_the_cpu_finds(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    here = explain.check_faithfulness(model, batch, explain.attribute(model, batch, method="saliency"), **SHORT)
    model, batch = model.cuda(), batch.cuda()
    there = explain.check_faithfulness(model, batch, explain.attribute(model, batch, method="saliency"), **SHORT)
    for name in ("deletion", "insertion", "infidelity", "sensitivity"):
        assert torch.allclose(getattr(here, name), getattr(there, name), atol=1e-6)
