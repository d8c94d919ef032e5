import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import explain
from zoo.errors import ModelError

KERNEL = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)


class Residual(nn.Module):
    """Eight residual sums of 3-D convolutions, max pooling and a dense layer, no biases."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(1, 3, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList([nn.Conv3d(3, 3, 3, padding=1, bias=False) for _ in range(8)])
        self.head = nn.Linear(3, 2, bias=False)

    def forward(self, x):
        y = F.relu(self.stem(x))
        for block in self.blocks:
            y = F.relu(block(y) + y)
        return self.head(F.max_pool3d(y, 2).mean(dim=(2, 3, 4)))


@pytest.mark.parametrize("activation", [F.relu, F.gelu, torch.tanh])
def test_without_biases_everything_is_shared_out_once_through_residual_sums(nets, activation, monkeypatch):
    monkeypatch.setattr(F, "relu", activation)
    model, batch = Residual(), torch.randn(2, 1, 4, 6, 6)
    result = explain.attribute(model, batch, method="lrp", target=1)
    assert torch.allclose(result.raw.sum(dim=(1, 2, 3, 4)), model(batch)[:, 1].detach(), rtol=1e-6)
    plain = explain.attribute(model, batch, method="input_x_gradient", target=1)
    assert not torch.allclose(result.raw, plain.raw, rtol=0.1)


def slow_z_plus(inputs, weight, bias, relevance):
    """One output after the other, as the paper writes it: 3 x 3 x 3 convolutions, padded by 1."""
    passed = torch.zeros_like(F.pad(inputs, [1] * 6))
    padded = F.pad(inputs, [1] * 6)
    for unit in range(weight.shape[0]):
        for t in range(inputs.shape[1]):
            for h in range(inputs.shape[2]):
                for w in range(inputs.shape[3]):
                    cut = (slice(None), slice(t, t + 3), slice(h, h + 3), slice(w, w + 3))
                    products = (padded[cut] * weight[unit]).clamp(min=0)
                    total = products.sum() + bias[unit].clamp(min=0)
                    passed[cut] += products / total * relevance[unit, t, h, w]
    return passed[:, 1:-1, 1:-1, 1:-1]


def test_convolutions_follow_the_z_plus_rule_with_biases_and_inputs_of_both_signs(nets):
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv3d(2, 2, 3, padding=1), nn.ReLU(), nn.Flatten()
    )
    batch = torch.randn(1, 1, 3, 3, 2)
    result = explain.attribute(model, batch, method="lrp", target=lambda output: output.sum(dim=1))
    with torch.no_grad():
        first = model[0](batch).relu()[0]
        second = model[2](first[None]).relu()[0]
        middle = slow_z_plus(first, model[2].weight, model[2].bias, second)
        expected = slow_z_plus(batch[0], model[0].weight, model[0].bias, middle)
    assert torch.allclose(result.raw[0], expected, atol=1e-10)
    assert expected.abs().sum() > 0


@pytest.mark.parametrize("grouped", [False, True])
def test_transposed_convolutions_follow_it_as_what_they_undo_does(nets, grouped):
    """Each place of the input is spread over places of the output, whose relevance comes back to it in shares."""
    torch.manual_seed(0)
    layer = nn.ConvTranspose3d(2, 2, 2, stride=2, groups=1 + grouped)
    batch = torch.randn(1, 2, 2, 2, 2)
    result = explain.attribute(nn.Sequential(layer, nn.Flatten()), batch, method="lrp", target=lambda y: y.sum(dim=1))
    with torch.no_grad():
        relevance, expected = layer(batch)[0], torch.zeros_like(batch[0])
        for t, h, w in itertools.product(range(2), repeat=3):  # blocks that do not overlap
            block = (slice(2 * t, 2 * t + 2), slice(2 * h, 2 * h + 2), slice(2 * w, 2 * w + 2))
            for unit in range(2):
                into = [unit] if grouped else [0, 1]
                kernels = torch.stack([layer.weight[one, 0 if grouped else unit] for one in into])
                added = (batch[0, into, t, h, w].view(-1, 1, 1, 1) * kernels).clamp(min=0)
                total = added.sum(dim=0) + layer.bias[unit].clamp(min=0)
                share = torch.where(total > 0, added / total, 0.0) * relevance[(unit, *block)]
                expected[into, t, h, w] += share.sum(dim=(1, 2, 3))
    assert torch.allclose(result.raw[0], expected, atol=1e-10)


def test_arguments_given_by_name_are_those_given_by_place(nets):
    weight, bias = torch.randn(2, 1, 3, 3, 3), torch.rand(2)

    class Named(nn.Module):
        def forward(self, x):
            y = F.conv3d(input=x, weight=weight, bias=bias, padding=1)
            return F.relu(input=F.conv3d(y, weight[:, :1], bias=bias, groups=2, padding=1)).flatten(1)

    class Placed(nn.Module):
        def forward(self, x):
            y = F.conv3d(x, weight, bias, padding=1)
            return F.relu(F.conv3d(y, weight[:, :1], bias, groups=2, padding=1)).flatten(1)

    batch = torch.randn(1, 1, 2, 4, 4)
    for method in ("lrp", "deep_lift", "guided_backprop"):
        named, placed = (explain.attribute(model(), batch, method=method).raw for model in (Named, Placed))
        assert torch.equal(named, placed)
        assert named.any()


def test_batch_normalisation_keeps_what_its_shift_added(nets):
    model = nn.Sequential(nn.BatchNorm3d(1), nn.Flatten(), nn.Linear(36, 2, bias=False)).eval()
    nn.init.constant_(model[0].running_mean, 0.7)
    batch = torch.randn(2, 1, 4, 3, 3)
    result = explain.attribute(model, batch, method="lrp", target=0)
    scale = 1 / (1 + model[0].eps) ** 0.5
    expected = batch * scale * model[2].weight[0].view(1, 1, 4, 3, 3)
    assert torch.allclose(result.raw, expected.detach())


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (torch.sigmoid, "Sigmoid"),
        (lambda y: y * y, "two things"),
        (lambda y: F.layer_norm(y, y.shape[-1:]), "NativeLayerNorm"),
        (lambda y: torch.convolution(y, KERNEL, None, [1] * 3, [0] * 3, [1] * 3, True, [0] * 3, 1), "Convolution"),
        (lambda y: F.conv3d(y, y[:1]), "depend on the input"),
        (lambda y: torch.where(y > 0, y, 0.0), "Where"),
    ],
)
def test_operations_without_a_rule_are_refused(nets, ending, said):
    class Ending(nn.Module):
        def forward(self, x):
            return ending(x).flatten(1)

    with pytest.raises(ModelError, match=said):
        explain.attribute(Ending(), torch.randn(1, 1, 2, 4, 4), method="lrp")


def test_gates_are_refused_and_units_before_them_are_not(nets):
    model, batch = nets.TwoHeads(), torch.randn(2, 1, 4, 6, 6)
    with pytest.raises(ModelError, match="lstm"):
        explain.attribute(model, batch, method="lrp")
    assert explain.attribute(model, batch, method="lrp", target="block/1").raw.abs().sum() > 0
