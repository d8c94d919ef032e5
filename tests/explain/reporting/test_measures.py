"""A measure of a plugin is one function and one row: results, pages, JSON and the command show it."""

from __future__ import annotations

import json
import math
import sys
import types

import pytest
import torch
from click.testing import CliRunner

import explain
from explain.cli import commands
from explain.faithfulness.checking import Effort, check_all
from explain.faithfulness.measures import Test
from explain.reporting.reading import see
from zoo.errors import UsageError
from zoo.registry import plugins

CODE = """
from explain.authoring import Test
from zoo import hookimpl


@hookimpl
def explain_measures():
    return [
        Test(name="brightness", title="bright <share>", run=f"{__name__}:run", bounds=(0.0, 1.0), better="higher"%s)
    ]


def run(trial):
    size, light = trial.attribution.map.abs().flatten(1), trial.subject.clips.mean(dim=1).flatten(1)
    bright = light > light.median(dim=1, keepdim=True).values
    return (size * bright).sum(dim=1) / size.sum(dim=1)%s
"""
EFFORT = Effort(steps=2, draws=2, depths=1, redraws=1, boxes=2, neighbours=1, every_kind=False)


def test_a_row_and_a_function_are_enough(plugin, model, clip, tmp_path, least_effort):
    plugin("bright", CODE % ("", ""))
    report = explain.report(model, clip, tmp_path / "one", methods=["saliency"], sections=["attributions"])
    (method,) = report.data["sections"]["attributions"]["methods"]
    share = method["faithfulness"]["brightness"]
    assert 0 < share < 1
    assert "Its bright &lt;share&gt; is" in report.page.read_text(encoding="utf-8")
    batch = see(model, clip)[2]
    attribution = explain.attribute(model, batch, method="saliency")
    (result,) = check_all(model, batch, [attribution], EFFORT)
    assert list(result.measures) == ["infidelity", "sensitivity", "brightness"]
    assert float(result.measures["brightness"]) == pytest.approx(share, rel=1e-5)
    assert "brightness" not in result.verdict.parts
    assert "bright &lt;share&gt;" in result._repr_html_()
    result.save(tmp_path / "kept")
    assert explain.Faithfulness.load(tmp_path / "kept").record() == result.record()


def test_many_clips_have_its_mean_with_an_interval(plugin, model, folder_of_clips, tmp_path, least_effort):
    plugin("bright", CODE % ("", ""))
    report = explain.report(model, folder_of_clips, tmp_path / "many", methods=["saliency"], sections=["faithfulness"])
    (method,) = report.data["sections"]["faithfulness"]["methods"]
    assert method["brightness"]["clips"] == 10
    assert '<th scope="col">bright &lt;share&gt;</th>' in report.page.read_text(encoding="utf-8")


def test_the_command_has_a_column(monkeypatch):
    row = Test(name="brightness", title="bright", run="tests_bright:run")
    module = types.ModuleType("tests_bright")
    module.run = lambda trial: torch.full((len(trial.subject.value),), 0.25)
    monkeypatch.setitem(sys.modules, "tests_bright", module)
    collect = plugins.collect
    monkeypatch.setattr(
        plugins, "collect", lambda hook, *a, **k: [("p", row)] if hook == "explain_measures" else collect(hook, *a, **k)
    )
    words = [
        "faithfulness",
        "conv3d",
        "sample:blinking_mnist/3",
        "--method",
        "saliency",
        "--steps",
        "2",
        "--draws",
        "2",
    ]
    done = CliRunner().invoke(commands, [*words, "--depths", "1", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "bright" in done.stdout.splitlines()[0]
    assert "0.25" in done.stdout
    done = CliRunner().invoke(commands, [*words, "--depths", "1", "--device", "cpu", "--json"])
    assert json.loads(done.stdout)[0]["brightness"] == 0.25


@pytest.mark.parametrize(
    ("thresholds", "word"), [((0.0, -1.0), "passes"), ((1.0, 0.99), "flagged"), ((1.0, 0.0), "inconclusive")]
)
def test_thresholds_count_in_the_verdict(plugin, model, clip, thresholds, word):
    plugin("bright", CODE % (f", thresholds={thresholds}", ""))
    batch = see(model, clip)[2]
    (result,) = check_all(model, batch, [explain.attribute(model, batch, method="saliency")], EFFORT)
    assert result.verdict.parts["brightness"][0] == word


@pytest.mark.parametrize(("broken", "said"), [("[:0]", "expected one number"), (" / 0 .no", "AttributeError")])
def test_one_that_does_not_work_is_named_and_the_others_go_on(plugin, model, clip, broken, said):
    plugin("bright", CODE % ("", broken))
    batch = see(model, clip)[2]
    (result,) = check_all(model, batch, [explain.attribute(model, batch, method="saliency")], EFFORT)
    assert list(result.measures) == ["infidelity", "sensitivity"]
    assert said in result.missing["brightness"] or "SyntaxError" in result.missing["brightness"]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "verdict"},
        {"name": "Not Snake"},
        {"better": "more"},
        {"bounds": (1.0, 0.0)},
        {"bounds": (math.nan, 1.0)},
        {"thresholds": (1.0, 0.5)},
        {"thresholds": (0.5, 1.0), "better": "higher"},
        {"sentence": "{} of {}"},
    ],
)
def test_rows_that_cannot_be_are_refused(fields):
    with pytest.raises(UsageError):
        Test(**{"name": "mine", "title": "mine", "run": "a:b", **fields})
