"""The networks of Miao et al. (NeurIPS 2021, tables A, B and C), of STDCF layers and of what they are compared with.

A kernel is "stdcf" (`layer`), "rank1" (a convolution in space, then one in time, nothing between them: appendix A) or
"3d". All convolutions start so that what goes in and what comes out have equal variance, whichever kernel they have.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import ClipError
from zoo_stdcf.layer import StdcfConv3d, StdcfConvTranspose3d

Kernel = Literal["stdcf", "rank1", "3d"]


class Atoms(NamedTuple):
    """Dictionary sizes: M in space, N in time."""

    spatial: int
    temporal: int


class _ConvInTime(nn.Conv3d):
    """A convolution of k_t x 1 x 1, trained as one of images of T x HW, which takes a CPU a fraction of the time.

    In eval mode it runs as a 3D convolution: `explain` computes receptive fields from the operations that it records.
    """

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W."""
        if not self.training:
            return super().forward(x)
        stride, padding = (self.stride[0], 1), (int(self.padding[0]), 0)
        y = F.conv2d(x.flatten(3), self.weight[..., 0], self.bias, stride, padding)
        return y.view(*y.shape[:3], *x.shape[3:])


class _ConvTransposeInTime(nn.ConvTranspose3d):
    """The same, transposed."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """N x C x T x H x W; `output_size` is torch's, and goes unread in training."""
        if not self.training:
            return super().forward(x, output_size)
        more = (self.output_padding[0], 0)
        stride, padding = (self.stride[0], 1), (int(self.padding[0]), 0)
        y = F.conv_transpose2d(x.flatten(3), self.weight[..., 0], self.bias, stride, padding, more)
        return y.view(*y.shape[:3], *x.shape[3:])


def convolution(
    kernel: Kernel, into: int, width: int, length: int, atoms: Atoms, *, stride: int = 1, bias: bool = False
) -> nn.Module:
    """Return a convolution of `length` x 3 x 3 with stride in all axes, padded by half of the kernel."""
    around = length // 2
    if kernel == "stdcf":
        return StdcfConv3d(
            into,
            width,
            (length, 3, 3),
            spatial_atoms=atoms.spatial,
            temporal_atoms=atoms.temporal,
            stride=stride,
            padding=(around, 1, 1),
            bias=bias,
        )
    if kernel == "3d":
        return _started(nn.Conv3d(into, width, (length, 3, 3), stride, (around, 1, 1), bias=bias))
    return nn.Sequential(
        _started(nn.Conv3d(into, width, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=bias)),
        _started(_ConvInTime(width, width, (length, 1, 1), (stride, 1, 1), (around, 0, 0), bias=bias)),
    )


def transposed(kernel: Kernel, into: int, width: int, atoms: Atoms, *, bias: bool = False) -> nn.Module:
    """3 x 3 x 3, transposed: twice as many frames, rows and columns."""
    if kernel == "stdcf":
        return StdcfConvTranspose3d(
            into,
            width,
            3,
            spatial_atoms=atoms.spatial,
            temporal_atoms=atoms.temporal,
            stride=2,
            padding=1,
            output_padding=1,
            bias=bias,
        )
    if kernel == "3d":
        return _started(nn.ConvTranspose3d(into, width, 3, 2, 1, 1, bias=bias))
    flat, long = (0, 1, 1), (1, 0, 0)
    return nn.Sequential(
        _started(nn.ConvTranspose3d(into, width, (1, 3, 3), (1, 2, 2), flat, flat, bias=bias)),
        _started(_ConvTransposeInTime(width, width, (3, 1, 1), (2, 1, 1), long, long, bias=bias)),
    )


def _started(conv: nn.Conv3d | nn.ConvTranspose3d) -> nn.Module:
    """Initialize weights from N(0, 1 / terms of an output), as the coefficients of STDCF layers have."""
    terms: float = conv.in_channels * math.prod(conv.kernel_size)
    if isinstance(conv, nn.ConvTranspose3d):
        terms /= math.prod(conv.stride)
    nn.init.normal_(conv.weight, std=terms**-0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _laid_out(x: Tensor) -> Tensor:
    """Return a tensor on a CPU as channels last, in which few-channel convolutions and pooling take half the time."""
    return x.to(memory_format=torch.channels_last_3d) if x.device.type == "cpu" else x


class Autoencoder(nn.Module):
    """Table A: two strided convolutions, two transposed ones and one more; ReLU between them.

    Input and output N x 1 x T x H x W, T, H and W multiples of 4. The pair of convolutions that ends the rank-1 network
    is 4 -> 4 in space and 4 -> 1 in time, as the table has it.
    """

    def __init__(self, *, kernel: Kernel, bias: bool = False) -> None:
        super().__init__()
        atoms = Atoms(5, 3)
        self.conv1 = convolution(kernel, 1, 4, 3, atoms, stride=2, bias=bias)
        self.conv2 = convolution(kernel, 4, 8, 3, atoms, stride=2, bias=bias)
        self.deconv1 = transposed(kernel, 8, 4, atoms, bias=bias)
        self.deconv2 = transposed(kernel, 4, 4, atoms, bias=bias)
        self.conv3 = convolution(kernel, 4, 1, 3, atoms, bias=bias)
        if kernel == "rank1":
            self.conv3 = nn.Sequential(
                _started(nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), bias=bias)),
                _started(_ConvInTime(4, 1, (3, 1, 1), padding=(1, 0, 0), bias=bias)),
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct.

        Raises:
            ClipError: if T, H or W is not a multiple of 4.
        """
        if any(side % 4 for side in x.shape[2:]):
            raise ClipError(
                f"clips of {' x '.join(map(str, x.shape[2:]))} (T x H x W) cannot be reconstructed by an autoencoder "
                "that halves all three twice; expected multiples of 4"
            )
        x = _laid_out(x)
        for layer in (self.conv1, self.conv2, self.deconv1, self.deconv2):
            x = self.relu(layer(x))
        return self.conv3(x)  # type: ignore[no-any-return]  # modules give Any


class ActionNetwork(nn.Module):
    """Table B, for KTH: three convolutions, each followed by ReLU and max-pooling; global average, one linear layer.

    Input N x C x T x H x W of at least 4 frames of 8 x 8 pixels, output logits N x classes. `features` gives what the
    last layer sees, the representations of figure 3.
    """

    def __init__(self, *, kernel: Kernel, classes: int, in_channels: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(kernel, in_channels, 16, 5, Atoms(5, 3), bias=bias)
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.conv2 = convolution(kernel, 16, 32, 5, Atoms(5, 3), bias=bias)
        self.pool2 = nn.MaxPool3d(2)
        self.conv3 = convolution(kernel, 32, 64, 3, Atoms(5, 2), bias=bias)
        self.pool3 = nn.MaxPool3d(2)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(64, classes)

    def features(self, x: Tensor) -> Tensor:
        """Compute N x 64 features from clips, the global average of conv3.

        Raises:
            ClipError: if the last pooling would have no output.
        """
        frames, rows, columns = x.shape[2:]
        if frames < 4 or min(rows, columns) < 8:
            raise ClipError(
                f"clips of {frames} x {rows} x {columns} (T x H x W) are too small for a network that halves frames "
                "twice and their sides three times; expected 4 x 8 x 8 or more"
            )
        # Pooling before ReLU is the same, on fewer numbers.
        x = self.relu(self.pool1(self.conv1(_laid_out(x))))
        x = self.relu(self.pool2(self.conv2(x)))
        x = self.relu(self.pool3(self.conv3(x)))
        return self.avgpool(x).flatten(1)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from clips."""
        return self.fc(self.features(x))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1x1, an STDCF layer of 3x3x3 and 1x1x1 to four times the width, each with BatchNorm; a shortcut; ReLU."""

    def __init__(self, into: int, width: int, atoms: Atoms, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv3d(into, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = StdcfConv3d(
            width,
            width,
            3,
            spatial_atoms=atoms.spatial,
            temporal_atoms=atoms.temporal,
            stride=(1, stride, stride),
            padding=1,
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if into != out:
            self.downsample = nn.Sequential(
                nn.Conv3d(into, out, 1, (1, stride, stride), bias=False), nn.BatchNorm3d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W; rows and columns stride, frames stay."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)  # type: ignore[no-any-return]


class ResNet50(nn.Module):
    """Table C: ResNet-50 whose bottlenecks hold STDCF layers of 3 x 3 x 3; the first convolution is an ordinary one.

    Input N x 3 x T x H x W, output logits N x classes. The table leaves M and N open.
    """

    def __init__(self, *, classes: int, atoms: Atoms, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, 64, (5, 7, 7), (1, 2, 2), (2, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        into, stages = 64, []
        for stage, blocks in enumerate((3, 4, 6, 3)):
            width = 64 * 2**stage
            layers: list[nn.Module] = []
            for block in range(blocks):
                layers.append(Bottleneck(into, width, atoms, 2 if stage and not block else 1))
                into = 4 * width
            stages.append(nn.Sequential(*layers))
        self.res2, self.res3, self.res4, self.res5 = stages
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.fc = nn.Linear(into, classes)
        for part in self.modules():
            if isinstance(part, nn.Conv3d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from clips."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.res5(self.res4(self.res3(self.res2(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def autoencoder(*, kernel: Kernel, bias: bool = False) -> nn.Module:
    """Build the autoencoder of table A."""
    return Autoencoder(kernel=kernel, bias=bias)


def action(*, kernel: Kernel, classes: int, in_channels: int = 1, bias: bool = False) -> nn.Module:
    """Build the network of table B."""
    return ActionNetwork(kernel=kernel, classes=classes, in_channels=in_channels, bias=bias)


def resnet50(*, classes: int, spatial_atoms: int, temporal_atoms: int, in_channels: int = 3) -> nn.Module:
    """STDCF-R50, table C."""
    return ResNet50(classes=classes, atoms=Atoms(spatial_atoms, temporal_atoms), in_channels=in_channels)
