"""What every bundled weights file keeps beyond conformance: its name, log, card, and metrics that hold."""

import pytest
import torch
from safetensors.torch import load_file

import zoo
from zoo.publishing import cards
from zoo.registry import catalog
from zoo.training import evaluation, finalizing
from zoo.weights import obtaining

PRETRAINED = [name for name in zoo.list_models(pretrained=True) if not zoo.info(name).weights[0].is_foreign]


def weights_of(name):
    (weights,) = zoo.info(name).weights
    return weights


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_file_bears_its_name_and_the_log_holds_every_step_of_the_recipe(name):
    weights = weights_of(name)
    assert obtaining.locate(weights.source).name == f"{name}.safetensors"
    assert {line["stage"]: line["step"] for line in evaluation.stored(name)["log"]} == {
        stage.name: stage.steps for stage in catalog.recipe(name).stages
    }


@pytest.mark.parametrize("name", PRETRAINED)
def test_what_the_card_says_by_hand_gives_the_measured_metrics(name):
    record = evaluation.stored(name)
    card = cards.by_hand(cards.find(name).read_text())
    assert record["clips_measured"] >= 2_000
    assert f"{record['clips_measured']:,} " in card
    for metric in weights_of(name).metrics:
        shown = [f"{metric.value:.4g}"]
        if "accuracy" in metric.name:
            shown = [f"{100 * metric.value:.1f} %", f"{100 * metric.value:.2f} %"]
        elif "error" in metric.name and metric.value > 0.01:
            shown = [f"{metric.value:.3f}", f"{metric.value:.5f}"]
        assert any(text in card for text in shown), shown


@pytest.mark.parametrize("name", PRETRAINED)
def test_measured_again_on_some_clips_the_metrics_are_near_those_given(name, monkeypatch, test_data):
    monkeypatch.setenv("ZOO_DATA", str(test_data))
    found = {metric["name"]: metric["value"] for metric in zoo.evaluate(name, clips=50).metrics}
    for metric in weights_of(name).metrics:
        if "accuracy" in metric.name:
            spread = (metric.value * (1 - metric.value) / 50) ** 0.5
            assert abs(found[metric.name] - metric.value) < 4 * spread + 0.01
        elif "error" in metric.name:
            assert found[metric.name] < 1.6 * metric.value
        else:
            assert found[metric.name] == pytest.approx(metric.value, rel=0.1)


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_recipe_gives_the_example_that_the_golden_outputs_are_of(name):
    weights = weights_of(name)
    golden = load_file(obtaining.locate(weights.golden))
    assert torch.equal(finalizing.example_of(catalog.recipe(weights.recipe)), golden["input"])


@pytest.mark.parametrize("name", PRETRAINED)
def test_the_record_gives_the_parameters_of_the_model_and_the_size_of_the_file(name):
    record = evaluation.stored(name)
    assert record["parameters"] == zoo.info(name).parameters
    assert record["bytes"] == obtaining.locate(weights_of(name).source).stat().st_size


def test_every_weights_file_in_our_packages_is_listed():
    folders = {obtaining.locate(weights_of(name).source).parent for name in PRETRAINED}
    files = {path.name for folder in folders for path in folder.glob("*.safetensors") if ".golden." not in path.name}
    assert files == {f"{name}.safetensors" for name in PRETRAINED}
