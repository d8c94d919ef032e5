"""Robustness on a recipe's own clips: two digits' worth of data, measured by an evaluation of the test's own."""

import sys
import types

import pytest
import torch

from explain.robustness import check_robustness, check_robustness_on_recipe
from zoo.entries.recipes import Recipe
from zoo.errors import UsageError

CLIPS = torch.rand(5, 1, 6, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
DIGITS = torch.tensor([0, 1, 2, 0, 1])


def evaluate(network, device, clips=None, size=2):
    network.eval()
    right, errors = [], []
    with torch.inference_mode():
        for x, digit in zip(CLIPS[:clips].split(size), DIGITS[:clips].split(size), strict=True):
            out = network(x.to(device))
            right.append(out["digit"].argmax(1) == digit)
            errors.append(out["speed"][:, 0].abs())
    found = {"digit accuracy": torch.cat(right), "speed mean absolute error": torch.cat(errors)}
    return {
        "metrics": [
            {"dataset": "toys", "split": "test", "name": name, "value": float(values.double().mean())}
            for name, values in found.items()
        ],
        "clips_measured": len(CLIPS[:clips]),
        "breakdown": {},
    }


@pytest.fixture
def recipe(monkeypatch):
    module = types.ModuleType("robust_recipe")
    module.evaluate = evaluate
    monkeypatch.setitem(sys.modules, "robust_recipe", module)
    return Recipe(name="m.toys", build="m:b", export="m:e", evaluate="robust_recipe:evaluate", example="m:x", stages=())


@pytest.fixture
def model(nets):
    model = nets.TwoHeads()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED, frames=6, size=(8, 8))
    return model


def test_metrics_are_those_of_perturbed_clips(nets, model, recipe):
    """The same clips given as one batch with their truth, with one draw, say the same."""
    before = nets.fingerprint(model)
    checked = check_robustness_on_recipe(model, recipe, levels=3, seed=4)
    found, shown = checked.result, checked.first
    assert checked.source == "5 test clips of m.toys"
    assert nets.fingerprint(model) == before
    truth = {"digit": DIGITS, "speed": torch.zeros(5)}
    wanted = check_robustness(model, CLIPS, levels=3, draws=1, seed=4, truth=truth)
    assert found.samples == 5
    assert torch.allclose(shown.clips, CLIPS[:1])
    assert set(found.curves) == set(wanted.curves)
    for name, curve in found.curves.items():
        assert curve.levels.tolist() == wanted.curves[name].levels.tolist()
        for metric, measure in (("digit accuracy", "digit accuracy"), ("speed mean absolute error", "speed error")):
            assert curve.mean[metric].tolist() == pytest.approx(wanted.curves[name].mean[measure].tolist(), abs=1e-7)
        share = curve.mean["digit accuracy"]
        assert torch.allclose(curve.error["digit accuracy"], (share * (1 - share) / 5).sqrt())
        assert curve.error["speed mean absolute error"].isnan().all()
    assert [one.kind for one in found.measures.values()] == ["share", "error"]


def test_the_first_clips_alone_are_measured(model, recipe):
    seen = []
    found = check_robustness_on_recipe(
        model, recipe, perturbations="blur", levels=2, clips=3, progress=lambda *now: seen.append(now)
    ).result
    assert found.samples == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_first_constant_answer_is_a_line_and_metrics_of_one_name_stay_apart(model, recipe, monkeypatch):
    """As of a model that predicts frames, whose errors are those of two sets beside that of an empty image."""

    def evaluate_twice(network, device, clips=None):
        found = evaluate(network, device, clips)["metrics"][1]["value"]
        metrics = [
            {"dataset": name, "split": "test", "name": "squared error", "value": value}
            for name, value in {"none of these clips": None, "N6": found, "N3": 3 * found}.items()
        ]
        metrics.append({"dataset": "N6", "split": "test", "name": "PSNR", "value": 30.0})
        constant = [{"constant answer": "an empty image", "PSNR": 11.0}, {"constant answer": "a mean", "PSNR": 12.0}]
        return {"metrics": metrics, "clips_measured": 5, "breakdown": {"constant answers": constant}}

    monkeypatch.setattr(sys.modules["robust_recipe"], "evaluate", evaluate_twice)
    found = check_robustness_on_recipe(model, recipe, perturbations="gaussian_noise", levels=2).result
    names = ["squared error (N6, test)", "squared error (N3, test)", "PSNR"]
    assert list(found.measures) == names
    assert [one.kind for one in found.measures.values()] == ["error", "error", "number"]
    assert found.measures["PSNR"].lines == {"an empty image": 11.0}
    one, other, _ = found.curves["gaussian_noise"].mean.values()
    assert torch.allclose(3 * one, other)
    assert not torch.allclose(one, one[:1])


def test_clips_on_which_nothing_can_be_measured_are_told(model, recipe, monkeypatch):
    def evaluate_nothing(network, device, clips=None):
        evaluate(network, device, clips)
        metric = {"dataset": "N6", "split": "test", "name": "squared error", "value": None}
        return {"metrics": [metric], "clips_measured": 1, "breakdown": {}}

    monkeypatch.setattr(sys.modules["robust_recipe"], "evaluate", evaluate_nothing)
    with pytest.raises(UsageError, match="measures nothing on so few clips"):
        check_robustness_on_recipe(model, recipe, clips=1)


def test_a_module_from_elsewhere_has_no_recipe(nets, recipe):
    with pytest.raises(UsageError, match=r"did not come from zoo\.load"):
        check_robustness_on_recipe(nets.TwoHeads(), recipe)
