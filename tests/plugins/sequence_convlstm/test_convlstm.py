import pytest
import torch
from torch import nn

from zoo.errors import ModelError, UsageError
from zoo_sequence_convlstm.convlstm import GATES, PeepholeConvLSTM


def slowly(layer, x):
    """Equation 2 of the report, one gate, one frame and one convolution at a time; gates by name as well."""

    def convolve(value, weight, bias=None):
        return nn.functional.conv2d(value, weight, bias, padding=weight.shape[-1] // 2)

    squash = torch.relu if layer.activation == "relu" else torch.tanh
    w_xi, w_xf, w_xc, w_xo = layer.of_input.weight.chunk(4)
    b_i, b_f, b_c, b_o = layer.of_input.bias.chunk(4)
    w_hi, w_hf, w_hc, w_ho = layer.of_state.weight.chunk(4)
    w_ci, w_cf, w_co = layer.peepholes if layer.peepholes is not None else (0.0, 0.0, 0.0)
    h = c = torch.zeros(len(x), layer.of_state.weight.shape[1], *x.shape[-2:], dtype=x.dtype)
    states, gates = [], {name: [] for name in GATES}
    for frame in x.unbind(2):
        i = torch.sigmoid(convolve(frame, w_xi, b_i) + convolve(h, w_hi) + w_ci * c)
        f = torch.sigmoid(convolve(frame, w_xf, b_f) + convolve(h, w_hf) + w_cf * c)
        candidate = squash(convolve(frame, w_xc, b_c) + convolve(h, w_hc))
        c = f * c + i * candidate
        o = torch.sigmoid(convolve(frame, w_xo, b_o) + convolve(h, w_ho) + w_co * c)
        h = o * squash(c)
        states.append(h)
        for name, gate in zip(GATES, (i, f, candidate, o), strict=True):
            gates[name].append(gate)
    return torch.stack(states, dim=2), {name: torch.stack(of, dim=2) for name, of in gates.items()}


def values_and_gradients(call, layer, x, weighing):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = call(x)
    (y * weighing).sum().backward()
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in layer.parameters()]
    return y.detach(), x.grad, *gradients


def cell(incoming=3, channels=4, size=(6, 8), **arguments):
    """Peepholes are drawn larger than usual, so that each of them counts."""
    torch.manual_seed(0)
    layer = PeepholeConvLSTM(incoming, channels, size, **arguments).double()
    if layer.peepholes is not None:
        nn.init.normal_(layer.peepholes)
    return layer


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("peephole", [True, False])
def test_the_layer_is_the_equations_in_values_and_gradients(frames, activation, peephole):
    layer = cell(activation=activation, peephole=peephole)
    x = torch.randn(2, 3, frames, 6, 8, dtype=torch.float64)
    weighing = torch.randn(2, 4, frames, 6, 8, dtype=torch.float64)
    fast = values_and_gradients(layer, layer, x, weighing)
    slow = values_and_gradients(lambda clip: slowly(layer, clip)[0], layer, x, weighing)
    assert fast[0].any()
    for found, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_gradients_and_their_gradients_pass_the_check_by_differences():
    layer = cell(1, 1, (3, 4))
    x = torch.randn(1, 1, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_bfloat16_goes_the_way_of_float32_both_ways():
    torch.manual_seed(0)
    layer = PeepholeConvLSTM(3, 8, (6, 8))
    x = torch.randn(4, 3, 3, 6, 8)
    weighing = torch.randn(4, 8, 3, 6, 8)
    expected = values_and_gradients(layer, layer, x, weighing)

    def coarsely(clip):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(clip)

    for found, right in zip(values_and_gradients(coarsely, layer, x, weighing), expected, strict=True):
        assert (found - right).norm() < 0.02 * right.norm()


def test_frames_may_lie_in_memory_as_they_like():
    layer = cell()
    x = torch.randn(2, 6, 8, 3, 3, dtype=torch.float64).permute(0, 3, 4, 1, 2)
    assert torch.equal(layer(x), layer(x.contiguous()))
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gates_are_those_of_the_equations(activation):
    layer = cell(activation=activation)
    x = torch.randn(2, 3, 4, 6, 8, dtype=torch.float64)
    found, expected = layer.gates(x), slowly(layer, x)[1]
    assert list(found) == list(GATES)
    for name in GATES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12)


def test_frames_of_another_size_are_told_what_ties_the_layer_to_its_own():
    x = torch.zeros(1, 3, 2, 5, 8, dtype=torch.float64)
    with pytest.raises(
        ModelError, match=r"frames are 5 x 8, and the peepholes are maps of 6 x 8 pixels.*peephole=False"
    ):
        cell()(x)
    assert cell(peephole=False)(x).shape == (1, 4, 2, 5, 8)


def test_an_activation_that_does_not_exist_is_told():
    with pytest.raises(UsageError, match="expected 'relu' or 'tanh'"):
        PeepholeConvLSTM(1, 2, (3, 3), activation="gelu")


def test_weights_are_drawn_as_for_one_convolution_of_input_and_state():
    torch.manual_seed(0)
    layer = PeepholeConvLSTM(7, 24, (9, 9))
    bound = (6 / (9 * (7 + 24) + 9 * 4 * 24)) ** 0.5
    for weight in (layer.of_input.weight, layer.of_state.weight):
        assert 0.98 * bound < weight.abs().max() <= bound
    assert not layer.of_input.bias.any()
    assert 0.098 < layer.peepholes.abs().max() <= 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_values_and_gradients_of_the_cpu():
    layer = cell()
    x = torch.randn(2, 3, 3, 6, 8, dtype=torch.float64)
    weighing = torch.randn(2, 4, 3, 6, 8, dtype=torch.float64)
    expected = values_and_gradients(layer, layer, x, weighing)
    layer = layer.cuda()
    found = values_and_gradients(layer, layer, x.cuda(), weighing.cuda())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-12)
