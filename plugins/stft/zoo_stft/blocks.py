"""STFT blocks and what they are compared with (Kumawat et al., arXiv 2007.11365, sections 3.2 and 3.3, figure 1).

Every block takes c channels to b by a 1x1x1 convolution, looks around itself, and takes what it found to f channels by
another 1x1x1 convolution. Each step, trainable or not, is followed by BatchNorm and an activation (section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo_stft.execution import DepthwiseConv3d
from zoo_stft.layer import Axes, ShortTimeFourier3d, Size, check_size

Activation = Literal["leaky_relu", "relu", "selu", "elu"]

#: Activations of Table 4.
ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "leaky_relu": partial(nn.LeakyReLU, 0.01, inplace=True),
    "relu": partial(nn.ReLU, inplace=True),
    "selu": partial(nn.SELU, inplace=True),
    "elu": partial(nn.ELU, inplace=True),
}


class Unit(nn.Module):
    """A convolution or fixed layer, BatchNorm and an activation."""

    def __init__(self, conv: nn.Module, width: int, activation: Activation) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation {activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        self.conv = conv
        self.bn = nn.BatchNorm3d(width)
        self.act = ACTIVATIONS[activation]()

    def filters(self) -> Tensor:
        """Return the weight of the convolution, or the fixed filters, times BatchNorm's scale in eval mode."""
        weight, norm = cast("Tensor", self.conv.weight), cast("nn.Module", self.bn)
        if not isinstance(norm, nn.BatchNorm3d) or norm.running_var is None:
            return weight
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return weight * scale.view(-1, 1, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x T x H x W."""
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]  # modules give Any


def convolution(
    into: int, width: int, kernel: Size, activation: Activation, stride: Size = 1, *, groups: int = 1
) -> Unit:
    """Return a unit of a convolution without bias, padded to keep the size apart from the stride."""
    depth, height, across = (kernel, kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (depth // 2, height // 2, across // 2)
    made = nn.Conv3d if groups == 1 else DepthwiseConv3d
    conv = made(into, width, (depth, height, across), stride, padding, groups=groups, bias=False)
    return Unit(conv, width, activation)


def point(into: int, width: int, activation: Activation) -> Unit:
    """Return a unit of a 1x1x1 convolution."""
    return convolution(into, width, 1, activation)


class Block(nn.Module):
    """Block from c channels to b, through `inner`, and on to f; N x C x T x H x W.

    Subclasses define the layer between the two 1x1x1 convolutions.

    Args:
        into: c.
        bottleneck: b.
        width: f.
        kernel_size: n.
        stride: Of all axes.
        activation: After each step.

    Raises:
        UsageError: for channels that are not a positive integer, n that is even or below 3, an unknown activation.
    """

    def __init__(
        self,
        into: int,
        bottleneck: int,
        width: int,
        kernel_size: int = 3,
        stride: int = 1,
        activation: Activation = "leaky_relu",
    ) -> None:
        super().__init__()
        if not all(isinstance(channels, int) and channels >= 1 for channels in (into, bottleneck, width)):
            raise UsageError(f"a block of {into} -> {bottleneck} -> {width} channels: expected positive whole numbers")
        self.reduce = point(into, bottleneck, activation)
        check_size(kernel_size)
        steps = self._steps(bottleneck, kernel_size, stride, activation)
        self.inner = nn.Sequential(*steps)
        self.expand = point(steps[-1].bn.num_features, width, activation)

    def _steps(self, b: int, n: int, stride: int, activation: Activation) -> tuple[Unit, ...]:
        raise NotImplementedError

    def kernel(self) -> Tensor:
        """Return the block's equivalent dense kernel f x c x n_t x n_h x n_w for linear activations.

        Filters, trainable or fixed, and 1x1x1 weights are multiplied, each by the scale of the BatchNorm that follows.
        """
        reduced = self.reduce.filters().flatten(1)
        made = reduced.new_ones(len(reduced), 1, 1, 1)
        for unit in cast("list[Unit]", list(self.inner)):
            taps = unit.filters()[:, 0]
            made = made.repeat_interleave(len(taps) // len(made), dim=0) * taps  # over different axes: they multiply
        made = made.view(len(reduced), -1, *made.shape[1:])
        mixed = self.expand.filters().view(-1, *made.shape[:2])
        return torch.einsum("fbm,bmthw,bc->fcthw", mixed, made, reduced)

    def forward(self, x: Tensor) -> Tensor:
        """N x c x T x H x W to N x f x T / stride x H / stride x W / stride, rounded up."""
        return self.expand(self.inner(self.reduce(x)))  # type: ignore[no-any-return]


class STBlock(Block):
    """ST-STFT: the Fourier layer over space and time (figure 1c); (c + 26 f) b weights.

    With b = 1 it is the ReLPV block of Kumawat and Raman, CVPR 2019.
    """

    def _steps(self, b: int, n: int, stride: int, activation: Activation) -> tuple[Unit, ...]:
        return (_fourier(b, "thw", n, stride, activation),)


class SBlock(Block):
    """S-STFT: the Fourier layer over space, then a trainable filter over time for each map; (c + 8n + 8f) b weights."""

    def _steps(self, b: int, n: int, stride: int, activation: Activation) -> tuple[Unit, ...]:
        return (
            _fourier(b, "hw", n, (1, stride, stride), activation),
            convolution(8 * b, 8 * b, (n, 1, 1), activation, (stride, 1, 1), groups=8 * b),
        )


class TBlock(Block):
    """T-STFT: a trainable filter over space for each map, then the Fourier layer over time; (c + n² + 2f) b weights."""

    def _steps(self, b: int, n: int, stride: int, activation: Activation) -> tuple[Unit, ...]:
        return (
            convolution(b, b, (1, n, n), activation, (1, stride, stride), groups=b),
            _fourier(b, "t", n, (stride, 1, 1), activation),
        )


class FactorisedBlock(Block):
    """Fact.+DW: T-STFT with two trainable filters over time for each map in place of the Fourier layer (figure 1e)."""

    def _steps(self, b: int, n: int, stride: int, activation: Activation) -> tuple[Unit, ...]:
        return (
            convolution(b, b, (1, n, n), activation, (1, stride, stride), groups=b),
            convolution(b, 2 * b, (n, 1, 1), activation, (stride, 1, 1), groups=b),
        )


def _fourier(channels: int, axes: Axes, n: int, stride: Size, activation: Activation) -> Unit:
    layer = ShortTimeFourier3d(channels, axes, n, stride)
    return Unit(layer, layer.out_channels, activation)
