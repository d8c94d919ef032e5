"""A refusal names the layer that runs what there is no rule for."""

import re

import pytest
import torch
from torch import nn

import explain
from zoo.errors import ModelError


class Doubled(torch.autograd.Function):
    """Nobody can look inside."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class Cell(nn.Module):
    """An operation between a convolution and a ReLU in place."""

    def __init__(self, operation):
        super().__init__()
        self.conv, self.relu = nn.Conv3d(1, 1, 3, padding=1), nn.ReLU(inplace=True)
        self.operation = operation

    def forward(self, x, *, scale):
        return {"out": [self.relu(self.operation(self.conv(scale * x)))]}


class Stacked(nn.Module):
    """Two cells, of which the second may differ, and a head."""

    def __init__(self, first, second):
        super().__init__()
        self.cells = nn.ModuleList([Cell(first), Cell(second)])
        self.head = nn.Linear(16, 2)
        self.ending = lambda y: y

    def forward(self, x):
        for cell in self.cells:
            x = cell(x, scale=2.0)["out"][0]
        return self.head(self.ending(x.flatten(1)))


def same(x):
    return x


SECOND = {
    "own": (Doubled.apply, r"layer 'cells.1' (Cell) runs a function of its own (Doubled)"),
    "norm": (nn.LayerNorm(2).double(), r"layer 'cells.1.operation' (LayerNorm) runs NativeLayerNorm"),
    "product": (lambda x: x * x, r"layer 'cells.1' (Cell) multiplies two things that both depend on the input (Mul)"),
}


@pytest.mark.parametrize("method", ["deep_lift", "deep_lift_shap", "lrp"])
@pytest.mark.parametrize("what", SECOND)
def test_the_innermost_layer_is_named(nets, method, what):
    operation, said = SECOND[what]
    model, batch = Stacked(same, operation), torch.rand(1, 1, 2, 4, 2)
    with pytest.raises(ModelError, match=f"^{re.escape(said)}; "):
        explain.attribute(model, batch, method=method, target=1)
    assert explain.applicability(model, batch, 1)[method].startswith(said)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution"])
@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (Doubled.apply, "layer 'cells.0' (Cell) runs a function of its own (Doubled)"),
        (nn.GELU(), "layer 'cells.0.operation' (GELU) runs Gelu"),
        (lambda x: torch.where(x > 0, x, 0.0), "layer 'cells.0' (Cell) runs Where, which may be a ReLU"),
    ],
)
def test_so_it_is_by_methods_for_rectifiers(nets, method, operation, said):
    with pytest.raises(ModelError, match=f"^{re.escape(said)}"):
        explain.attribute(Stacked(operation, same), torch.rand(1, 1, 2, 4, 2), method=method, target=1)


def test_what_no_layer_runs_is_the_models_own(nets):
    model = Stacked(same, same)
    model.ending = lambda y: y.softmax(dim=1)
    with pytest.raises(ModelError, match=r"^the model runs Softmax; DeepLift has no rule for it"):
        explain.attribute(model, torch.rand(1, 1, 2, 4, 2), method="deep_lift", target=1)


def test_layers_before_a_unit_are_named_though_the_pass_ends_there(nets):
    model, batch = Stacked(Doubled.apply, torch.sigmoid), torch.rand(1, 1, 2, 4, 2)
    with pytest.raises(ModelError, match=r"^layer 'cells.0' \(Cell\) runs a function of its own"):
        explain.attribute(model, batch, method="lrp", target="cells.1.conv/0")
