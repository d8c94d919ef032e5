"""The networks of Courtney & Sreenivas, arXiv 2009.07338, tables 1 to 4: one table row each, over shared block code.

A residual body works on every frame (Conv2D), on frames and their neighbors (Conv3D, with temporal strides TS-Conv3D)
or on a frame and all before it (ConvLSTM). A spatial average collapses each frame to one vector, a two-layer LSTM reads
the vectors in time (not after ConvLSTM), and three linear heads read the last time step. The paper leaves parts of this
open; these choices reproduce the published parameter counts (the cards list what was inferred).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from zoo_spatiotemporal_mnist.convlstm import ConvLSTM


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
    """Design of one member of the family: its table rows and the layer between the 1x1x1 convolutions of a block.

    `kernel` (T, H, W) is that of a convolution; None means a convolutional LSTM of 3x3. With `strided_time`, the
    blocks that stride in space stride in time as well.
    """

    rows: tuple[BlockRow, ...]
    kernel: tuple[int, int, int] | None
    strided_time: bool = False

    @property
    def by_frame(self) -> bool:
        """Check whether the features of a frame depend on that frame alone."""
        return self.kernel is not None and self.kernel[0] == 1

    @property
    def frames_per_step(self) -> int:
        """Return the number of frames per time step of the features: the product of the strides in time."""
        return math.prod(row.stride for row in self.rows) if self.strided_time else 1


def _rows(narrow: int, wide: int, features: int) -> tuple[BlockRow, ...]:
    """Return the eight rows of every table; blocks of `narrow` channels give `features`, of `wide` in proportion."""
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


_SMALL = _rows(16, 32, 64)
_XL = _rows(36, 72, 72)

#: Every network of the family by its name. Table 4 repeats the small channels in its column XL; the published parameter
#: count asks for those of the other XL networks.
DESIGNS: dict[str, Design] = {
    "conv2d": Design(_SMALL, kernel=(1, 3, 3)),
    "conv3d": Design(_SMALL, kernel=(3, 3, 3)),
    "convlstm": Design(_SMALL, kernel=None),
    "conv2d_xl": Design(_XL, kernel=(1, 3, 3)),
    "conv3d_xl": Design(_XL, kernel=(3, 3, 3)),
    "ts_conv3d_xl": Design(_XL, kernel=(3, 3, 3), strided_time=True),
    "convlstm_xl": Design(_XL, kernel=None),
}


class ResidualBlock(nn.Module):
    """1x1x1 convolution, the design's convolution, 1x1x1 convolution; the input is added (section 4, "Models").

    Each convolution is followed by BatchNorm, the first two by ReLU as well; a convolutional LSTM by neither. The sum
    goes through ReLU. A block that strides carries a strided 1x1x1 convolution on its open connection. A block that
    reads the clip itself (one channel in) has no first 1x1x1 convolution.

    Shapes: N x incoming x T x H x W to N x outgoing x T x H/stride x W/stride (T/stride where time is strided).
    """

    def __init__(self, row: BlockRow, design: Design, *, first: bool) -> None:
        super().__init__()
        stride = (row.stride if design.strided_time else 1, row.stride, row.stride)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if not first:
            layers["reduce"] = nn.Conv3d(row.incoming, row.inside, 1)
            layers["reduce_norm"] = nn.BatchNorm3d(row.inside)
            layers["reduce_relu"] = nn.ReLU()
        inputs = row.incoming if first else row.inside
        if design.kernel is None:
            layers["convlstm"] = ConvLSTM(inputs, row.inside, stride=row.stride)
        else:
            depth, height, width = design.kernel
            padding = (depth // 2, height // 2, width // 2)
            layers["conv"] = nn.Conv3d(inputs, row.inside, design.kernel, stride=stride, padding=padding)
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
        """Compute the block's output; shapes as in the class."""
        return cast("Tensor", self.relu(self.main(x) + self.shortcut(x)))


class BlinkingNetwork(nn.Module):
    """Body, spatial pool, two-layer LSTM and three heads, for blinking digits (`blinking.py`).

    Input N x C x T x 64 x 64 in [0, 1], any T >= 1. Output: `digit` N x digits and `order` N x orders (logits), `speed`
    N x 1 in pixels a frame, all read at the last time step.

    The pooled features are standardized per channel before the LSTM by a BatchNorm without scale and shift: it adds
    buffers but no parameter. Networks of convolutional LSTMs have no further LSTM, and their heads read the features.
    """

    def __init__(self, design: Design, *, in_channels: int = 1, digits: int = 10, orders: int = 6) -> None:
        super().__init__()
        self.by_frame = design.by_frame
        self.frames_per_step = design.frames_per_step
        first = design.rows[0]
        rows = (BlockRow(first.name, in_channels, first.inside, first.outgoing, first.stride), *design.rows[1:])
        self.body = nn.Sequential(
            OrderedDict((row.name, ResidualBlock(row, design, first=row is rows[0])) for row in rows)
        )
        features = rows[-1].outgoing
        self.pool = nn.AdaptiveAvgPool3d((None, 1, 1))
        self.standardize = nn.BatchNorm1d(features, affine=False)
        self.lstm = None if design.kernel is None else nn.LSTM(features, features, num_layers=2, batch_first=True)
        self.hidden = nn.Linear(features, features)
        self.hidden_relu = nn.ReLU()
        self.digit = nn.Linear(features, digits)
        self.order = nn.Linear(features, orders)
        self.speed = nn.Linear(features, 1)

    def features(self, x: Tensor) -> Tensor:
        """Compute standardized features of each frame: N x C x T x 64 x 64 to N x T x F."""
        return self.pooled(self.body(x))

    def pooled(self, x: Tensor) -> Tensor:
        """Standardize the features of the body's output: N x F x T x H x W to N x T x F."""
        return cast("Tensor", self.standardize(self.pool(x).flatten(2)).transpose(1, 2))

    def states(self, features: Tensor) -> Tensor:
        """Compute the heads' input at each time step: N x T x F to N x T x F."""
        if self.lstm is None:
            return features
        states, _ = self.lstm(features)
        return cast("Tensor", states)

    def read(self, states: Tensor) -> dict[str, Tensor]:
        """Compute the three heads: any shape ending in F to the same shape ending in 10, 6 and 1."""
        shared = self.hidden_relu(self.hidden(states))
        return {"digit": self.digit(shared), "order": self.order(shared), "speed": self.speed(shared)}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the three heads at the last time step; shapes as in the class."""
        return self.read(self.states(self.features(x))[:, -1])


def build(*, design: str, in_channels: int = 1, digits: int = 10, orders: int = 6) -> BlinkingNetwork:
    """Build the network of that name in `DESIGNS`, randomly initialized."""
    return BlinkingNetwork(DESIGNS[design], in_channels=in_channels, digits=digits, orders=orders)
