import pytest

import zoo
from zoo.training import evaluation


def test_every_network_is_trained_and_all_weights_together_take_at_most_40_megabytes():
    entries = [zoo.info(name) for name in zoo.list_models(plugin="spatiotemporal_mnist")]
    assert len(entries) == 7
    assert all(entry.weights for entry in entries)
    assert sum(weights.bytes for entry in entries for weights in entry.weights) <= 40_000_000


@pytest.mark.parametrize("name", zoo.list_models(pretrained=True, plugin="spatiotemporal_mnist"))
def test_the_recipes_evaluation_is_what_measures(name, monkeypatch):
    from zoo_spatiotemporal_mnist import evaluation as of_plugin

    def measure(network, device, clips):
        return {"metrics": [], "breakdown": {network.zoo_weights.tag: []}, "clips_measured": clips}

    monkeypatch.setattr(of_plugin, "evaluate", measure)
    found = evaluation.evaluate(name, clips=3)
    assert (dict(found.breakdown), found.clips_measured) == ({"blinking_mnist": []}, 3)
    (weights,) = zoo.info(name).weights
    assert (found.model, found.sha256) == (name, weights.sha256)
