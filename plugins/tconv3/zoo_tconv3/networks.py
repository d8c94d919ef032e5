"""ResNet-18 and GoogLeNet with 3TConv or ordinary 3D convolutions (Ras et al., arXiv 2006.15983, section 4).

Layers have the names of torchvision's 2D networks, so that 2D weights match; the auxiliary heads do not,
because they are not transferred.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo_tconv3.layer import TConv3d

Kernel = Literal["3t", "3d", "2d"]


class Layers(NamedTuple):
    """The classes of layers that a network is made of; `convolution` is for sizes beyond 1, `point` for 1."""

    convolution: Callable[..., nn.Module]
    point: Callable[..., nn.Module]
    norm: Callable[[int], nn.Module]
    max_pool: Callable[..., nn.Module]
    average_pool: Callable[[int], nn.Module]


_POINT = partial(nn.Conv3d, kernel_size=1, bias=False)
_3D = Layers(partial(nn.Conv3d, bias=False), _POINT, nn.BatchNorm3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d)
_2D = Layers(
    partial(nn.Conv2d, bias=False),
    partial(nn.Conv2d, kernel_size=1, bias=False),
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
)
LAYERS: dict[Kernel, Layers] = {"3t": _3D._replace(convolution=TConv3d), "3d": _3D, "2d": _2D}


def _laid_out(x: Tensor) -> Tensor:
    """Return the same N x C x T x H x W; on a CPU channels last, in which 3D max-pooling is fastest."""
    return x.to(memory_format=torch.channels_last_3d) if x.device.type == "cpu" and x.ndim == 5 else x


class BasicBlock(nn.Module):
    """Two convolutions of size 3 and a shortcut, which strides by an ordinary convolution of size 1."""

    def __init__(self, layers: Layers, into: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = layers.convolution(into, width, 3, stride=stride, padding=1)
        self.bn1 = layers.norm(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = layers.convolution(width, width, 3, padding=1)
        self.bn2 = layers.norm(width)
        self.downsample: nn.Module | None = None
        if stride > 1:
            self.downsample = nn.Sequential(layers.point(into, width, stride=stride), layers.norm(width))
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W; all three axes stride."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + shortcut)  # type: ignore[no-any-return]  # modules give Any


class ResNet18(nn.Module):
    """ResNet-18 whose convolutions all extend and stride in time as in space.

    Input N x C x T x H x W (N x C x H x W for "2d", the usual network of images), output logits N x classes. `width` is
    that of the first layers; it doubles three times.
    """

    def __init__(self, *, kernel: Kernel, classes: int, width: int = 64, in_channels: int = 3) -> None:
        super().__init__()
        layers = LAYERS[kernel]
        self.conv1 = layers.convolution(in_channels, width, 7, stride=2, padding=3)
        self.bn1 = layers.norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = layers.max_pool(3, stride=2, padding=1)
        self.layer1 = _stage(layers, width, width, 1)
        self.layer2 = _stage(layers, width, 2 * width, 2)
        self.layer3 = _stage(layers, 2 * width, 4 * width, 2)
        self.layer4 = _stage(layers, 4 * width, 8 * width, 2)
        self.avgpool = layers.average_pool(1)
        self.fc = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from clips."""
        x = self.maxpool(_laid_out(self.relu(self.bn1(self.conv1(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


def _stage(layers: Layers, into: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(layers, into, width, stride), BasicBlock(layers, width, width, 1))


class Unit(nn.Module):
    """A convolution, BatchNorm and ReLU."""

    def __init__(self, conv: nn.Module, width: int) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W."""
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


def _point(into: int, width: int) -> Unit:
    return Unit(_POINT(into, width), width)


class Inception(nn.Module):
    """Four branches side by side: 1x1x1; 1x1x1 and 3x3x3, twice; max-pooling and 1x1x1."""

    def __init__(self, convolution: Callable[..., nn.Module], into: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        one, reduce2, two, reduce3, three, four = widths

        def cube(reduced: int, width: int) -> nn.Sequential:
            return nn.Sequential(_point(into, reduced), Unit(convolution(reduced, width, 3, padding=1), width))

        self.branch1 = _point(into, one)
        self.branch2 = cube(reduce2, two)
        self.branch3 = cube(reduce3, three)
        self.branch4 = nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), _point(into, four))

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W to as many positions."""
        return torch.cat((self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(_laid_out(x))), dim=1)


class AuxiliaryHead(nn.Module):
    """A classifier half-way up, for training alone: pooled to 1 x 2 x 3 positions, 1x1x1, two fully connected."""

    def __init__(self, into: int, width: int, pool: nn.Module, classes: int) -> None:
        super().__init__()
        self.pool = pool
        self.conv = _point(into, width)
        self.fc1 = nn.Linear(6 * width, 8 * width)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from features."""
        x = self.conv(self.pool(x)).flatten(1)
        return self.fc2(self.dropout(self.relu(self.fc1(x))))  # type: ignore[no-any-return]


#: Widths of the nine Inception modules: branch 1; branches 2 and 3, reduced and after; branch 4.
INCEPTIONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    """GoogLeNet whose convolutions beyond 1x1x1 extend in time (their larger branch is 3x3x3, as torchvision's).

    Input N x C x T x H x W, output logits N x classes; `forward_auxiliary` gives those of the auxiliary heads as well.

    Args:
        kernel: "3t" or "3d".
        classes: Of the logits.
        divisor: Of all widths.
        in_channels: C.
        small_clips: Auxiliary heads pool what there is to 1 x 2 x 3 positions, where 5x5x5 would not fit.
    """

    inception3a: Inception
    inception3b: Inception
    inception4a: Inception
    inception4b: Inception
    inception4c: Inception
    inception4d: Inception
    inception4e: Inception
    inception5a: Inception
    inception5b: Inception
    auxiliary1: AuxiliaryHead
    auxiliary2: AuxiliaryHead

    def __init__(
        self, *, kernel: Kernel, classes: int, divisor: int = 1, in_channels: int = 3, small_clips: bool = False
    ) -> None:
        super().__init__()
        convolution = LAYERS[kernel].convolution
        narrow, wide = 64 // divisor, 192 // divisor
        self.conv1 = Unit(convolution(in_channels, narrow, 7, stride=2, padding=3), narrow)
        self.maxpool1 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2))
        self.conv2 = _point(narrow, narrow)
        self.conv3 = Unit(convolution(narrow, wide, 3, padding=1), wide)
        self.maxpool2 = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2))
        self.maxpool3 = nn.MaxPool3d(3, stride=2)
        self.maxpool4 = nn.MaxPool3d(3, stride=2)
        into = wide
        auxiliary = []
        for name, full in INCEPTIONS.items():
            widths = tuple(width // divisor for width in full)
            if name in {"4b", "4e"}:
                auxiliary.append(into)
            self.add_module(f"inception{name}", Inception(convolution, into, widths))
            into = widths[0] + widths[2] + widths[4] + widths[5]
        for number, width in enumerate(auxiliary, start=1):
            pool = nn.AdaptiveAvgPool3d((1, 2, 3)) if small_clips else nn.AvgPool3d(5, stride=3)
            self.add_module(f"auxiliary{number}", AuxiliaryHead(width, 128 // divisor, pool, classes))
        self.avgpool = nn.AdaptiveAvgPool3d(1)
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(into, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from clips."""
        return self._forward(x)[0]

    def forward_auxiliary(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the logits of the network and of its two auxiliary heads from clips."""
        logits, below, above = self._forward(x)
        return logits, self.auxiliary1(below), self.auxiliary2(above)

    def _forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits, and the inputs of the auxiliary heads."""
        x = self.conv3(self.conv2(self.maxpool1(_laid_out(self.conv1(x)))))
        x = self.inception3b(self.inception3a(self.maxpool2(_laid_out(x))))
        below = self.inception4a(self.maxpool3(_laid_out(x)))
        above = self.inception4d(self.inception4c(self.inception4b(below)))
        x = self.inception5b(self.inception5a(self.maxpool4(_laid_out(self.inception4e(above)))))
        return self.fc(self.dropout(self.avgpool(x).flatten(1))), below, above


def build(
    *, design: Literal["resnet18", "googlenet"], kernel: Kernel, classes: int, narrowed: int = 1, in_channels: int = 3
) -> nn.Module:
    """Build a network of the paper, or one with all widths divided by `narrowed`; "2d" exists only as ResNet-18."""
    if design == "resnet18":
        network: nn.Module = ResNet18(kernel=kernel, classes=classes, width=64 // narrowed, in_channels=in_channels)
    elif kernel == "2d":
        raise UsageError('GoogLeNet is there with kernel "3t" or "3d"; only resnet18 has "2d"')
    else:
        network = GoogLeNet(
            kernel=kernel, classes=classes, divisor=narrowed, in_channels=in_channels, small_clips=narrowed > 1
        )
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
