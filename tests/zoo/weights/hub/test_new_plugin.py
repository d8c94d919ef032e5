"""A stranger's way: a new plugin, its weights on the Hub, and back from there by name."""

from __future__ import annotations

import json

import pytest
import torch

import zoo

#: huggingface_hub 2.4 uploads to large-file storage in a way that its HTTP library deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=.*:DeprecationWarning")


def test_a_new_plugins_weights_go_up_and_come_back(generated, hub_server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", *hub_server.tokens)
    model = zoo.load("my_clips", weights=None, num_classes=5, seed=3)
    pushed = zoo.push(model, "me/clips")
    content = hub_server.repositories["me/clips"].commits[-1][1]
    assert json.loads(content["config.json"])["distribution"] == "zoo-my-clips"
    assert "# my_clips" in content["README.md"].decode()
    loaded = zoo.load(pushed.name)
    batch = torch.rand(model.zoo_entry.input.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(batch), model(batch))  # mapped weights lie at other addresses
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert loaded(batch).shape == (1, 5)
    assert zoo.verify(pushed.name).passed
