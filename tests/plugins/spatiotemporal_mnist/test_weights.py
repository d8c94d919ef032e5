import hashlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors import safe_open

import zoo
from zoo import catalog
from zoo.training import evaluation

PACKAGE = files("zoo_spatiotemporal_mnist")
CARDS = Path(__file__).parents[3] / "cards"
PRETRAINED = zoo.list_models(pretrained=True, plugin="spatiotemporal_mnist")


def weights_of(name):
    (weights,) = zoo.info(name).weights
    return weights


def record_of(name):
    return json.loads(PACKAGE.joinpath(f"weights/{name}.json").read_text())


def test_every_network_is_trained_and_all_weights_together_take_at_most_40_megabytes():
    entries = [zoo.info(name) for name in zoo.list_models(plugin="spatiotemporal_mnist")]
    assert len(entries) == 7
    assert all(entry.weights for entry in entries)
    assert sum(weights.bytes for entry in entries for weights in entry.weights) <= 40_000_000


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_file_is_the_one_that_its_entry_describes(name):
    weights = weights_of(name)
    content = PACKAGE.joinpath(f"weights/{name}.safetensors").read_bytes()
    assert weights.source == f"zoo_spatiotemporal_mnist:weights/{name}.safetensors"
    assert (len(content), hashlib.sha256(content).hexdigest()) == (weights.bytes, weights.sha256)
    with safe_open(str(PACKAGE.joinpath(f"weights/{name}.safetensors")), "pt") as file:
        assert json.loads(file.metadata()["zoo"]) == {}


@pytest.mark.parametrize("name", PRETRAINED)
def test_golden_outputs_are_recomputed(name):
    verification = zoo.verify(name)
    assert verification.passed, verification
    assert {check.name for check in verification.checks} >= {"golden digit", "golden order", "golden speed"}


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_recipe_is_the_one_that_was_run(name):
    record, recipe = record_of(name), catalog.recipe(name)
    assert weights_of(name).recipe == recipe.name
    assert record["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    run = {line["stage"]: line["step"] for line in record["log"]}
    assert run == {stage.name: stage.steps for stage in recipe.stages}


@pytest.mark.parametrize("name", PRETRAINED)
def test_entry_record_and_card_give_the_same_metrics(name):
    given = [
        {"dataset": metric.dataset, "split": metric.split, "name": metric.name, "value": metric.value}
        for metric in weights_of(name).metrics
    ]
    record = evaluation.stored(name)
    assert weights_of(name).record == f"zoo_spatiotemporal_mnist:weights/{name}.json"
    assert given == record["metrics"]
    card = (CARDS / f"{name.partition('.')[0]}.md").read_text()
    assert record["clips_measured"] >= 2_000
    assert f"{record['clips_measured']:,} " in card
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


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_recipes_evaluation_is_what_measures(name, monkeypatch):
    from zoo_spatiotemporal_mnist import evaluation as of_plugin

    def measure(network, device, clips):
        return {"metrics": [], "breakdown": {network.zoo_weights.tag: []}, "clips_measured": clips}

    monkeypatch.setattr(of_plugin, "evaluate", measure)
    found = evaluation.evaluate(name, clips=3)
    assert (found["breakdown"], found["clips_measured"]) == ({"blinking_mnist": []}, 3)
    assert (found["model"], found["sha256"]) == (name, weights_of(name).sha256)
