"""Predictions and evaluations: attributes, files, and the dictionaries that version 0.1 gave."""

import json
import types

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import OutputError, ResultError, UsageError

EVALUATION = {
    "model": "tiny.shapes",
    "sha256": None,
    "measured_as": "tiny.shapes",
    "clips_measured": 3,
    "metrics": [{"dataset": "shapes", "split": "test", "name": "accuracy", "value": 2 / 3}],
    "breakdown": {"shape": [{"shape": "round", "clips": 3, "accuracy": 2 / 3}]},
    "per_clip": {"accuracy": "110"},
    "note": "of a plugin",
    "torch": "2.9",
    "device": "cpu",
}
HEADS = {
    "shape": {
        "kind": "classes",
        "top": [{"label": "round", "index": 2, "probability": 0.75}],
        "frames": [{"label": "flat", "index": 0, "probability": 0.5}],
    },
    "size": {"kind": "value", "value": 7.5, "unit": "cm", "frames": [7.0, 8.0]},
    "weight": {"kind": "value", "value": 1.0, "unit": ""},
    "film": {"kind": "clip", "shape": [1, 2, 3, 4], "lowest": 0.0, "highest": 1.0, "squared_error": None},
}


def test_a_prediction_has_attributes_with_types():
    (found,) = zoo.predict(nn.Flatten(), torch.tensor([[[0.0, 2.0]]]), top=1)
    head = found.heads["output"]
    assert (head.top[0].label, head.top[0].index, head.frames) == ("1", 1, ())
    assert head.top[0].probability == pytest.approx(torch.tensor([0.0, 2.0]).softmax(0)[1].item())


@pytest.mark.parametrize(("kind", "record"), [(zoo.Prediction, HEADS), (zoo.Evaluation, EVALUATION)])
def test_a_record_is_kept_whole_and_read_as_the_dictionary_that_it_was(kind, record, tmp_path):
    found = kind.from_record(record)
    assert found.record() == record
    assert list(found.record()) == list(record)
    file = found.save(tmp_path / "kept")
    assert file == tmp_path / "kept.json"
    assert json.loads(file.read_text()) == record
    assert kind.load(file) == found == record
    first = next(iter(record))
    assert first in found
    assert (list(found), len(found)) == (list(record), len(record))
    with pytest.warns(DeprecationWarning, match="record"):
        assert found[first] == record[first]
    with pytest.raises(KeyError), pytest.warns(DeprecationWarning, match="unknown"):
        found["unknown"]
    file.write_text("{")
    with pytest.raises(ResultError, match=r"kept\.json"):
        kind.load(file)
    with pytest.raises(OutputError, match=r"kept\.json exists"):
        found.save(file)
    with pytest.raises(ResultError, match="cannot be read"):
        kind.load(tmp_path / "missing")


@pytest.mark.parametrize("text", ["[]", "3", '{"a": 1}', '{"a": {"kind": "film"}}', '{"a": {"kind": "value"}}'])
def test_a_file_of_another_kind_is_refused(text, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    for kind in (zoo.Prediction, zoo.Evaluation):
        with pytest.raises(ResultError, match=kind.__name__):
            kind.load(path)


def test_a_loaded_model_is_measured_where_it_is_and_left_in_its_mode(monkeypatch):
    import sys

    module = types.ModuleType("measured")

    def evaluate(network, device, clips=None):
        assert not network.training
        metrics = [{"dataset": "d", "split": "test", "name": "bias", "value": network.bias.detach().sum().item()}]
        return {"metrics": metrics, "clips_measured": clips, "breakdown": {}}

    module.evaluate = evaluate
    monkeypatch.setitem(sys.modules, "measured", module)
    recipe = zoo.Recipe(name="toy.tag", build="m:b", evaluate="measured:evaluate", stages=())
    monkeypatch.setattr("zoo.registry.catalog.recipe", lambda name: recipe)
    model = nn.Linear(2, 3)
    with pytest.raises(UsageError, match=r"did not come from zoo\.load"):
        zoo.evaluate(model, recipe="toy.tag")
    model.zoo_entry = zoo.ModelEntry(
        name="toy",
        builder="m:b",
        summary="",
        parameters=9,
        input=zoo.InputSpec(frames=1, size=(1, 2)),
        outputs=(zoo.OutputSpec(),),
    )
    model.zoo_load_report = types.SimpleNamespace(name="toy.tag", sha256="0" * 64)
    with torch.no_grad():
        model.bias.fill_(0.5)
    found = zoo.evaluate(model, recipe="toy.tag", clips=7)
    assert model.training
    assert (found.model, found.sha256, found.measured_as, found.clips_measured) == ("toy.tag", "0" * 64, "toy.tag", 7)
    assert found.metrics[0]["value"] == 1.5
