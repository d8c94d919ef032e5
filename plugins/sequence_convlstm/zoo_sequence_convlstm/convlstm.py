"""A convolutional LSTM layer with peepholes (Shi et al., arXiv 1506.04214, equation 3).

What needs no state of the frame before is taken out of the loop over time: forward the convolution of the input,
backward the gradients of the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zoo.errors import ModelError, UsageError

Activation = Literal["relu", "tanh"]
#: Of each gate its place among the four.
GATES: tuple[str, ...] = ("input", "forget", "candidate", "output")
#: Peepholes are drawn evenly from minus to plus this.
_WIDEST_PEEPHOLE = 0.1


class PeepholeConvLSTM(nn.Module):
    """The gates of a frame read it, the state of the frame before and, pixel by pixel, the memory.

        i = sigmoid(W_xi * x_t + W_hi * h_(t-1) + W_ci c_(t-1) + b_i), f likewise,
        c_t = f c_(t-1) + i a(W_xc * x_t + W_hc * h_(t-1) + b_c),
        o = sigmoid(W_xo * x_t + W_ho * h_(t-1) + W_co c_t + b_o),
        h_t = o a(c_t), h_0 = c_0 = 0,

    where * is a convolution that keeps the size and a is tanh or, in both places, ReLU. The peepholes W_ci, W_cf, W_co
    are whole maps, channels x rows x columns, so that the layer takes frames of one size alone. `of_input` (with bias)
    and `of_state` hold W_x and W_h of the gates one after the other, in the order of `GATES`; `peepholes` holds W_ci,
    W_cf and W_co. Gradients can be taken once, not twice.

    Shapes: N x incoming x T x H x W to the states h of all frames, N x channels x T x H x W.

    Args:
        incoming: Channels of the input.
        channels: Channels of the state.
        size: Rows and columns of the frames.
        kernel: Side of the convolutions, odd.
        activation: What a is.
        peephole: Without, frames may have any size.

    Raises:
        UsageError: where there is no such activation.
        ModelError: (forward) for frames of another size than the peepholes have.
    """

    def __init__(
        self,
        incoming: int,
        channels: int,
        size: tuple[int, int],
        *,
        kernel: int = 3,
        activation: Activation = "tanh",
        peephole: bool = True,
    ) -> None:
        super().__init__()
        if activation not in ("relu", "tanh"):
            raise UsageError(f"activation {activation!r}: expected 'relu' or 'tanh'")
        self.activation = activation
        self.of_input = nn.Conv2d(incoming, 4 * channels, kernel, padding=kernel // 2)
        self.of_state = nn.Conv2d(channels, 4 * channels, kernel, padding=kernel // 2, bias=False)
        self.peepholes = nn.Parameter(torch.empty(3, channels, *size)) if peephole else None
        # Xavier's bound for one convolution of input and state together, which the two are.
        bound = math.sqrt(6 / (kernel**2 * (incoming + channels + 4 * channels)))
        nn.init.uniform_(self.of_input.weight, -bound, bound)
        nn.init.uniform_(self.of_state.weight, -bound, bound)
        nn.init.zeros_(cast("Tensor", self.of_input.bias))
        if self.peepholes is not None:
            nn.init.uniform_(self.peepholes, -_WIDEST_PEEPHOLE, _WIDEST_PEEPHOLE)

    def forward(self, x: Tensor) -> Tensor:
        """The states of all frames, as the class says."""
        states: Tensor = _Recurrence.apply(*self._prepared(x))  # type: ignore[no-untyped-call]
        return states.permute(0, 4, 1, 2, 3)

    @torch.no_grad()
    def gates(self, x: Tensor) -> dict[str, Tensor]:
        """What each gate is, by the names of `GATES`, for the input of `forward`: N x channels x T x H x W each."""
        activated = torch.stack(_forward(*self._prepared(x)).activated, dim=1).permute(0, 4, 1, 2, 3)
        return dict(zip(GATES, activated.chunk(4, dim=1), strict=True))

    def _prepared(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Activation]:
        """What the input says about the gates, W_h, and the peepholes; channels last, as a pixel's lie together."""
        if self.peepholes is not None and x.shape[-2:] != self.peepholes.shape[-2:]:
            rows, columns = self.peepholes.shape[-2:]
            raise ModelError(
                f"frames are {x.shape[-2]} x {x.shape[-1]}, and the peepholes are maps of {rows} x {columns} pixels: "
                "give frames of that size, or build the network with peephole=False, which takes any"
            )
        count, _, frames = x.shape[:3]
        folded = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        gates = self.of_input(folded).permute(0, 2, 3, 1).unflatten(0, (count, frames))
        weight = self.of_state.weight.to(gates.dtype).contiguous(memory_format=torch.channels_last)
        peepholes = None if self.peepholes is None else self.peepholes.to(gates.dtype).permute(0, 2, 3, 1).contiguous()
        return gates, weight, peepholes, self.activation


@dataclass(frozen=True, slots=True)
class _Steps:
    """What is known of each frame: N x H x W x 4C activated gates, and N x H x W x C of everything else."""

    activated: list[Tensor] = field(default_factory=list)
    memories: list[Tensor] = field(default_factory=list)
    squashed: list[Tensor] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)


def _forward(gates: Tensor, weight: Tensor, peepholes: Tensor | None, activation: Activation) -> _Steps:
    channels = weight.shape[1]
    steps = _Steps()
    for t, of_frame in enumerate(gates.unbind(1)):
        gate = of_frame + _convolve(steps.states[-1], weight) if t else of_frame.clone()
        early, candidate, late = torch.split(gate, [2 * channels, channels, channels], dim=-1)
        incoming, kept = early.chunk(2, dim=-1)
        if t and peepholes is not None:
            incoming.addcmul_(peepholes[0], steps.memories[-1])
            kept.addcmul_(peepholes[1], steps.memories[-1])
        early.sigmoid_()
        _activate(candidate, activation)
        memory = incoming * candidate
        if t:
            memory.addcmul_(kept, steps.memories[-1])
        if peepholes is not None:
            late.addcmul_(peepholes[2], memory)
        late.sigmoid_()
        steps.activated.append(gate)
        steps.memories.append(memory)
        steps.squashed.append(_activate(memory.clone(), activation))
        steps.states.append(late * steps.squashed[-1])
    return steps


class _Recurrence(torch.autograd.Function):
    """From what the input says about the gates, N x T x H x W x 4C, W_h, and the peepholes, 3 x H x W x C, to states.

    States are N x T x H x W x C.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, peepholes: Tensor | None, activation: Activation) -> Tensor:
        steps = _forward(gates, weight, peepholes, activation)
        everything = torch.stack(steps.states, dim=1)
        ctx.activation = activation
        ctx.save_for_backward(everything, weight, peepholes, *steps.activated, *steps.squashed, *steps.memories)
        return everything

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        states, weight, peepholes, *saved = ctx.saved_tensors
        frames, channels = states.shape[1], states.shape[-1]
        parts = [2 * channels, channels, channels]
        activated, squashed, memories = saved[:frames], saved[frames : 2 * frames], saved[2 * frames :]
        of_peepholes = None if peepholes is None else torch.zeros_like(peepholes)
        of_gates = torch.empty_like(torch.stack(activated, dim=1))
        of_state = of_states[:, -1]
        of_memory = torch.zeros_like(memories[0])
        for t in reversed(range(frames)):
            incoming, kept, candidate, outgoing = activated[t].chunk(4, dim=-1)
            of_early, of_candidate, of_late = torch.split(of_gates[:, t], parts, dim=-1)
            of_late.copy_(_sigmoid_backward(of_state * squashed[t], outgoing))
            of_memory = of_memory + _activate_backward(of_state * outgoing, squashed[t], ctx.activation)
            if of_peepholes is not None:
                of_memory.addcmul_(peepholes[2], of_late)
                of_peepholes[2] += (of_late * memories[t]).sum(0)
            before = memories[t - 1] if t else torch.zeros_like(of_memory)
            of_early.copy_(
                _sigmoid_backward(
                    torch.cat((of_memory * candidate, of_memory * before), dim=-1),
                    activated[t][..., : 2 * channels],
                )
            )
            of_candidate.copy_(_activate_backward(of_memory * incoming, candidate, ctx.activation))
            if t:
                of_memory = of_memory * kept
                if of_peepholes is not None:
                    for place, of_gate in enumerate(of_early.chunk(2, dim=-1)):
                        of_memory.addcmul_(peepholes[place], of_gate)
                        of_peepholes[place] += (of_gate * before).sum(0)
                of_state = _convolve_backward(of_gates[:, t], before, weight, of_input=True) + of_states[:, t - 1]
        if frames > 1:  # one call for the weight gradients of all steps
            later, before = of_gates[:, 1:].flatten(0, 1), states[:, :-1].flatten(0, 1)
            of_weight = _convolve_backward(later, before, weight, of_input=False)
        else:
            of_weight = torch.zeros_like(weight)
        return of_gates, of_weight, of_peepholes, None


def _activate(x: Tensor, activation: Activation) -> Tensor:
    """In place."""
    return x.relu_() if activation == "relu" else x.tanh_()


def _activate_backward(of_output: Tensor, output: Tensor, activation: Activation) -> Tensor:
    if activation == "relu":
        return cast("Tensor", torch.ops.aten.threshold_backward(of_output, output, 0))
    return cast("Tensor", torch.ops.aten.tanh_backward(of_output, output))


def _sigmoid_backward(of_output: Tensor, output: Tensor) -> Tensor:
    return cast("Tensor", torch.ops.aten.sigmoid_backward(of_output, output))


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution that keeps the size, channels last: N x H x W x C."""
    return torch.conv2d(x.permute(0, 3, 1, 2), weight, padding=weight.shape[-1] // 2).permute(0, 2, 3, 1)


def _convolve_backward(of_output: Tensor, x: Tensor, weight: Tensor, *, of_input: bool) -> Tensor:
    """The gradient of `_convolve` to its input, where only the shape of `x` matters, or to its weight."""
    of_output, x = of_output.permute(0, 3, 1, 2), x.permute(0, 3, 1, 2)
    padding = [weight.shape[-1] // 2] * 2
    settings = [1, 1], padding, [1, 1], False, [0, 0], 1  # stride, padding, dilation, no transposition, one group
    found = torch.ops.aten.convolution_backward(of_output, x, weight, None, *settings, [of_input, not of_input, False])
    return found[0].permute(0, 2, 3, 1) if of_input else cast("Tensor", found[1])
