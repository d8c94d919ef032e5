import pytest
import torch
from torch import nn

from zoo_spatiotemporal_mnist.convlstm import ConvLSTM


def slowly(layer, x):
    """The equations, one gate, one frame and one convolution at a time."""
    conv = nn.functional.conv2d
    weights = layer.of_input.weight.chunk(4), layer.of_input.bias.chunk(4), layer.of_state.weight.chunk(4)
    stride, padding = layer.of_input.stride, layer.of_input.padding
    state = memory = None
    states = []
    for frame in x.unbind(2):
        gates = [conv(frame, of_x, bias, stride, padding) for of_x, bias in zip(*weights[:2], strict=True)]
        if state is None:
            state = memory = torch.zeros_like(gates[0])
        gates = [gate + conv(state, of_h, padding=padding) for gate, of_h in zip(gates, weights[2], strict=True)]
        incoming, kept, outgoing = (gate.sigmoid() for gate in gates[:3])
        memory = kept * memory + incoming * gates[3].tanh()
        state = outgoing * memory.tanh()
        states.append(state)
    return torch.stack(states, dim=2)


def values_and_gradients(call, layer, x, weighing):
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = call(x)
    (y * weighing).sum().backward()
    return y.detach(), x.grad, *(parameter.grad for parameter in layer.parameters())


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_the_layer_is_the_equations_in_values_and_gradients(frames, kernel, stride):
    torch.manual_seed(0)
    layer = ConvLSTM(3, 4, kernel=kernel, stride=stride).double()
    x = torch.randn(2, 3, frames, 6, 8, dtype=torch.float64)
    weighing = torch.randn(2, 4, frames, 6 // stride, 8 // stride, dtype=torch.float64)
    fast = values_and_gradients(layer, layer, x, weighing)
    if frames == 1:
        assert not fast[-1].any()  # nothing came before
    slow = values_and_gradients(lambda clip: slowly(layer, clip), layer, x, weighing)
    for found, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_gradients_pass_the_check_by_differences():
    torch.manual_seed(0)
    layer = ConvLSTM(2, 2).double()
    x = torch.randn(1, 2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_a_parameter_that_learns_nothing_gets_no_gradient():
    layer = ConvLSTM(2, 3)
    layer.of_state.weight.requires_grad_(requires_grad=False)
    x = torch.randn(1, 2, 3, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.of_state.weight.grad is None
    assert x.grad.abs().sum() > 0


def test_autocast_runs_in_bfloat16_and_learns_in_float32():
    torch.manual_seed(0)
    layer = ConvLSTM(4, 8)
    x = torch.randn(2, 4, 12, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert layer.of_state.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), layer(x), atol=0.02, rtol=0.02)


def test_a_second_derivative_is_refused_and_not_wrong():
    layer = ConvLSTM(2, 2)
    x = torch.randn(1, 2, 2, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_input_is_left_as_it_was():
    layer = ConvLSTM(2, 2)
    x = torch.randn(1, 2, 3, 4, 4)
    before = x.clone()
    with torch.inference_mode():
        layer(x)
    assert torch.equal(x, before)
