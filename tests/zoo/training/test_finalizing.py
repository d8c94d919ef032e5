import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from zoo.training import Recipe, evaluation
from zoo.training.finalizing import finalize
from zoo.weights import sha256_of

FILES = ["line.tag.golden.safetensors", "line.tag.json", "line.tag.safetensors"]


@pytest.fixture
def line(monkeypatch):
    """The module `line` that the recipe names; `line.clips` notes how many clips were asked for."""
    module = types.ModuleType("line")

    def evaluate(network, device, clips=None):
        assert not network.training
        module.clips.append(clips)
        metric = {"dataset": "lines", "split": "test", "name": "bias", "value": network.bias.item()}
        return {"metrics": [metric], "clips_measured": clips or 100, "breakdown": {}}

    module.clips = []
    module.export = lambda module: module
    module.example = lambda: torch.ones(1, 3)
    module.evaluate = evaluate
    monkeypatch.setitem(sys.modules, "line", module)
    return module


RECIPE = Recipe(
    name="line.tag",
    build="line:build",
    export="line:export",
    evaluate="line:evaluate",
    example="line:example",
    stages=(),
)


def test_the_record_holds_what_was_measured_and_of_which_weights(line, tmp_path):
    network = nn.Linear(3, 1)
    path = finalize(RECIPE, network, tmp_path, log=[{"step": 1}])
    record = json.loads((tmp_path / "line.tag.json").read_text())
    assert record["recipe"]["name"] == record["model"] == record["measured_as"] == "line.tag"
    assert record["sha256"] == sha256_of(path)
    assert record["metrics"][0]["value"] == network.bias.item()
    assert (record["clips_measured"], record["log"]) == (100, [{"step": 1}])
    assert evaluation.stored(str(path)) == {**record, "model": "line.tag"}


def test_fewer_clips_may_be_measured(line, tmp_path):
    finalize(RECIPE, nn.Linear(3, 1), tmp_path, log=[], clips=5)
    assert line.clips == [5]
    assert json.loads((tmp_path / "line.tag.json").read_text())["clips_measured"] == 5


def test_weights_and_golden_tensors_are_there_before_the_measuring_and_a_second_call_only_measures(line, tmp_path):
    network, measure = nn.Linear(3, 1), line.evaluate

    def killed(network, device, clips=None):
        raise KeyboardInterrupt

    line.evaluate = killed
    with pytest.raises(KeyboardInterrupt):
        finalize(RECIPE, network, tmp_path, log=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILES[0], FILES[2]]
    before = [(tmp_path / name).read_bytes() for name in (FILES[0], FILES[2])]
    golden = load_file(tmp_path / FILES[0])
    assert torch.equal(golden["output"], network(golden["input"]))
    line.evaluate = measure
    finalize(RECIPE, network, tmp_path, log=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert [(tmp_path / name).read_bytes() for name in (FILES[0], FILES[2])] == before


def test_a_metric_that_is_no_number_is_null_in_the_record(line, tmp_path):
    network = nn.Linear(3, 1)
    nn.init.constant_(network.bias, float("nan"))
    finalize(RECIPE, network, tmp_path, log=[])
    text = (tmp_path / "line.tag.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["metrics"][0]["value"] is None
