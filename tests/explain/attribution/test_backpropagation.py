import warnings

import captum.attr
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explain
from zoo.errors import ModelError

METHODS = {"guided_backprop": captum.attr.GuidedBackprop, "deconvolution": captum.attr.Deconvolution}


class Functional(nn.Module):
    """One convolution, run twice, with ReLU as `rectify` runs it."""

    def __init__(self, rectify):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.head = nn.Linear(1, 2)
        self.rectify = rectify

    def forward(self, x):
        y = self.rectify(self.conv(x))
        return self.head(self.rectify(self.conv(y)).mean(dim=(2, 3, 4)))


def in_place(x):
    F.relu(x, inplace=True)  # what it gives back is thrown away
    return x


def by_hand(model, batch, *, guided):
    """Both papers' rule, step by step: the gradient of output 1 through two ReLUs behind one convolution."""
    first = model.conv(batch)
    second = model.conv(first.relu())
    signal = (model.head.weight[1] / second[0].numel()).view(1, 1, 1, 1, 1).expand_as(second)
    for given in (second, first):
        signal = signal.clamp(min=0) * ((given > 0) if guided else 1)
        signal = F.conv_transpose3d(signal, model.conv.weight, padding=1)
    return signal.detach()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "rectify",
    [F.relu, torch.relu, torch.Tensor.relu, torch.Tensor.relu_, in_place, nn.ReLU(), lambda x: x.clamp(min=0)],
)
def test_follows_its_rule_however_relu_is_run_also_in_modules_run_twice(nets, method, rectify):
    model, batch = Functional(rectify), torch.randn(2, 1, 4, 6, 6)
    with torch.no_grad():
        model.head.weight[1].abs_()  # else nothing passes
    result = explain.attribute(model, batch, method=method, target=1)
    expected = by_hand(model, batch, guided=method == "guided_backprop")
    assert expected.abs().sum() > 0
    assert torch.allclose(result.raw, expected, atol=1e-12)
    plain = explain.attribute(model, batch, method="saliency", target=1)
    assert not torch.allclose(result.raw, plain.raw)


@pytest.mark.parametrize("method", METHODS)
def test_equals_captum_where_every_relu_is_a_module_that_runs_once(nets, method):
    model = nn.Sequential(
        nn.Conv3d(1, 4, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
    )
    batch = torch.randn(2, 1, 4, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says that it sets hooks
        expected = METHODS[method](model).attribute(batch.clone().requires_grad_(), target=1)
    result = explain.attribute(model, batch, method=method, target=1)
    assert expected.abs().sum() > 0
    assert torch.allclose(result.raw, expected, atol=1e-12)


def test_relu6_is_a_relu_with_an_upper_end(nets):
    model, batch = nn.Sequential(nn.ReLU6(), nn.Flatten()), torch.tensor([-1.0, 3.0, 7.0, 1.0]).view(1, 1, 1, 2, 2)
    result = explain.attribute(model, batch, method="guided_backprop", target=lambda output: output.sum(dim=1))
    assert result.raw.flatten().tolist() == [0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize("method", [*METHODS, "guided_grad_cam"])
@pytest.mark.parametrize(
    ("activation", "said"),
    [
        (nn.Identity(), "no ReLU runs"),
        (nn.GELU(), "runs Gelu"),
        (nn.Hardswish(), "runs Hardswish"),
        (lambda x: torch.where(x > 0, x, 0.0), "Where, which may be a ReLU"),
    ],
)
def test_models_on_which_it_would_be_wrong_are_refused(nets, method, activation, said):
    with pytest.raises(ModelError, match=said):
        explain.attribute(Functional(activation), torch.randn(1, 1, 4, 6, 6), method=method, layer="conv")


def test_functions_that_cannot_be_looked_into_are_refused(nets):
    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.relu()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    with pytest.raises(ModelError, match="Own"):
        explain.attribute(Functional(Own.apply), torch.randn(1, 1, 4, 6, 6), method="guided_backprop")


def test_guided_grad_cam_is_the_product_of_both(nets):
    model, batch = nets.TwoHeads().eval(), torch.randn(2, 1, 4, 6, 6)
    options = {"target": "digit:1", "layer": "stem.0"}
    result = explain.attribute(model, batch, method="guided_grad_cam", **options)
    pixels = explain.attribute(model, batch, method="guided_backprop", target="digit:1")
    cam = explain.attribute(model, batch, method="grad_cam", **options)
    assert result.layer == "stem.0"
    assert torch.allclose(result.raw, pixels.raw * cam.map[:, None])
    assert result.raw.abs().sum() > 0
