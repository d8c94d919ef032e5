import dataclasses
import itertools
import json
import math
import signal
import sys
import types

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from zoo import catalog, cli
from zoo.errors import TrainingError, UnknownNameError, UsageError
from zoo.training import Recipe, Stage
from zoo.training.recipes import Search, Span
from zoo.training.search import FIGURE, RESULTS, STORAGE, applied, search

SPACE = {
    "arguments.width": Span(low=1, high=4),
    "first.learning_rate": Span(low=1e-4, high=0.1, log=True),
    "first.batch_size": Span(low=4, high=16),
    "first.optimizer": Span(choices=("Adam", "Adamax", "NAdam", "RAdam")),
    "first.arguments.kind": Span(choices=("plain", "silent", "astray")),
}


@pytest.fixture
def toy(monkeypatch):
    """The module `toy_search` that the recipe names: "silent" learns nothing, "astray" loses its numbers."""
    module = types.ModuleType("toy_search")

    def data(model, stage, seed, device):
        def batch_at(step):
            if (seed, step) == module.stop_at:
                raise KeyboardInterrupt
            x = torch.randn(stage.batch_size, 3, generator=torch.Generator().manual_seed(seed * 1000 + step))
            return {"x": x, "y": x.sum(1, keepdim=True)}

        return batch_at

    def loss(model, batch, stage):
        kind = stage.arguments["kind"]
        error = (model(batch["x"]) - batch["y"]).square().mean()
        if kind == "silent":
            error = sum(one.square().sum() for one in model.parameters())
        return error * (math.nan if kind == "astray" else 1), {}

    def evaluate(network, device, clips=None):
        x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
        found = network(x).detach()
        if network.silent:
            found = torch.zeros_like(found)
        error = float((found - x.sum(1, keepdim=True)).square().mean())
        zero = float(x.sum(1).square().mean())
        metrics = {"error": error, "root": error**0.5}
        named = [{"dataset": "toy", "split": "test", "name": name, "value": value} for name, value in metrics.items()]
        return {"metrics": named, "breakdown": {"constant answers": [{"constant answer": "zero", "error": zero}]}}

    def build(width):
        network = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))
        network.silent = False
        return network

    def export(network):
        network.silent = bool(sum(one.abs().sum() for one in network.parameters()) < 1e-2)
        return network

    module.stop_at = None
    module.data, module.loss, module.evaluate, module.build, module.export = data, loss, evaluate, build, export
    module.example = lambda: torch.ones(1, 3)
    monkeypatch.setitem(sys.modules, "toy_search", module)
    return module


def recipe(**changes):
    stage = Stage(
        name="first",
        steps=60,
        batch_size=8,
        learning_rate=0.05,
        data="toy_search:data",
        loss="toy_search:loss",
        arguments={"kind": "plain"},
        autocast=False,
    )
    given = {
        "name": "toy.tag",
        "arguments": {"width": 2},
        "stages": (stage,),
        "search": Search(space=SPACE, metrics=("error", "root"), compared="first.arguments.kind"),
        **changes,
    }
    parts = ("build", "export", "evaluate", "example")
    return Recipe(**given, **{part: f"toy_search:{part}" for part in parts})


def only(**spans):
    """The recipe with a few settings alone."""
    space = {"first.arguments.kind": Span(choices=("plain",)), **{f"first.{name}": one for name, one in spans.items()}}
    return recipe(search=dataclasses.replace(recipe().search, space=space))


def without_times(found):
    return [dataclasses.replace(one, seconds=None) for one in found.trials]


def test_settings_stand_where_their_places_say_and_clips_seen_stay(toy):
    drawn = {
        "arguments.width": 3,
        "first.learning_rate": 0.01,
        "first.batch_size": 16,
        "first.optimizer": "RAdam",
        "first.arguments.kind": "silent",
    }
    found = applied(recipe(), drawn, 2)
    (stage,) = found.stages
    assert found.arguments == {"width": 3}
    assert found.header == {"arguments": {"width": 3}}
    assert (stage.learning_rate, stage.optimizer, stage.arguments) == (0.01, "RAdam", {"kind": "silent"})
    assert (stage.batch_size, stage.steps, found.clips) == (16, 30, recipe().clips)
    assert found.seed != applied(recipe(), drawn, 3).seed
    with pytest.raises(UnknownNameError, match="unknown setting of stage 'first' 'rate'"):
        applied(recipe(), {"first.rate": 1})
    with pytest.raises(UnknownNameError, match=r"unknown place of a setting 'second\.steps'"):
        applied(recipe(), {"second.steps": 1})


def test_what_is_drawn_lies_in_its_span_and_depends_on_seed_and_number_alone(toy, tmp_path):
    space = {**SPACE, "first.arguments.kind": Span(choices=("plain",))}
    short = recipe(
        search=dataclasses.replace(recipe().search, space=space),
        stages=(dataclasses.replace(recipe().stages[0], steps=1),),
    )
    found = search(short, tmp_path / "four", trials=4)
    for place, span in space.items():
        values = [one.settings[place] for one in found.trials]
        if span.choices:
            assert set(values) <= set(span.choices)
        else:
            assert all(span.low <= value <= span.high for value in values)
            assert len(set(values)) > 1
    assert all(isinstance(one.settings["arguments.width"], int) for one in found.trials)
    two = search(short, tmp_path / "two", trials=2)
    assert without_times(two) == without_times(found)[:2]
    other = search(short, tmp_path / "other", trials=1, seed=1)
    assert other.trials[0].settings != found.trials[0].settings
    assert without_times(search(short, tmp_path / "two", trials=4)) == without_times(found)  # two more


def test_trials_that_say_nothing_or_went_astray_are_counted_and_left_out(toy, tmp_path):
    told = []
    found = search(recipe(), tmp_path, trials=9, report=told.append)
    kinds = [one.settings["first.arguments.kind"] for one in found.trials]
    assert set(kinds) == {"plain", "silent", "astray"}
    for one, kind in zip(found.trials, kinds, strict=True):
        assert one.status == ("failed" if kind == "astray" else "finished")
        assert ("is no number any more" in (one.error or "")) == (kind == "astray")
        assert one.collapsed <= (kind == "silent") or one.metrics["error"] > 1
    groups = {group.value: group for group in found.groups}
    assert groups["astray"].failed == kinds.count("astray")
    assert groups["silent"].finished == kinds.count("silent")
    assert sum(one.collapsed for one in found.trials) >= 1
    good = [one for one in found.trials if one.status == "finished" and not one.collapsed]
    assert found.best == min(good, key=lambda one: one.metrics["error"]).number
    own = sorted(one.metrics["error"] for one in good if one.settings["first.arguments.kind"] == "plain")
    spread = groups["plain"].spread["error"]
    assert (spread["best"], spread["worst"]) == (own[0], own[-1])
    assert spread["median"] == pytest.approx(torch.tensor(own, dtype=torch.float64).quantile(0.5).item())
    assert "error" not in groups["astray"].spread
    written = json.loads((tmp_path / RESULTS).read_text())
    assert written == json.loads(json.dumps(dataclasses.asdict(found)))
    drawn = (tmp_path / FIGURE).read_text()
    assert "<svg" in drawn
    assert f"{kinds.count('astray')} failed" in drawn
    assert len(told) == 9
    assert not list(tmp_path.glob("*/checkpoint.safetensors")) or all(
        one.status == "failed"
        for one in found.trials
        if (tmp_path / f"trial-{one.number:04d}/checkpoint.safetensors").exists()
    )


def test_more_can_be_better(toy, tmp_path):
    of = dataclasses.replace(only().search, maximize=True)
    found = search(recipe(search=of), tmp_path, trials=2)
    assert all(one.collapsed == (one.metrics["error"] <= 3) for one in found.trials) or found.best is not None
    spread = found.groups[0].spread.get("error")
    assert spread is None or spread["best"] >= spread["worst"]


def test_a_search_that_was_stopped_in_a_trial_goes_on_with_it(toy, tmp_path):
    whole = search(only(), tmp_path / "whole", trials=3)
    toy.stop_at = (1_000_000, 30)
    with pytest.raises(KeyboardInterrupt):
        search(only(), tmp_path / "stopped", trials=3)
    toy.stop_at = None
    again = search(only(), tmp_path / "stopped", trials=3)
    assert without_times(again) == without_times(whole)
    stopped = search(only(), tmp_path / "minutes", trials=3, minutes=0)
    assert [one.status for one in stopped.trials] == ["stopped"]
    search(only(), tmp_path / "minutes", trials=1)
    stopped = search(only(), tmp_path / "minutes", trials=3, minutes=0)
    assert [one.status for one in stopped.trials] == ["finished", "stopped"]
    assert without_times(search(only(), tmp_path / "minutes", trials=3)) == without_times(whole)


def test_a_search_killed_at_any_moment_goes_on(processes, tmp_path):
    command = ("search", "regression.searched", "--trials", "2", "--json")
    whole = processes.run("command", *command, "--out", str(tmp_path / "whole"))
    assert whole.status == 0, whole.err
    expected = json.loads(whole.out)["trials"]
    moments = [("after", "checkpoint.safetensors", 2), ("before", RESULTS, 1)]
    for at, (moment, name, count) in enumerate(moments):
        arguments = (*command, "--out", str(tmp_path / str(at)))
        assert processes.run("command_killed_at", moment, name, count, *arguments).status == -signal.SIGKILL
        again = processes.run("command", *arguments)
        assert again.status == 0, again.err
        for one, other in itertools.zip_longest(json.loads(again.out)["trials"], expected):
            assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_folder_of_another_search_is_refused(toy, tmp_path):
    search(only(), tmp_path, trials=1)
    with pytest.raises(TrainingError, match=r"holds a search of toy\.tag, not of toy\.other; choose another folder"):
        search(dataclasses.replace(only(), name="toy.other"), tmp_path, trials=1)
    with pytest.raises(TrainingError, match=r"a search of another toy\.tag \(seed\)"):
        search(only(), tmp_path, trials=1, seed=4)
    with pytest.raises(TrainingError, match=r"a search of another toy\.tag \(search\)"):
        search(recipe(), tmp_path, trials=1)
    with pytest.raises(TrainingError, match=r"a search of another toy\.tag \(clips\)"):
        search(only(), tmp_path, trials=1, evaluate_clips=3)
    (tmp_path / STORAGE).write_text("no database")
    with pytest.raises(TrainingError, match="is no storage of a search"):
        search(only(), tmp_path, trials=1)


def test_a_recipe_that_names_nothing_to_vary_is_told(toy, tmp_path):
    with pytest.raises(UsageError, match=r"toy\.tag does not say what a search may vary"):
        search(recipe(search=None), tmp_path, trials=1)
    assert not list(tmp_path.iterdir())
    lost = dataclasses.replace(only().search, metrics=("loss",))
    with pytest.raises(UsageError, match="gives no metric 'loss'"):
        search(recipe(search=lost), tmp_path, trials=1)


def test_without_optuna_the_command_says_what_to_install(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'motion-zoo\[search\]'"):
        search(recipe(), tmp_path, trials=1)


@pytest.mark.parametrize("given", [{}, {"low": 1}, {"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}])
def test_a_span_that_is_none_is_refused(given):
    with pytest.raises(ValueError, match="a span"):
        Span(**given)


def test_the_command_prints_groups_and_the_best(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "recipe", lambda name: only(learning_rate=Span(low=0.01, high=0.1)))
    arguments = ["search", "toy.tag", "--trials", "2", "--out", str(tmp_path / "out")]
    said = CliRunner().invoke(cli.commands, arguments)
    assert said.exit_code == 0, said.output
    assert "best: trial " in said.stdout
    assert "first.learning_rate: 0.0" in said.stdout
    data = json.loads(CliRunner().invoke(cli.commands, [*arguments, "--json"]).stdout)
    assert [one["number"] for one in data["trials"]] == [0, 1]
