"""A convolutional LSTM layer with peepholes (Shi et al., arXiv 1506.04214, equation 3).

All of it is plain operations: over two frames a custom backward pass was slower, and hid intermediate values from
methods that change or repeat gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn

from zoo.errors import ModelError, UsageError

Activation = Literal["relu", "tanh"]
#: Of each gate its place among the four.
GATES: tuple[str, ...] = ("input", "forget", "candidate", "output")
#: Peepholes are drawn evenly from minus to plus this.
_WIDEST_PEEPHOLE = 0.1


class PeepholeConvLSTM(nn.Module):
    """Convolutional LSTM whose gates read the frame, the previous state and, pixel by pixel, the memory.

        i = sigmoid(W_xi * x_t + W_hi * h_(t-1) + W_ci c_(t-1) + b_i), f likewise,
        c_t = f c_(t-1) + i a(W_xc * x_t + W_hc * h_(t-1) + b_c),
        o = sigmoid(W_xo * x_t + W_ho * h_(t-1) + W_co c_t + b_o),
        h_t = o a(c_t), h_0 = c_0 = 0,

    where * is a convolution that keeps the size and a is tanh or, in both places, ReLU. The peepholes W_ci, W_cf, W_co
    are whole maps, channels x rows x columns, so that the layer takes frames of one size alone. `of_input` (with bias)
    and `of_state` hold W_x and W_h of the gates one after the other, in the order of `GATES`; `peepholes` holds W_ci,
    W_cf and W_co.

    Shapes: N x incoming x T x H x W to the states h of all frames, N x channels x T x H x W.

    Args:
        incoming: Channels of the input.
        channels: Channels of the state.
        size: Rows and columns of the frames.
        kernel: Side of the convolutions, odd.
        activation: Name of a.
        peephole: If False, frames may have any size.

    Raises:
        UsageError: for an unknown activation.
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
        """Compute the states of all frames; shapes as in the class."""
        return torch.stack([state for _, state in self._steps(x)], dim=2)

    @torch.no_grad()
    def gates(self, x: Tensor) -> dict[str, Tensor]:
        """Compute each gate, by the names of `GATES`, for the input of `forward`: N x channels x T x H x W each."""
        by_gate = zip(*(gates for gates, _ in self._steps(x)), strict=True)
        return {name: torch.stack(maps, dim=2) for name, maps in zip(GATES, by_gate, strict=True)}

    def _steps(self, x: Tensor) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
        """Yield the gates of each frame, in the order of `GATES`, and the state: N x channels x H x W each."""
        if self.peepholes is not None and x.shape[-2:] != self.peepholes.shape[-2:]:
            rows, columns = self.peepholes.shape[-2:]
            raise ModelError(
                f"frames are {x.shape[-2]} x {x.shape[-1]}, and the peepholes are maps of {rows} x {columns} pixels: "
                "give frames of that size, or build the network with peephole=False, which takes any"
            )
        activate = torch.relu if self.activation == "relu" else torch.tanh
        state = memory = None
        # one convolution for all frames: it needs no state
        for gates in self.of_input(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(x), -1)).unbind(1):
            if state is not None:
                gates = gates + self.of_state(state)
            i, f, candidate, o = gates.chunk(4, dim=1)
            if self.peepholes is not None and memory is not None:
                i, f = i + self.peepholes[0] * memory, f + self.peepholes[1] * memory
            i, f, candidate = torch.sigmoid(i), torch.sigmoid(f), activate(candidate)
            memory = i * candidate if memory is None else f * memory + i * candidate
            if self.peepholes is not None:
                o = o + self.peepholes[2] * memory
            o = torch.sigmoid(o)
            state = o * activate(memory)
            yield (i, f, candidate, o), state
