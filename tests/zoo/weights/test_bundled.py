"""Entries of bundled weights are what the records beside the files say, and a damaged record is named."""

from __future__ import annotations

import json
import sys

import pytest

import zoo
from zoo.entries import InputSpec, Metric, OutputSpec, WeightsEntry
from zoo.errors import PluginError

ACCURACY = {"dataset": "waves", "split": "test", "name": "accuracy", "value": 0.75}
RECORD = {
    "recipe": {"name": "net.waves", "header": {}},
    "sha256": "ab" * 32,
    "bytes": 1234,
    "parameters": 56,
    "metrics": [ACCURACY],
    "log": [],
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a record (JSON-ready, or text) into the folder `weights` of the package `waving`."""
    folder = tmp_path / "waving" / "weights"
    folder.mkdir(parents=True)
    (tmp_path / "waving" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "waving", raising=False)

    def written(name="net.waves", record=RECORD, **changes):
        text = record if isinstance(record, str) else json.dumps({**record, **changes})
        (folder / f"{name}.json").write_text(text)
        return folder

    return written


def test_an_entry_holds_what_the_record_says(write):
    write()
    (entry,) = zoo.bundled_weights("waving")["net"]
    assert entry == WeightsEntry(
        tag="waves",
        source="waving:weights/net.waves.safetensors",
        bytes=1234,
        sha256="ab" * 32,
        recipe="net.waves",
        metrics=(Metric(**ACCURACY),),
        golden="waving:weights/net.waves.golden.safetensors",
        record="waving:weights/net.waves.json",
    )


def test_what_differs_from_the_architecture_is_taken_from_the_recipe(write):
    header = {
        "arguments": {"classes": 2},
        "input": {"channels": "L", "frames": 8, "size": [64, 64]},
        "outputs": [{"labels": ["left", "right"]}],
    }
    write(recipe={"name": "net.waves", "header": header}, license="CC-BY-4.0")
    (entry,) = zoo.bundled_weights("waving")["net"]
    assert entry.arguments == {"classes": 2}
    assert entry.input == InputSpec(channels="L", frames=8, size=(64, 64))
    assert entry.outputs == (OutputSpec(labels=("left", "right")),)
    assert (entry.parameters, entry.license) == (56, "CC-BY-4.0")


def test_what_was_not_measured_is_no_metric(write):
    write(metrics=[ACCURACY, {**ACCURACY, "name": "error", "value": None}])
    assert [one.name for one in zoo.bundled_weights("waving")["net"][0].metrics] == ["accuracy"]


def test_tags_come_in_natural_order_behind_those_that_are_put_first(write):
    for name in ("net.b10", "net.b9", "net.c", "other.b9"):
        write(name)

    def tags(**order):
        return {model: [one.tag for one in found] for model, found in zoo.bundled_weights("waving", **order).items()}

    assert tags() == {"net": ["b9", "b10", "c"], "other": ["b9"]}
    assert tags(order=("c", "b10")) == {"net": ["c", "b10", "b9"], "other": ["b9"]}
    with pytest.raises(PluginError, match="'d'"):
        tags(order=("d",))


def test_a_folder_within_folders_is_read_and_other_files_are_left_alone(write):
    folder = write()
    (folder / "README.md").touch()
    (folder / "net.waves.golden.safetensors").touch()
    (folder / "big.safetensors.index.json").write_text("{}")
    folder.rename(folder.with_name("outer"))
    folder.mkdir()
    folder.with_name("outer").rename(folder / "inner")
    (entry,) = zoo.bundled_weights("waving", "weights/inner")["net"]
    assert entry.source == "waving:weights/inner/net.waves.safetensors"
    assert zoo.bundled_weights("waving") == {}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("{", "damaged"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "damaged"),
        ("[" * 100_000, "damaged"),
        ("[]", r"not \[\]"),
        ({}, "'sha256', 'bytes', 'recipe', 'metrics'"),
        ({**RECORD, "sha256": "AB" * 32}, "sha256"),
        ({**RECORD, "sha256": 5}, "sha256"),
        ({**RECORD, "bytes": 0}, "bytes"),
        ({**RECORD, "bytes": "1234"}, "bytes"),
        ({**RECORD, "bytes": True}, "bytes"),
        ({**RECORD, "recipe": None}, "recipe"),
        ({**RECORD, "recipe": {}}, "name"),
        ({**RECORD, "recipe": {"name": "net.waves", "header": []}}, "header"),
        ({**RECORD, "recipe": {"name": "net.waves", "header": {"arguments": 3}}}, "not iterable"),
        ({**RECORD, "recipe": {"name": "net.waves", "header": {"input": {"frames": 0, "size": [1, 1]}}}}, "frames"),
        ({**RECORD, "recipe": {"name": "net.waves", "header": {"outputs": [{"labels": [3]}]}}}, "labels"),
        ({**RECORD, "recipe": {"name": "net.waves", "header": {"arguments": {}}}, "parameters": "56"}, "parameters"),
        ({**RECORD, "license": None}, "license"),
        ({**RECORD, "metrics": None}, "metrics"),
        ({**RECORD, "metrics": ["accuracy"]}, "metric"),
        ({**RECORD, "metrics": [{"name": "accuracy"}]}, "value"),
        ({**RECORD, "metrics": [{**ACCURACY, "value": "0.75"}]}, "value"),
        ({**RECORD, "metrics": [{**ACCURACY, "value": float("nan")}]}, "value"),
        ({**RECORD, "metrics": [{**ACCURACY, "clips": 3}]}, "clips"),
    ],
)
def test_a_damaged_record_is_named_with_what_is_wrong(write, record, said):
    folder = write(record=record)
    with pytest.raises(PluginError, match=said) as raised:
        zoo.bundled_weights("waving")
    assert str(folder / "net.waves.json") in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_record_that_cannot_be_read_or_has_another_name_is_named(write):
    folder = write()
    (folder / "other.waves.json").mkdir()
    with pytest.raises(PluginError, match=r"other\.waves\.json"):
        zoo.bundled_weights("waving")
    (folder / "other.waves.json").rmdir()
    write("waves")
    with pytest.raises(PluginError, match=r"waves\.json.*MODEL\.TAG"):
        zoo.bundled_weights("waving")


def test_weights_without_a_record_do_not_go_unlisted(write):
    folder = write()
    (folder / "net.other.safetensors").touch()
    with pytest.raises(PluginError, match=r"net\.other\.json"):
        zoo.bundled_weights("waving")


def test_a_missing_folder_or_package_is_named(write):
    write()
    with pytest.raises(PluginError, match="wights"):
        zoo.bundled_weights("waving", "wights")
    with pytest.raises(PluginError, match="weaving"):
        zoo.bundled_weights("weaving")
    with pytest.raises(PluginError, match=r"'json\.decoder'"):
        zoo.bundled_weights("json.decoder")


def test_records_are_the_only_files_that_are_opened(write):
    folder = write()
    (folder / "net.waves.safetensors").mkdir()  # opening it would fail
    assert [*zoo.bundled_weights("waving")] == ["net"]
