import dataclasses
import itertools
import json
import math
import resource
import signal
import statistics
import sys
import types

import optuna
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from zoo import cli
from zoo.entries.recipes import Search, Span
from zoo.errors import DivergedError, OutputError, TrainingError, UnknownNameError, UsageError
from zoo.registry import catalog
from zoo.training import Recipe, Stage, checkpoints
from zoo.training.search import FIGURE, RESULTS, STORAGE, applied, search

#: One with which every kind is drawn, and some plain trial learns.
SEED = 1
SPACE = {
    "arguments.width": Span(low=1, high=4),
    "first.learning_rate": Span(low=1e-4, high=0.1, log=True),
    "first.batch_size": Span(low=4, high=16),
    "first.optimizer": Span(choices=("Adam", "Adamax", "NAdam", "RAdam")),
    "first.arguments.kind": Span(choices=("plain", "silent", "astray")),
}
#: The squared error of saying 0 to the toy's test set.
ZERO = float(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)).sum(1).square().mean())


@pytest.fixture
def toy(monkeypatch):
    """The module `toy_search` that the recipe names: "silent" learns nothing, "astray" loses its numbers."""
    module = types.ModuleType("toy_search")

    def data(model, stage, seed, device):
        def batch_at(step):
            if (seed, step) == module.stop_at:
                raise module.stop_with()
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
        if module.spoil:
            found = module.spoil * found
        error = float((found - x.sum(1, keepdim=True)).square().mean())
        zero = float(x.sum(1).square().mean())
        metrics = {"error": error, "root": error**0.5}
        named = [{"dataset": "toy", "split": "test", "name": name, "value": value} for name, value in metrics.items()]
        constant = [{"constant answer": "zero", "error": zero}] if module.has_constant else []
        return {"metrics": named, "breakdown": {"constant answers": constant}}

    def build(width):
        network = nn.Sequential(nn.Linear(3, width), nn.Linear(width, 1))
        network.silent = False
        return network

    def export(network):
        network.silent = bool(sum(one.abs().sum() for one in network.parameters()) < 1e-2)
        return network

    module.stop_at, module.stop_with = None, KeyboardInterrupt
    module.spoil, module.has_constant = None, True
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


def test_what_is_drawn_lies_in_its_span_and_depends_on_the_seed_and_the_trials_before(toy, tmp_path):
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
    found = search(recipe(), tmp_path, trials=9, seed=SEED, report=told.append)
    kinds = [one.settings["first.arguments.kind"] for one in found.trials]
    assert set(kinds) == {"plain", "silent", "astray"}
    for one, kind in zip(found.trials, kinds, strict=True):
        assert (one.status == "failed") == (kind == "astray")
        assert ("is no number any more" in (one.error or "")) == (kind == "astray")
        assert one.collapsed == (one.status == "finished" and one.metrics["error"] >= ZERO)
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
    assert not list(tmp_path.glob("*/checkpoint.safetensors"))


@pytest.mark.parametrize("has_constant", [True, False])
def test_more_can_be_better(toy, tmp_path, has_constant):
    toy.has_constant = has_constant
    of = dataclasses.replace(only(learning_rate=Span(low=1e-5, high=0.05)).search, maximize=True)
    found = search(recipe(search=of), tmp_path, trials=3)
    errors = [one.metrics["error"] for one in found.trials]
    assert max(errors) < 3.5
    assert [one.collapsed for one in found.trials] == [has_constant and error <= ZERO for error in errors]
    if not has_constant:
        assert errors[found.best] == max(errors)
        for name, own in {"error": errors, "root": [one.metrics["root"] for one in found.trials]}.items():
            spread = found.groups[0].spread[name]
            assert (spread["best"], spread["worst"]) == (max(own), min(own))


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ({"spoil": math.nan}, "error is no finite number"),
        (
            {"stop_at": (0, 3), "stop_with": lambda: RuntimeError("can't allocate memory: 9 GiB")},
            "memory ran out",
        ),
    ],
)
def test_a_trial_that_gives_no_number_or_needs_too_much_memory_fails_alone(toy, tmp_path, problem, said):
    for name, value in problem.items():
        setattr(toy, name, value)
    first = search(only(), tmp_path, trials=1)
    assert first.trials[0].status == "failed"
    assert said in first.trials[0].error
    assert first.best is None
    assert first.groups[0].failed == 1
    toy.spoil = toy.stop_at = None
    found = search(only(), tmp_path, trials=2)
    assert [one.status for one in found.trials] == ["failed", "finished"]
    assert found.best == 1
    json.loads((tmp_path / RESULTS).read_text(), parse_constant=pytest.fail)


def test_a_trial_behind_the_median_of_those_before_is_pruned_on_the_way(toy, tmp_path):
    kinds = Span(choices=("plain", "silent"))
    of = dataclasses.replace(recipe().search, space={"first.arguments.kind": kinds})
    lines = []
    found = search(recipe(search=of), tmp_path, trials=9, report=lines.append)
    study = optuna.load_study(study_name="toy.tag", storage=f"sqlite:///{tmp_path / STORAGE}")
    for at, (one, stored) in enumerate(zip(found.trials, study.trials, strict=True)):
        behind = []
        for rung, value in stored.intermediate_values.items():
            before = [other for other in study.trials[:at] if other.state.name == "COMPLETE"]
            behind.append(len(before) >= 5 and value > statistics.median(o.intermediate_values[rung] for o in before))
        assert one.status == ("pruned" if any(behind) else "finished")
        assert not any(behind[:-1])  # it ends at the first
        if one.status == "pruned":
            assert not one.metrics
            assert not list((tmp_path / f"trial-{one.number:04d}").glob("*.safetensors"))
    pruned = sum(one.status == "pruned" for one in found.trials)
    assert pruned
    assert sum(group.pruned for group in found.groups) == pruned
    assert " pruned" in (tmp_path / FIGURE).read_text()
    assert len(lines) == 9
    again = search(recipe(search=of), tmp_path, trials=9, report=lines.append)
    assert without_times(again) == without_times(found)
    assert len(lines) == 9  # nothing was trained again


def test_settings_gather_where_trials_were_good_also_in_a_search_that_was_stopped(toy, tmp_path):
    of = dataclasses.replace(only(learning_rate=Span(low=1e-5, high=0.05, log=True)).search)
    given = recipe(search=of)
    whole = search(given, tmp_path / "whole", trials=14)
    rates = [one.settings["first.learning_rate"] for one in whole.trials]
    assert statistics.median(rates[10:]) > 3 * statistics.median(rates[:10])  # the first ten are drawn at random
    for trials in (4, 12, 14):
        parts = search(given, tmp_path / "parts", trials=trials)
    assert without_times(parts) == without_times(whole)


def test_another_error_of_a_trial_is_shown(toy, tmp_path):
    toy.stop_at, toy.stop_with = (0, 3), lambda: RuntimeError("a mistake of the plugin")
    with pytest.raises(RuntimeError, match="a mistake of the plugin"):
        search(only(), tmp_path, trials=1)


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
    with pytest.raises(TrainingError, match=r"a search of another toy\.tag \(--seed 0, now 4\)"):
        search(only(), tmp_path, trials=1, seed=4)
    with pytest.raises(TrainingError, match=r"a search of another toy\.tag \(search\)"):
        search(recipe(), tmp_path, trials=1)
    with pytest.raises(TrainingError, match=r"a search of another toy\.tag \(--evaluate-clips all, now 3\)"):
        search(only(), tmp_path, trials=1, evaluate_clips=3)
    record = tmp_path / "trial-0000/toy.tag.json"
    whole = record.read_text()
    for damage in (whole[:40], "[]", '{"metrics": []}'):
        record.write_text(damage)
        with pytest.raises(
            TrainingError, match=r"trial-0000/toy\.tag\.json, the record of a trial .* is missing or damaged"
        ):
            search(only(), tmp_path, trials=1)
    record.write_text(whole)
    pages = (tmp_path / STORAGE).read_bytes()
    for damage in (b"no database", pages[:4096] + b"x" * (len(pages) - 4096)):
        (tmp_path / STORAGE).write_bytes(damage)
        with pytest.raises(
            TrainingError, match=r"trials\.db is not the storage of a search, or damaged; choose another"
        ):
            search(only(), tmp_path, trials=1)


def test_a_lost_storage_is_made_anew_and_whole_trials_are_kept(toy, tmp_path):
    found = search(only(), tmp_path, trials=2)
    (tmp_path / STORAGE).unlink()
    toy.stop_at = (0, 0)  # nothing is trained again
    assert without_times(search(only(), tmp_path, trials=2)) == without_times(found)


def test_two_searches_at_once_do_not_share_a_folder(toy, tmp_path):
    with checkpoints.held(tmp_path), pytest.raises(TrainingError, match="another run is training in"):
        search(only(), tmp_path, trials=1)


@pytest.mark.parametrize("early", [True, False])
def test_a_full_disk_is_told_and_the_search_goes_on_when_there_is_room(toy, tmp_path, early):
    usual, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, usual[1]))
        return DivergedError("and no room to say so")

    toy.stop_at, toy.stop_with = (0, 0), fill
    try:
        if early:
            fill()
        with pytest.raises(OutputError, match=r"cannot write .*trials\.db: "):
            search(only(), tmp_path, trials=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, handler)
    toy.stop_at = None
    assert search(only(), tmp_path, trials=1).trials[0].status == "finished"


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


def test_a_search_that_ranks_or_compares_nothing_is_refused():
    space = {"first.batch_size": Span(low=1, high=2)}
    with pytest.raises(ValueError, match=r"compares a setting of choices \(\[\]\), not 'first\.batch_size'"):
        Search(space=space, metrics=("error",), compared="first.batch_size")
    with pytest.raises(ValueError, match="one metric or more"):
        Search(space=SPACE, metrics=(), compared="first.arguments.kind")


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
