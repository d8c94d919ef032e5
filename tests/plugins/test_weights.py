"""What every bundled weights file must keep: its entry, record, recipe, golden outputs and card agree."""

import hashlib
import json
from pathlib import Path

import pytest

import zoo
from zoo import catalog
from zoo import weights as files
from zoo.training import evaluation

CARDS = Path(__file__).parents[2] / "cards"
PRETRAINED = [name for name in zoo.list_models(pretrained=True) if not zoo.info(name).weights[0].is_foreign]


def weights_of(name):
    (weights,) = zoo.info(name).weights
    return weights


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_file_is_the_one_that_its_entry_describes(name):
    weights = weights_of(name)
    path = files.locate(weights.source)
    content = path.read_bytes()
    assert path.name == f"{name}.safetensors"
    assert (len(content), hashlib.sha256(content).hexdigest()) == (weights.bytes, weights.sha256)


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_file_given_by_its_path_is_read_as_the_entry_says(name):
    weights = weights_of(name)
    by_path = files.describe_file(str(files.locate(weights.source)))
    assert (by_path.arguments, by_path.input, by_path.outputs) == (weights.arguments, weights.input, weights.outputs)


@pytest.mark.parametrize("name", PRETRAINED)
def test_golden_outputs_are_recomputed(name):
    verification = zoo.verify(name)
    assert verification.passed, verification
    heads = {check.name for check in verification.checks if check.name.startswith("golden ")}
    assert heads == {f"golden {output.name}" for output in zoo.info(name).outputs}


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_recipe_is_the_one_that_was_run(name):
    weights, recipe = weights_of(name), catalog.recipe(name)
    record = json.loads(files.locate(weights.record).read_bytes())
    assert weights.recipe == recipe.name
    assert record["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert {line["stage"]: line["step"] for line in record["log"]} == {
        stage.name: stage.steps for stage in recipe.stages
    }


@pytest.mark.parametrize("name", PRETRAINED)
def test_entry_record_and_card_give_the_same_metrics(name):
    given = [
        {"dataset": metric.dataset, "split": metric.split, "name": metric.name, "value": metric.value}
        for metric in weights_of(name).metrics
    ]
    record = evaluation.stored(name)
    assert given == record["metrics"]
    card = (CARDS / f"{name.partition('.')[0]}.md").read_text()
    assert record["clips_measured"] >= 2_000
    assert f"{record['clips_measured']:,} " in card
    assert weights_of(name).sha256 in card
    for metric in given:
        shown = f"{metric['value']:.3f}" if "error" in metric["name"] else f"{100 * metric['value']:.1f} %"
        assert shown in card


@pytest.mark.parametrize("name", PRETRAINED)
def test_measured_again_on_some_clips_the_metrics_are_near_those_given(name, monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    found = {metric["name"]: metric["value"] for metric in evaluation.evaluate(name, clips=50)["metrics"]}
    for metric in weights_of(name).metrics:
        if "accuracy" in metric.name:
            spread = (metric.value * (1 - metric.value) / 50) ** 0.5
            assert abs(found[metric.name] - metric.value) < 4 * spread + 0.01
        else:
            assert found[metric.name] < 1.6 * metric.value
