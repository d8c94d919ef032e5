"""A convolutional LSTM layer (Shi et al., arXiv 1506.04214, without peepholes), with the work that can wait for no
state taken out of the loop over time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvLSTM(nn.Module):
    """The gates at time t read the input of that frame and the state of the frame before.

        i, f, o = sigmoid(W_x * x_t + W_h * h_(t-1) + b), g = tanh(likewise),
        c_t = f c_(t-1) + i g, h_t = o tanh(c_t), h_0 = c_0 = 0.

    W_x (with bias, carrying the spatial stride) and W_h (without) hold the four gates one after the other, in the order
    i, f, o, g. W_x is applied to all frames in one call, so that a step costs a single convolution.

    Shapes: N x incoming x T x H x W to the states h of all frames, N x channels x T x H/stride x W/stride.
    """

    def __init__(self, incoming: int, channels: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.of_input = nn.Conv2d(incoming, 4 * channels, kernel, stride=stride, padding=kernel // 2)
        self.of_state = nn.Conv2d(channels, 4 * channels, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The states of all frames, as the class says."""
        count, _, frames = x.shape[:3]
        gates = self.of_input(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (count, frames))
        states: list[Tensor] = []
        memory: Tensor | None = None
        for of_frame in gates.unbind(1):
            state, memory = step(of_frame if memory is None else of_frame + self.of_state(states[-1]), memory)
            states.append(state)
        # Channels last inside and out: the convolutions around take and give it without a copy.
        return torch.stack([state.permute(0, 2, 3, 1) for state in states], dim=1).permute(0, 4, 1, 2, 3)


def step(gates: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor]:
    """State and memory after one frame: gates N x 4C x H x W before their functions, memory N x C x H x W or None (0)."""
    channels = gates.shape[1] // 4
    opened, candidate = gates.split((3 * channels, channels), dim=1)
    incoming, kept, outgoing = opened.sigmoid().chunk(3, dim=1)
    added = incoming * candidate.tanh()
    memory = added if memory is None else torch.addcmul(added, kept, memory)
    return outgoing * memory.tanh(), memory
