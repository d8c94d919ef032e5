import json
import sys
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from zoo import WeightsEntry, cli
from zoo.errors import UnknownNameError
from zoo.registry import catalog
from zoo.training import runs
from zoo.weights.digests import sha256_of


@pytest.fixture
def run(regression, tmp_path, capsys, monkeypatch):
    """Runs `zoo train --device cpu` in an empty folder; gives exit status, stdout as JSON, and stderr's messages."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["zoo", "train", "--device", "cpu", "--json", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith(("error:", "Error:", "run "))]
        return ended.value.code, json.loads(out or "null"), lines

    return call


def test_a_run_in_pieces_is_that_of_one_piece(run, tmp_path):
    status, whole, _ = run("regression.plain", "--out", "whole")
    assert (status, whole["status"]) == (0, "finished")
    status, found, (hint,) = run("regression.plain", "--minutes", "0")
    assert (status, found["status"], found["weights"]) == (0, "stopped", None)
    assert (
        found["position"]["checkpoint_bytes"]
        == (tmp_path / "runs/regression.plain/checkpoint.safetensors").stat().st_size
    )
    assert hint == "run the same command again to go on"
    places = []
    while found["status"] == "stopped":
        places.append((found["position"]["stage"], found["position"]["step"]))
        _, found, _ = run("regression.plain", "--minutes", "0")
    assert places == [
        *[("first", step) for step in range(1, 7)],
        *[("second", step) for step in range(1, 5)],
        (None, 0),  # recalibrated, to be measured
    ]
    assert (tmp_path / found["weights"]).read_bytes() == (tmp_path / whole["weights"]).read_bytes()


def test_several_recipes_are_trained_a_failure_is_reported_and_what_is_finished_is_left(run, tmp_path):
    status, first, lines = run("regression.empty", "regression.[ps][lt]*", "regression.plain", "--out", "all")
    assert status == 1
    assert [(one["recipe"], one["status"]) for one in first] == [
        ("regression.empty", "failed"),
        ("regression.plain", "finished"),
        ("regression.still", "finished"),
    ]
    assert lines == ["error: regression.empty: the numbers are missing"]
    assert first[0]["error"] == "the numbers are missing"
    written = tmp_path / "all/regression.plain/regression.plain.safetensors"
    assert (tmp_path / first[1]["weights"]).samefile(written)
    before = written.stat().st_mtime_ns
    status, second, _ = run("regression.plain", "regression.still", "--out", "all")
    assert (status, [one["status"] for one in second]) == (0, ["already finished"] * 2)
    assert written.stat().st_mtime_ns == before


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_finished_run_is_only_measured_again_where_more_clips_are_asked_for(run, tmp_path, checkpoint):
    folder = tmp_path / "runs/regression.plain"
    path = folder / "regression.plain.json"
    assert run("regression.plain", "--evaluate-clips", "5")[1]["status"] == "finished"
    if not checkpoint:
        (folder / "checkpoint.safetensors").unlink()
    before = {one.name: one.stat().st_mtime_ns for one in folder.iterdir() if one != path}
    first = json.loads(path.read_text())
    assert (first["clips_asked"], first["clips_measured"]) == (5, 5)
    for fewer in (("--evaluate-clips", "4"), ("--evaluate-clips", "5"), ("--until", "first")):
        assert run("regression.plain", *fewer)[1]["status"] == "already finished"
    status, found, _ = run("regression.plain", "--evaluate-clips", "6", "--minutes", "0")
    assert (status, found["status"], tmp_path / found["weights"]) == (0, "finished", path.with_suffix(".safetensors"))
    assert json.loads(path.read_text()) == {**first, "clips_asked": 6, "clips_measured": 6}
    assert run("regression.plain")[1]["status"] == "finished"
    assert json.loads(path.read_text()) == {**first, "clips_asked": None, "clips_measured": None}
    assert run("regression.plain")[1]["status"] == "already finished"
    assert {one.name: one.stat().st_mtime_ns for one in folder.iterdir() if one != path} == before


def test_minutes_are_those_of_the_whole_command(run):
    status, found, lines = run("regression.plain", "regression.still", "--minutes", "0")
    assert (status, [one["status"] for one in found]) == (0, ["stopped", "waiting"])
    assert lines == ["run the same command again to go on"]
    _, found, lines = run("regression.plain", "--minutes", "0", "--until", "first")
    assert (found["status"], found["position"]["step"]) == ("stopped", 2)  # nowhere near the end of that stage
    assert lines == ["run the same command again to go on, and without --until beyond its stage"]


@pytest.mark.parametrize(("recipe", "status", "last"), [("ctrl_c", 130, ["error: interrupted"]), ("ended", 143, [])])
def test_a_signal_ends_a_run_with_how_far_it_came(processes, tmp_path, recipe, status, last):
    ended = processes.run("command", "train", f"regression.{recipe}", "--out", str(tmp_path / "out"), "--device", "cpu")
    assert (ended.status, ended.out) == (status, "")
    size = (tmp_path / "out/checkpoint.safetensors").stat().st_size / 1e6
    line = f"stopped: step 4 of 6 of stage 'first'; checkpoint {size:.1f} MB; run the same command again to go on"
    said = [one for one in ended.err.splitlines() if one.startswith(("stopped", "error"))]
    assert said == [line, *last]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("regression.plian",), 2, "unknown recipe 'regression.plian'; did you mean 'regression.plain'"),
        (("nothing*",), 2, "no recipe matches 'nothing*'; known: regression.plain, "),
        (("regresso*",), 2, "no recipe matches 'regresso*'; did you mean 'regression."),
        (("regresion.pl*",), 2, "no recipe matches 'regresion.pl*'; did you mean 'regression.plain'"),
        (("regression.plain", "--evaluate-clips", "abc"), 2, "'abc' is not a valid whole number"),
        (("regression.plain", "--minutes", "abc"), 2, "'abc' is not a valid number"),
        (("regression.*", "--from-weights", "x.safetensors"), 2, "--from-weights starts one recipe"),
        (("regression.plain", "--from-weights", "x.safetensors"), 1, "x.safetensors cannot be read"),
        (("regression.plain", "--from-weights", "conv9"), 2, "unknown model 'conv9'"),
        (("regression.plain", "--minutes", "nan"), 2, "Invalid value for '--minutes': 'nan' is not a number"),
        (("regression.plain", "--checkpoint-every", "nan"), 2, "'nan' is not a number"),
        (("regression.plain", "--until", "frist"), 2, "unknown stage 'frist'; did you mean 'first'"),
        (("regression.plain", "--minutes", "-1"), 2, "-1.0 is not in the range"),
        (("regression.empty",), 1, "the numbers are missing"),
        (("regression.plain", "--out", "file"), 1, "file is a file; expected a folder"),
        ((), 2, "Missing argument 'RECIPE...'"),
    ],
)
def test_a_mistake_is_one_message(run, tmp_path, arguments, status, message):
    (tmp_path / "file").write_text("")
    found, out, (line,) = run(*arguments)
    assert (found, out) == (status, None)
    assert message in line


def test_wildcards_choose_recipes_by_architecture_and_tag_in_natural_order(regression, monkeypatch):
    names = ["net10.a", "net2.a", "net2.b", "other.a"]
    known = {name: replace(regression.RECIPES[0], name=name) for name in names}
    monkeypatch.setattr(catalog, "recipes", lambda: known)
    assert [one.name for one in runs.choose(["net?", "net*", "other.a", "*.b"])] == [
        "net2.a",
        "net2.b",
        "net10.a",
        "other.a",
    ]
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'net2'"):
        runs.choose(["net2"])


def test_a_run_begins_from_named_weights_and_goes_on_with_the_same_command(run, regression, tmp_path, monkeypatch):
    start = regression.build().network.float().state_dict()
    start["2.bias"].fill_(40.0)
    save_file(start, tmp_path / "start.safetensors")
    digest = sha256_of(tmp_path / "start.safetensors")
    entry = WeightsEntry(
        tag="tag",
        source=str(tmp_path / "start.safetensors"),
        sha256=digest,
        license="Apache-2.0",
        bytes=(tmp_path / "start.safetensors").stat().st_size,
    )
    find = catalog.find
    monkeypatch.setattr(catalog, "find", lambda name: (None, entry, True) if name == "net.tag" else find(name))
    (tmp_path / "net.tag").mkdir()  # of a run that made such weights
    assert run("regression.plain", "--from-weights", "net.tag", "--minutes", "0")[1]["status"] == "stopped"
    status, found, _ = run("regression.plain", "--from-weights", "start.safetensors")
    assert (status, found["status"]) == (0, "finished")
    assert load_file(found["weights"])["2.bias"].item() > 38
    record = json.loads((tmp_path / "runs/regression.plain/regression.plain.json").read_text())
    assert record["start"] == digest
    assert run("regression.plain", "--from-weights", "net.tag")[1]["status"] == "already finished"
    save_file({name: value + 1 for name, value in start.items()}, tmp_path / "other.safetensors")
    status, _, (line,) = run("regression.plain", "--from-weights", "other.safetensors")
    assert status == 1
    assert "began otherwise" in line
    entry = replace(entry, sha256="0" * 64)
    status, _, (line,) = run("regression.plain", "--from-weights", "net.tag")
    assert status == 1
    assert "the file was changed" in line
