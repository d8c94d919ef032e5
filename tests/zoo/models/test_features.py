"""Activations of named layers: equal to what hooks see, stopped early, never of the wrong call."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import ModelError, UnknownNameError
from zoo.models.features import Features


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.relu = nn.ReLU(inplace=True)
        self.shared = nn.Linear(3, 3)
        self.lstm = nn.LSTM(3, 3, batch_first=True)
        self.last = nn.Linear(3, 2)
        self.unused = nn.Linear(1, 1)
        self.ran = []

    def forward(self, x):
        x = self.relu(self.first(x))
        for _ in range(x.shape[1]):
            x = self.shared(x)
        x, _ = self.lstm(x)
        self.ran.append("last")
        return self.last(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def test_activations_are_those_of_the_layers_and_in_place_operations_do_not_show(net):
    batch = torch.randn(2, 4, 3)
    given = Features(net, ["last", "first", "relu"])(batch)
    assert list(given) == ["last", "first", "relu"]
    assert torch.equal(given["first"], net.first(batch))
    assert torch.equal(given["relu"], net.first(batch).relu())
    assert torch.equal(given["last"], net(batch))


def test_a_layer_that_runs_several_times_gives_every_call(net):
    features = Features(net, ["shared"])
    for steps in (3, 3, 5, 1):
        batch = torch.randn(1, steps, 3)
        expected, x = [], net.first(batch).relu()
        for _ in range(steps):
            x = net.shared(x)
            expected.append(x)
        given = features(batch)["shared"]
        given = (given,) if steps == 1 else given
        assert len(given) == steps
        assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))


def test_the_pass_stops_after_the_last_layer_once_its_calls_are_known(net):
    features = Features(net, ["shared"])
    for _ in range(3):
        features(torch.randn(1, 3, 3))
    assert net.ran == ["last"]
    features(torch.randn(1, 4, 3))
    assert net.ran == ["last"] * 2
    whole = Features(net, ["shared"], stop=False)
    for _ in range(2):
        whole(torch.randn(1, 3, 3))
    assert net.ran == ["last"] * 4


def test_of_a_tuple_the_first_tensor_is_taken(net):
    batch = torch.randn(1, 2, 3)
    x = net.shared(net.shared(net.first(batch).relu()))
    assert torch.equal(Features(net, ["lstm"])(batch)["lstm"], net.lstm(x)[0])


def test_gradients_flow_and_no_hook_stays(net):
    features = Features(net, ["lstm"])
    for _ in range(2):
        net.zero_grad()
        features(5 * torch.randn(4, 2, 3))["lstm"].sum().backward()
        assert net.first.weight.grad.abs().sum() > 0
    assert not any(module._forward_hooks for module in net.modules())


def test_patterns_and_wrong_names(net):
    assert Features(net, ["l*", "first"]).layers == ("lstm", "last", "first")
    with pytest.raises(UnknownNameError, match="did you mean 'first'"):
        Features(net, ["fist"])
    with pytest.raises(UnknownNameError, match="no layer matches 'x"):
        Features(net, ["x*"])
    with pytest.raises(UnknownNameError):
        Features(net, [])


def test_a_layer_that_does_not_run_is_named_and_hooks_go(net):
    with pytest.raises(ModelError, match="'unused' did not run"):
        Features(net, ["unused"])(torch.randn(1, 2, 3))
    with pytest.raises(RuntimeError):
        Features(net, ["first"])(torch.randn(1, 2, 5))
    assert not any(module._forward_hooks for module in net.modules())


def test_load_gives_features_with_the_entry(installed, tiny, monkeypatch):
    installed.add("plain", tiny)
    installed.use(monkeypatch)
    features = zoo.load("tiny", weights=None, features=["0", "5"], num_classes=3)
    batch = torch.randn(1, 1, 4, 8, 8)
    assert torch.equal(features(batch)["5"], features.model(batch))
    assert not features.training
    assert features.zoo_entry.name == features.zoo_load_report.name == "tiny"


def test_every_frame_of_a_recurrence_is_there():
    features = zoo.load("conv3d", features="body.*.relu")
    given = features(torch.zeros(1, 1, 4, 64, 64))
    assert set(given) == {f"body.{name}.relu" for name, _ in features.model.body.named_children()}
