"""The network that predicts the next frame (Williams, "Convolutional LSTM For Image Sequence Modelling", 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from zoo.errors import ModelError, UsageError
from zoo_sequence_convlstm.convlstm import Activation, PeepholeConvLSTM


class Layer(nn.Module):
    """A convolutional LSTM, then BatchNorm over samples, frames, rows and columns."""

    def __init__(
        self, incoming: int, channels: int, size: tuple[int, int], *, activation: Activation, peephole: bool
    ) -> None:
        super().__init__()
        self.cell = PeepholeConvLSTM(incoming, channels, size, activation=activation, peephole=peephole)
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """N x incoming x T x H x W to N x channels x T x H x W."""
        return cast("Tensor", self.norm(self.cell(x)))


class SequenceConvLSTM(nn.Module):
    """Layers of convolutional LSTMs; a convolution of the last frame's features and a sigmoid give the next frame.

    Shapes: N x in_channels x T x H x W (0 to 1) to N x in_channels x 1 x H x W (0 to 1).

    Raises:
        ModelError: (forward) for a batch of another shape.
    """

    def __init__(
        self,
        *,
        layers: int,
        kernels: int,
        activation: Activation,
        size: tuple[int, int],
        in_channels: int,
        peephole: bool,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        widths = [in_channels, *[kernels] * layers]
        self.layers = nn.Sequential(
            *(
                Layer(incoming, channels, size, activation=activation, peephole=peephole)
                for incoming, channels in pairwise(widths)
            )
        )
        self.head = nn.Conv2d(kernels, in_channels, 3, padding=1)
        # As the cells' convolutions are drawn.
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(cast("Tensor", self.head.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Predict the next frame; shapes as in the class."""
        if x.ndim != 5 or x.shape[1] != self.in_channels or 0 in x.shape:
            raise ModelError(
                f"a batch is {' x '.join(map(str, x.shape))}; expected N x {self.in_channels} x T x H x W, "
                "one clip and one frame or more"
            )
        return torch.sigmoid(self.head(self.layers(x)[:, :, -1])).unsqueeze(2)


def build(
    *,
    layers: int = 4,
    kernels: int = 71,
    activation: Activation = "relu",
    size: Sequence[int] = (36, 36),
    in_channels: int = 1,
    peephole: bool = True,
) -> nn.Module:
    """Build the network, drawn from torch's global generator.

    Args:
        layers: Number of stacked convolutional LSTMs.
        kernels: Channels of each.
        activation: "relu" or "tanh", of the candidate and of a cell's output.
        size: Rows and columns of the frames; unused without peepholes.
        in_channels: Channels of a frame.
        peephole: Whether gates read the memory, through maps of the frame's size.

    Raises:
        UsageError: for a count that is not positive, or an unknown activation.
    """
    for name, count in {"layers": layers, "kernels": kernels, "in_channels": in_channels}.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}")
    rows, columns = size
    return SequenceConvLSTM(
        layers=layers,
        kernels=kernels,
        activation=activation,
        size=(rows, columns),
        in_channels=in_channels,
        peephole=peephole,
    )
