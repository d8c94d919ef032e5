"""The networks of Courtney & Sreenivas, arXiv 2009.07338, tables 1 and 2: one table row each, over shared block code.

A residual body works on every frame (Conv2D) or on frames and their neighbours (Conv3D), a spatial average collapses
each frame to one vector, a two-layer LSTM reads the vectors in time, and three linear heads read its last time step.
The paper leaves parts of this open; what stands here is what makes the published parameter counts come out
(`cards/conv3d.md` lists what was inferred).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class BlockRow:
    """One row of the paper's tables: channels (in, inside the block, out) and the spatial stride."""

    name: str
    incoming: int
    inside: int
    outgoing: int
    stride: int


@dataclass(frozen=True, slots=True)
class Design:
    """What sets one member of the family apart: its rows and the kernel (T, H, W) of the convolution inside a block."""

    rows: tuple[BlockRow, ...]
    kernel: tuple[int, int, int]


def _rows(narrow: int, wide: int, features: int) -> tuple[BlockRow, ...]:
    """The eight rows that every table shares; blocks of `narrow` channels give `features`, of `wide` in proportion."""
    deep = wide * features // narrow
    return (
        BlockRow("res1_1", 1, narrow, features, 2),
        BlockRow("res2_1", features, narrow, features, 2),
        BlockRow("res3_1", features, narrow, features, 2),
        BlockRow("res3_2", features, narrow, features, 1),
        BlockRow("res4_1", features, wide, deep, 2),
        BlockRow("res4_2", deep, wide, deep, 1),
        BlockRow("res4_3", deep, wide, deep, 1),
        BlockRow("res4_4", deep, wide, deep, 1),
    )


#: Every network of the family by its name.
DESIGNS: dict[str, Design] = {
    "conv2d": Design(rows=_rows(16, 32, 64), kernel=(1, 3, 3)),
    "conv3d": Design(rows=_rows(16, 32, 64), kernel=(3, 3, 3)),
}


class ResidualBlock(nn.Module):
    """1x1x1 convolution, the design's convolution, 1x1x1 convolution; the input is added (section 4, "Models").

    Each convolution is followed by BatchNorm, the first two by ReLU as well; the sum goes through ReLU. A block that
    strides carries a strided 1x1x1 convolution on its open connection. A block that reads the clip itself (one
    channel in) has no first 1x1x1 convolution.

    Shapes: N x incoming x T x H x W to N x outgoing x T x H/stride x W/stride.
    """

    def __init__(self, row: BlockRow, kernel: tuple[int, int, int], *, first: bool) -> None:
        super().__init__()
        stride = (1, row.stride, row.stride)
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if not first:
            layers["reduce"] = nn.Conv3d(row.incoming, row.inside, 1)
            layers["reduce_norm"] = nn.BatchNorm3d(row.inside)
            layers["reduce_relu"] = nn.ReLU()
        inputs = row.incoming if first else row.inside
        layers["conv"] = nn.Conv3d(inputs, row.inside, kernel, stride=stride, padding=padding)
        layers["conv_norm"] = nn.BatchNorm3d(row.inside)
        layers["conv_relu"] = nn.ReLU()
        layers["expand"] = nn.Conv3d(row.inside, row.outgoing, 1)
        layers["expand_norm"] = nn.BatchNorm3d(row.outgoing)
        self.main = nn.Sequential(layers)
        self.shortcut: nn.Module = nn.Identity()
        if row.stride != 1 or row.incoming != row.outgoing:
            self.shortcut = nn.Conv3d(row.incoming, row.outgoing, 1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, as the class says."""
        return cast("Tensor", self.relu(self.main(x) + self.shortcut(x)))


class BlinkingNetwork(nn.Module):
    """Body, spatial pool, two-layer LSTM and three heads, for blinking digits (`blinking.py`).

    Input N x C x T x 64 x 64 in [0, 1], any T >= 1. Output: `digit` N x digits and `order` N x orders (logits), `speed`
    N x 1 in pixels a frame, all read at the last time step.

    The pooled features are standardised per channel before the LSTM by a BatchNorm without scale and shift: it adds
    buffers but no parameter.
    """

    def __init__(self, design: Design, *, in_channels: int = 1, digits: int = 10, orders: int = 6) -> None:
        super().__init__()
        first = design.rows[0]
        rows = (BlockRow(first.name, in_channels, first.inside, first.outgoing, first.stride), *design.rows[1:])
        self.body = nn.Sequential(
            OrderedDict((row.name, ResidualBlock(row, design.kernel, first=row is rows[0])) for row in rows)
        )
        features = rows[-1].outgoing
        self.pool = nn.AdaptiveAvgPool3d((None, 1, 1))
        self.standardize = nn.BatchNorm1d(features, affine=False)
        self.lstm = nn.LSTM(features, features, num_layers=2, batch_first=True)
        self.hidden = nn.Linear(features, features)
        self.hidden_relu = nn.ReLU()
        self.digit = nn.Linear(features, digits)
        self.order = nn.Linear(features, orders)
        self.speed = nn.Linear(features, 1)

    def features(self, x: Tensor) -> Tensor:
        """Standardised features of each frame: N x C x T x 64 x 64 to N x T x F."""
        pooled = self.pool(self.body(x)).flatten(2)
        return cast("Tensor", self.standardize(pooled).transpose(1, 2))

    def read(self, hidden: Tensor) -> dict[str, Tensor]:
        """The three heads on LSTM outputs: any shape ending in F to the same shape ending in 10, 6 and 1."""
        shared = self.hidden_relu(self.hidden(hidden))
        return {"digit": self.digit(shared), "order": self.order(shared), "speed": self.speed(shared)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """The three heads at the last time step, as the class says."""
        states, _ = self.lstm(self.features(x))
        return self.read(states[:, -1])


def conv2d(*, in_channels: int = 1, digits: int = 10, orders: int = 6) -> BlinkingNetwork:
    """Conv2D of table 1: every frame on its own, time only in the LSTM. 384,881 parameters."""
    return BlinkingNetwork(DESIGNS["conv2d"], in_channels=in_channels, digits=digits, orders=orders)


def conv3d(*, in_channels: int = 1, digits: int = 10, orders: int = 6) -> BlinkingNetwork:
    """Conv3D of table 2: 3x3x3 convolutions in every block. 472,721 parameters."""
    return BlinkingNetwork(DESIGNS["conv3d"], in_channels=in_channels, digits=digits, orders=orders)
