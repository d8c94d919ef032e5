"""A convolutional LSTM layer (Shi et al., arXiv 1506.04214, without peepholes).

What needs no state of the frame before is taken out of the loops over time: forward the convolution of the input,
backward the gradients of all weights.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class ConvLSTM(nn.Module):
    """The gates at time t read the input of that frame and the state of the frame before.

        i, f, o = sigmoid(W_x * x_t + W_h * h_(t-1) + b), g = tanh(likewise),
        c_t = f c_(t-1) + i g, h_t = o tanh(c_t), h_0 = c_0 = 0.

    W_x (with bias, carrying the spatial stride) and W_h (without) hold the four gates one after the other, in the order
    i, f, o, g. Gradients can be taken once, not twice.

    Shapes: N x incoming x T x H x W to the states h of all frames, N x channels x T x H/stride x W/stride.
    """

    def __init__(self, incoming: int, channels: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.of_input = nn.Conv2d(incoming, 4 * channels, kernel, stride=stride, padding=kernel // 2)
        self.of_state = nn.Conv2d(channels, 4 * channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the states of all frames; shapes as in the class."""
        count, _, frames = x.shape[:3]
        # Channels last throughout: the gates of a pixel are contiguous, and convolutions take it without a copy.
        folded = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        gates = self.of_input(folded).permute(0, 2, 3, 1).unflatten(0, (count, frames))
        weight = self.of_state.weight.to(gates.dtype).contiguous(memory_format=torch.channels_last)
        states: Tensor = _Recurrence.apply(gates, weight)  # type: ignore[no-untyped-call]
        return states.permute(0, 4, 1, 2, 3)


class _Recurrence(torch.autograd.Function):
    """Recurrence from the input's part of the gates, N x T x H x W x 4C, and W_h to the states, N x T x H x W x C.

    tanh(z) is computed as 2 sigmoid(2z) - 1, so that one call computes the four gates, forward and backward.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor) -> Tensor:
        channels = weight.shape[1]
        scale = torch.cat((weight.new_ones(3 * channels), weight.new_full((channels,), 2)))
        weight = weight * scale[:, None, None, None]
        activated: list[Tensor] = []
        squashed: list[Tensor] = []
        memories: list[Tensor] = []
        states: list[Tensor] = []
        for of_frame in gates.unbind(1):
            gate = of_frame * scale
            if states:
                gate.add_(_convolve(states[-1], weight))
            activated.append(gate.sigmoid_())
            incoming, kept, outgoing, candidate = gate.chunk(4, dim=-1)
            memory = (2 * candidate).sub_(1).mul_(incoming)
            memories.append(memory.addcmul_(kept, memories[-1]) if memories else memory)
            squashed.append((2 * memory).sigmoid_().mul_(2).sub_(1))
            states.append(outgoing * squashed[-1])
        everything = torch.stack(states, dim=1)
        ctx.save_for_backward(everything, weight, scale, *activated, *squashed, *memories)
        return everything

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor) -> tuple[Tensor, Tensor]:
        states, weight, scale, *saved = ctx.saved_tensors
        frames = states.shape[1]
        activated, squashed, memories = saved[:frames], saved[frames : 2 * frames], saved[2 * frames :]
        nothing = torch.zeros_like(memories[0])
        of_gates: list[Tensor] = []
        of_state, of_memory = of_states[:, -1].contiguous(), nothing
        for t in reversed(range(frames)):
            incoming, kept, outgoing, candidate = activated[t].chunk(4, dim=-1)
            of_memory = of_memory + torch.ops.aten.tanh_backward(of_state * outgoing, squashed[t])
            of_activated = (
                (2 * candidate).sub_(1).mul_(of_memory),
                of_memory * (memories[t - 1] if t else nothing),
                of_state * squashed[t],
                (2 * incoming).mul_(of_memory),
            )
            of_gates.append(torch.ops.aten.sigmoid_backward(torch.cat(of_activated, dim=-1), activated[t]))
            if t:
                of_memory = of_memory * kept
                of_state = _convolve_backward(of_gates[-1], memories[t], weight, of_input=True)
                of_state += of_states[:, t - 1]
        of_gates.reverse()
        of_every_gate = torch.stack(of_gates, dim=1)
        before = torch.cat((nothing[:, None], states[:, :-1]), dim=1)
        # One call for the weight gradients of all steps.
        of_weight = _convolve_backward(of_every_gate.flatten(0, 1), before.flatten(0, 1), weight, of_input=False)
        return of_every_gate.mul_(scale), of_weight * scale[:, None, None, None]


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve with the size kept, channels last: N x H x W x C."""
    return torch.conv2d(x.permute(0, 3, 1, 2), weight, padding=weight.shape[-1] // 2).permute(0, 2, 3, 1)


def _convolve_backward(of_output: Tensor, x: Tensor, weight: Tensor, *, of_input: bool) -> Tensor:
    """Compute the gradient of `_convolve` to its input, for which only the shape of `x` matters, or to its weight."""
    of_output, x = of_output.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
    padding = [weight.shape[-1] // 2] * 2
    settings = [1, 1], padding, [1, 1], False, [0, 0], 1  # stride, padding, dilation, no transposition, one group
    found = torch.ops.aten.convolution_backward(of_output, x, weight, None, *settings, [of_input, not of_input, False])
    return found[0].permute(0, 2, 3, 1) if of_input else cast("Tensor", found[1])
