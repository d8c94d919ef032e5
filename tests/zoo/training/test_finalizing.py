import dataclasses
import json
import sys
import types

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import zoo
from zoo.errors import ModelError, PluginError
from zoo.training import Recipe, evaluation, loop
from zoo.training.finalizing import example_of, finalize
from zoo.weights.digests import sha256_of

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


def test_the_record_holds_what_an_entry_says_of_the_file(line, tmp_path):
    path = finalize(RECIPE, nn.Linear(3, 1), tmp_path, log=[])
    record = json.loads((tmp_path / "line.tag.json").read_text())
    assert (record["bytes"], record["parameters"]) == (path.stat().st_size, 4)


def test_functions_of_a_recipe_are_given_its_arguments(line, tmp_path):
    line.example = lambda count: torch.ones(count, 3)
    line.evaluate = lambda network, device, clips, *, kind: {
        "metrics": [{"dataset": kind, "split": "test", "name": "bias", "value": 0.0}],
        "breakdown": {},
    }
    recipe = dataclasses.replace(RECIPE, evaluate_arguments={"kind": "zoom"}, example_arguments={"count": 5})
    finalize(recipe, nn.Linear(3, 1), tmp_path, log=[])
    assert load_file(tmp_path / "line.tag.golden.safetensors")["output"].shape == (5, 1)
    assert json.loads((tmp_path / "line.tag.json").read_text())["metrics"][0]["dataset"] == "zoom"


def test_without_export_all_that_was_trained_is_kept(line, tmp_path):
    network = nn.Linear(3, 1)
    path = finalize(dataclasses.replace(RECIPE, export=""), network, tmp_path, log=[])
    assert torch.equal(load_file(path)["weight"], network.weight)


def test_without_example_the_first_sample_of_the_architecture_is_taken():
    recipe = dataclasses.replace(RECIPE, name="stdcf_autoencoder.new", example="")
    assert torch.equal(example_of(recipe), zoo.preprocess("sample:tr_mnist/0", "stdcf_autoencoder"))
    other = {"input": {"channels": "L", "frames": 4, "size": [14, 14]}}
    assert example_of(dataclasses.replace(recipe, header=other)).shape == (1, 1, 4, 14, 14)
    with pytest.raises(PluginError, match=r"line\.tag"):
        example_of(dataclasses.replace(RECIPE, example=""))


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


TAGGED = dataclasses.replace(RECIPE, name="tiny.tag")


@pytest.fixture
def tiny_line(line, installed, tiny, monkeypatch):
    """The recipe's architecture is in the catalogue, and its example what `tiny` takes."""
    installed.add("plain", tiny)
    installed.use(monkeypatch)
    line.example = lambda: torch.rand(1, 1, 4, 8, 8)
    line.evaluate = lambda network, device, clips=None: {"metrics": [], "clips_measured": 1, "breakdown": {}}
    return zoo.load("tiny", weights=None)


def test_what_training_writes_can_be_loaded(tiny_line, tmp_path):
    path = finalize(TAGGED, tiny_line, tmp_path, log=[])
    golden = load_file(tmp_path / "tiny.tag.golden.safetensors")
    torch.testing.assert_close(zoo.load("tiny", weights=path)(golden["input"]), golden["shape"])


@pytest.mark.parametrize("change", ["head", "activation", "export"])
def test_what_could_not_be_loaded_is_not_written(tiny_line, line, tmp_path, change):
    if change == "head":
        tiny_line[5] = nn.Linear(2, 5)
    elif change == "activation":
        tiny_line[2] = nn.GELU()
    else:
        line.export = lambda module: nn.Sequential(module)
    with pytest.raises(ModelError, match="tiny"):
        finalize(TAGGED, tiny_line, tmp_path, log=[])
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_run_whose_weights_could_not_be_loaded_does_not_begin(tiny_line, line, tmp_path):
    line.build = lambda: nn.Linear(3, 1)
    with pytest.raises(ModelError, match="tiny"):
        loop.train(TAGGED, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
