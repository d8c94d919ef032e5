import warnings

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explain
from zoo.errors import ModelError


def plain():
    """A network that Captum's DeepLift is right on: modules, each run once."""
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.MaxPool3d(2),
        nn.ReLU(),
        nn.Conv3d(4, 3, 1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(54, 2),
    ).eval()


def test_of_a_linear_model_is_weight_times_difference(nets):
    model, batch = nets.LinearClips(), torch.randn(2, 2, 4, 6, 5)
    result = explain.attribute(model, batch, method="deep_lift", target=1, baseline=0.3)
    assert torch.allclose(result.raw, model.weight[1].detach() * (batch - 0.3))
    assert result.delta.abs().max() < 1e-12


def test_of_one_function_is_the_difference_of_its_results(nets):
    model, batch = nn.Sequential(nn.Softplus(), nn.Flatten()), torch.randn(2, 1, 2, 3, 3)
    result = explain.attribute(model, batch, method="deep_lift", target=lambda y: y.sum(dim=1), baseline=-0.5)
    assert torch.allclose(result.raw, F.softplus(batch) - F.softplus(torch.tensor(-0.5)))


def test_equals_captum_with_max_pooling(nets):
    model, batch = plain(), torch.randn(2, 1, 4, 6, 6)
    baseline = torch.randn(1, 1, 4, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        expected = captum.attr.DeepLift(model).attribute(batch, baseline.expand_as(batch), target=1)
    result = explain.attribute(model, batch, method="deep_lift", target=1, baseline=baseline)
    assert torch.allclose(result.raw, expected.detach(), atol=1e-10)
    assert result.delta.abs().max() < 1e-10


def test_sums_to_the_difference_with_max_pooling_behind_relu(nets):
    """Where Captum 0.9 does not."""
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(36, 2))
    batch, baseline = torch.randn(2, 1, 4, 6, 6), torch.randn(2, 1, 4, 6, 6)
    result = explain.attribute(model, batch, method="deep_lift", target=1, baseline=baseline)
    difference = (model(batch) - model(baseline))[:, 1].detach()
    assert torch.allclose(result.raw.sum(dim=(1, 2, 3, 4)), difference)


def test_sums_to_the_difference_with_residual_sums_heads_and_pooling(nets):
    model, batch = nets.Rectified(), torch.randn(2, 1, 6, 6, 6)
    result = explain.attribute(model, batch, method="deep_lift", target="digit:1", baseline=0.7)
    model.eval()
    with torch.no_grad():
        difference = (model(batch)["digit"] - model(torch.full_like(batch, 0.7))["digit"])[:, 1]
    assert difference.abs().min() > 1e-3
    assert torch.allclose(result.raw.sum(dim=(1, 2, 3, 4)), difference)


class Reused(nn.Module):
    """One ReLU module and one convolution, each run several times, frame by frame, and a function between."""

    def __init__(self, functional):
        super().__init__()
        self.conv, self.relu, self.functional = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), functional
        self.head = nn.Linear(1, 2)

    def forward(self, x):
        frames = [self.relu(self.conv(self.functional(self.conv(x[:, :, time])))) for time in range(x.shape[2])]
        return self.head(torch.stack(frames, dim=2).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("functional", [F.relu, torch.sigmoid, F.gelu, F.silu, torch.Tensor.relu_])
def test_modules_run_again_and_functions_are_shared_out_too(nets, functional):
    batch = torch.randn(2, 1, 3, 5, 5)
    reused = Reused(functional)
    result = explain.attribute(reused, batch, method="deep_lift", target=0, baseline=0.4)
    with torch.no_grad():
        difference = (reused(batch) - reused(torch.full_like(batch, 0.4)))[:, 0]
    assert torch.allclose(result.raw.sum(dim=(1, 2, 3, 4)), difference, atol=1e-9)
    assert result.delta.abs().max() < 1e-9


def test_over_several_baselines_is_the_mean(nets):
    model, batch = nets.Rectified(), torch.randn(2, 1, 4, 6, 6)
    options = {"target": "digit:1"}
    each = [explain.attribute(model, batch, method="deep_lift", baseline=b, **options).raw for b in (0.2, "blur")]
    both = explain.attribute(model, batch, method="deep_lift_shap", baseline=[0.2, "blur"], **options)
    assert torch.allclose(both.raw, (each[0] + each[1]) / 2)
    assert both.settings["baseline"] == [0.2, "blur"]
    usual = explain.attribute(model, batch, method="deep_lift_shap", **options)
    named = explain.attribute(model, batch, method="deep_lift_shap", baseline=["zero", "blur", "mean_frame"], **options)
    assert torch.equal(usual.raw, named.raw)


class Ending(nn.Module):
    def __init__(self, ending):
        super().__init__()
        self.ending = ending

    def forward(self, x):
        return self.ending(x).flatten(1)[:, :2]


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (lambda x: x * x, "the model multiplies two things that both depend on the input \\(Mul"),
        (lambda x: x / (1 + x.abs()), "no rule"),
        (lambda x: x.softmax(dim=-1), "Softmax"),
        (lambda x: F.layer_norm(x, x.shape[-1:]), "NativeLayerNorm"),
        (lambda x: F.instance_norm(x), "own mean and variance"),
        (lambda x: torch.where(x > 0, x, 0.0), "Where"),
        (lambda x: x * (x > 0), "miss it by"),
        (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), "two things"),
    ],
)
def test_operations_without_a_rule_are_refused(nets, ending, said):
    with pytest.raises(ModelError, match=said):
        explain.attribute(Ending(ending), 0.1 + torch.rand(2, 2, 2, 4, 4), method="deep_lift", target=0, baseline=-0.9)


@pytest.mark.parametrize("recurrent", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_refused(nets, recurrent):
    model = nets.TwoHeads()
    model.lstm = recurrent(4, 5, batch_first=True)
    with pytest.raises(ModelError, match=r"layer 'lstm' \(\w+\) .*gates of recurrent layers"):
        explain.attribute(model, torch.randn(1, 1, 4, 6, 6), method="deep_lift")
    with pytest.raises(ModelError, match=r"layer 'lstm' \(\w+\) .*gates of recurrent layers"):
        explain.attribute(model.float(), torch.randn(1, 1, 4, 6, 6).float(), method="deep_lift")


def test_in_front_of_a_recurrent_layer_units_can_be_explained(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    assert explain.attribute(model, batch, method="deep_lift", target="block/1").delta.abs().max() < 1e-9


def test_models_that_run_otherwise_for_the_baseline_are_refused(nets):
    def changing(x):
        return x.relu() if x.sum() > 0 else x.sigmoid()

    with pytest.raises(ModelError, match="same operations"):
        explain.attribute(Ending(changing), torch.ones(1, 1, 2, 4, 4), method="deep_lift", baseline=-1.0)
