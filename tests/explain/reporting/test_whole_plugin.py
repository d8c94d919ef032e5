"""A plugin written from plugins/README.md alone: a method with an option, a measure, a perturbation and a section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import explain
from explain.faithfulness.checking import Effort, check_all
from explain.reporting.reading import see
from explain.robustness.perturbations import all_perturbations
from zoo.errors import UnknownNameError, UsageError

PAGE = (Path(__file__).parents[3] / "plugins" / "README.md").read_text(encoding="utf-8")
EFFORT = Effort(steps=2, draws=2, depths=1, redraws=1, boxes=2, neighbours=1, every_kind=False)

ROWS = """
from explain import Method, Section
from explain.authoring import Content, Raw, Test, option
from dataclasses import dataclass
from zoo import hookimpl


@hookimpl
def explain_methods():
    return [Method(
        name="mine", summary="Powers of gradients.", run=f"{__name__}:attribute", options=f"{__name__}:Mine",
        source="this test", reduction="sum",
    )]


@hookimpl
def explain_measures():
    return [Test(name="bright", title="bright share", run=f"{__name__}:run", bounds=(0.0, 1.0), better="higher")]


@hookimpl
def explain_sections(context):
    return [Section(name="brightness", title="Brightness", one=f"{__name__}:build")]


def attribute(job):
    import torch

    batch = job.batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(job.score(batch, job.samples).sum(), batch)
    return Raw(values=gradient.abs() ** job.options.power)


def build(context):
    mean = float(context.batch.mean())
    return Content(html=f"<p>{mean:.3g}</p>", data={"mean": mean})
"""


def block(having):
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL) if having in code]
    return code


@pytest.fixture
def of_the_page(plugin):
    plugin("whole", ROWS + block("class Mine:") + block("def run(trial)") + block("def explain_perturbations"))


def test_its_method_takes_its_option(of_the_page, model, clip):
    batch = see(model, clip)[2]
    once, twice = (explain.attribute(model, batch, method="mine", power=power) for power in (1, 2))
    torch.testing.assert_close(twice.raw, once.raw**2)
    assert twice.settings["power"] == 2
    with pytest.raises(UnknownNameError, match=r"unknown option .*pover.*power"):
        explain.attribute(model, batch, method="mine", pover=2)
    with pytest.raises(UsageError, match=r"power.*-1"):
        explain.attribute(model, batch, method="mine", power=-1)


def test_its_measure_is_measured_of_its_method(of_the_page, model, clip):
    batch = see(model, clip)[2]
    (result,) = check_all(model, batch, [explain.attribute(model, batch, method="mine", power=0.5)], EFFORT)
    assert 0 <= float(result.measures["bright"]) <= 1


def test_its_perturbation_is_one_like_others(of_the_page, model, clip):
    assert [one.name for one in all_perturbations()][-1] == "darkness"
    batch = see(model, clip)[2]
    result = explain.check_robustness(model, batch, perturbations={"darkness": [0.5, 1.0], "missing_square": [4]})
    assert set(result.curves) == {"darkness", "missing_square"}
    assert result.curves["darkness"].levels.tolist() == [0, 0.5, 1]


def test_all_stand_on_one_page(of_the_page, model, clip, tmp_path, least_effort):
    sections = ["attributions", "robustness", "brightness"]
    report = explain.report(model, clip, tmp_path / "page", methods=["mine", "saliency"], sections=sections)
    assert report.data["sections"]["brightness"]["mean"] == pytest.approx(float(see(model, clip)[2].mean()))
    first = report.data["sections"]["attributions"]["methods"][0]
    assert first["method"] == "mine"
    assert "bright" in first["faithfulness"]
