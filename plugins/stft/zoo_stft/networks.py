"""Networks of STFT blocks, and I3D and S3D, on one backbone (Kumawat et al., arXiv 2007.11365, sections 4 and 6.1).

Two blocks, nine Inception modules, global average, fully connected. The tables of the paper's figures 5 to 7 are not in
its text: widths are those of I3D, bottlenecks those that the published differences between the networks ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.errors import ClipError, UsageError
from zoo_stft.blocks import Activation, FactorisedBlock, SBlock, STBlock, TBlock, convolution, point
from zoo_stft.execution import channels_together

Kind = Literal["st_stft", "s_stft", "t_stft", "fact_dw", "relpv", "i3d", "s3d_inception"]


class Design(NamedTuple):
    """A block class, its bottleneck b from the width r to which I3D reduces, and those of the two blocks of the stem.

    In the stem, b is the number of channels that come in: 3 (also where the input is gray) and 64.
    """

    block: type[STBlock | SBlock | TBlock | FactorisedBlock]
    bottleneck: Callable[[int], int]
    stem: tuple[int, int] = (3, 64)


#: The networks of blocks; I3D and S3D have ordinary convolutions.
DESIGNS: dict[str, Design] = {
    "st_stft": Design(STBlock, lambda r: -(-r // 13)),
    "s_stft": Design(SBlock, lambda r: max(1, r // 3)),
    "t_stft": Design(TBlock, lambda r: r),
    "fact_dw": Design(FactorisedBlock, lambda r: r),
    "relpv": Design(STBlock, lambda _: 1, (1, 1)),
}
KINDS: tuple[str, ...] = (*DESIGNS, "i3d", "s3d_inception")

#: Widths of the nine Inception modules: branch 1; branches 2 and 3, reduced and after; branch 4.
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}

#: Shortest clip and smallest frame whose last pooling still finds two positions.
SHORTEST, SMALLEST = 5, 17


def _looking(kind: Kind, into: int, reduced: int, width: int, activation: Activation, *, n: int = 3) -> nn.Module:
    """Return the spatiotemporal part of an Inception module: a block, or a 1x1x1 convolution and a larger one."""
    if kind in DESIGNS:
        design = DESIGNS[kind]
        return design.block(into, design.bottleneck(reduced), width, n, 1, activation)
    return nn.Sequential(point(into, reduced, activation), *_plain(kind, reduced, width, 3, activation))


def _plain(kind: Kind, into: int, width: int, n: int, activation: Activation, stride: int = 1) -> tuple[nn.Module, ...]:
    """Return a convolution over space and time: of n x n x n, or of 1 x n x n and n x 1 x 1."""
    if kind == "i3d":
        return (convolution(into, width, n, activation, stride),)
    return (
        convolution(into, width, (1, n, n), activation, (1, stride, stride)),
        convolution(width, width, (n, 1, 1), activation, (stride, 1, 1)),
    )


class Inception(nn.Module):
    """Four branches side by side: 1x1x1; one that looks around, twice; max-pooling and 1x1x1."""

    def __init__(self, kind: Kind, into: int, widths: tuple[int, ...], activation: Activation, n: int) -> None:
        super().__init__()
        one, reduce2, two, reduce3, three, four = widths
        self.branch1 = point(into, one, activation)
        self.branch2 = _looking(kind, into, reduce2, two, activation, n=n)
        self.branch3 = _looking(kind, into, reduce3, three, activation, n=n)
        self.branch4 = nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), point(into, four, activation))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W to as many positions."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)), dim=1)


class InceptionNetwork(nn.Module):
    """The backbone with blocks of one kind.

    Input N x C x T x H x W with T >= 5 and H, W >= 17, output logits N x classes. Time is strided by 8, frames by 32.

    Raises:
        ClipError: for a clip that is too short or too small.
    """

    def __init__(
        self, kind: Kind, classes: int, divisor: int, in_channels: int, activation: Activation, kernel_size: int
    ) -> None:
        super().__init__()
        narrow, wide = 64 // divisor, 192 // divisor
        self.conv1: nn.Module
        self.conv2: nn.Module
        self.conv3: nn.Module
        if kind in DESIGNS:
            block, _, (first, second) = DESIGNS[kind]
            self.conv1 = block(in_channels, first, narrow, kernel_size, 2, activation)
            self.conv2 = point(narrow, narrow, activation)
            self.conv3 = block(narrow, max(1, second // divisor), wide, kernel_size, 1, activation)
        else:
            self.conv1 = nn.Sequential(*_plain(kind, in_channels, narrow, 7, activation, 2))
            self.conv2 = point(narrow, narrow, activation)
            self.conv3 = nn.Sequential(*_plain(kind, narrow, wide, 3, activation))
        self.maxpool1 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.maxpool2 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.maxpool3 = nn.MaxPool3d(3, stride=2, padding=1)
        self.maxpool4 = nn.MaxPool3d(2, stride=2)
        into = wide
        stages: dict[str, list[Inception]] = {"3": [], "4": [], "5": []}
        for name, full in INCEPTIONS.items():
            widths = tuple(width // divisor for width in full)
            stages[name[0]].append(Inception(kind, into, widths, activation, kernel_size))
            into = widths[0] + widths[2] + widths[4] + widths[5]
        self.inception3, self.inception4, self.inception5 = (nn.Sequential(*stage) for stage in stages.values())
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(into, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from clips."""
        frames, *sides = x.shape[2:]
        if frames < SHORTEST or min(sides) < SMALLEST:
            raise ClipError(
                f"clips of {frames} frames of {' x '.join(map(str, sides))} pixels do not outlast the strides of this "
                f"network; expected at least {SHORTEST} frames of {SMALLEST} x {SMALLEST}"
            )
        x = channels_together(self.conv1(channels_together(x)))  # a single channel determines no layout
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(x))))
        x = self.inception4(self.maxpool3(self.inception3(x)))
        x = self.inception5(self.maxpool4(x))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def build(
    *,
    kind: Kind,
    classes: int,
    narrowed: int = 1,
    in_channels: int = 3,
    activation: Activation | None = None,
    kernel_size: int = 3,
) -> nn.Module:
    """Build a network of the paper, or one with all widths divided by `narrowed`; orthogonal weights (section 5.2).

    Args:
        kind: Type of its blocks.
        classes: Number of classes.
        narrowed: Divides every width; bottlenecks follow.
        in_channels: C.
        activation: One of Table 4; None is "leaky_relu" for networks of blocks, "relu" for I3D and S3D.
        kernel_size: n of the blocks, odd; I3D and S3D have their own.

    Raises:
        UsageError: if one of them is unknown or out of range.
    """
    if kind not in KINDS:
        raise UsageError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    if narrowed < 1 or 16 % narrowed:
        raise UsageError(f"narrowed {narrowed}: expected a divisor of 16, the smallest width")
    activation = activation or ("leaky_relu" if kind in DESIGNS else "relu")
    network = InceptionNetwork(kind, classes, narrowed, in_channels, activation, kernel_size)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            nn.init.orthogonal_(module.weight)
    return network
