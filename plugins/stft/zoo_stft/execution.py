"""Depthwise 3D convolutions by the fastest equivalent operation; the values are those of `F.conv3d`.

On a CPU, the backward pass of `F.conv3d` with groups is slow, and so is 3D max-pooling unless channels are adjacent in
memory (`torch.channels_last_3d`). In that layout filters over planes, or over time, are a 2D convolution of the same
numbers, with frames or columns as images, and that is fast in both directions.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]
Triple = tuple[int, int, int]

#: From so many results on, copying each channel for its filters costs less than several filters a channel do.
_WIDE = 64


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """`F.conv3d(x, weight, bias, stride, padding, groups=C)`, in the fastest way known for the device and the shapes.

    Args:
        x: N x C x T x H x W.
        weight: mC x 1 x n_t x n_h x n_w.
        bias: mC, or None.
        stride: Along (T, H, W).
        padding: Zeros on both sides, along (T, H, W).

    Returns:
        N x mC x T' x H' x W'.
    """
    return channels_together(WAYS[choose(x, weight, padding)](x, weight, bias, stride, padding))


def choose(x: Tensor, weight: Tensor, padding: Triple) -> str:
    """Return the name of the fastest way, by `benchmarks/stft.py` on a CPU; elsewhere it is one grouped convolution.

    Modes that record operations (receptive fields, counted operations, export) see the grouped convolution as well.
    """
    if not _free(x):
        return "grouped"
    depth, height, width = weight.shape[2:]
    if height == width == 1 and padding[1:] == (0, 0):
        return "columns"
    if depth == 1 and padding[0] == 0:
        return "frames"
    # Of filters over all axes, only the backward pass is slow, and only where channels are next to each other.
    return "apart" if torch.is_grad_enabled() and x.requires_grad and not weight.requires_grad else "grouped"


def channels_together(x: Tensor) -> Tensor:
    """Return the same N x C x T x H x W in the fastest layout of a CPU for pooling and convolutions; else unchanged."""
    return x.contiguous(memory_format=torch.channels_last_3d) if _free(x) else x


def _free(x: Tensor) -> bool:
    """Check whether operations may be exchanged: on a CPU, if no mode records them."""
    modes = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()  # noqa: SLF001 - no other way
    return x.device.type == "cpu" and modes == 0 and not torch.compiler.is_compiling()


def grouped(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """Compute the definition."""
    return F.conv3d(x, weight, bias, stride, padding, groups=x.shape[1])


def apart(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """Compute the definition, on channels that are not contiguous in memory."""
    return grouped(x.contiguous(), weight, bias, stride, padding)


def frames(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """Filter over space, as a 2D convolution of every frame."""
    x, groups = _widened(x[:, :, :: stride[0]], weight)
    n, t = len(x), x.shape[1]
    y = _flat(x.flatten(0, 1), weight[:, :, 0], bias, stride[1:], padding[1:], groups)
    return y.reshape(n, t, *y.shape[1:]).movedim(-1, 1)


def columns(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Triple, padding: Triple) -> Tensor:
    """Filter over time, as a 2D convolution over frames x pixels."""
    x, groups = _widened(x[..., :: stride[1], :: stride[2]], weight)
    y = _flat(x.flatten(2, 3), weight[..., 0], bias, (stride[0], 1), (padding[0], 0), groups)
    return y.reshape(*y.shape[:2], *x.shape[2:4], -1).movedim(-1, 1)


def _widened(x: Tensor, weight: Tensor) -> tuple[Tensor, int]:
    """N x T x H x W x C, each channel as often as it has filters where that is faster, and the groups."""
    channels, several = x.shape[1], len(weight) // x.shape[1]
    x = channels_together(x).movedim(1, -1)
    if several > 1 and (channels == 1 or len(weight) >= _WIDE):
        x = x.repeat_interleave(several, dim=-1)
    return x, x.shape[-1]


def _flat(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, groups: int) -> Tensor:
    """Compute a 2D convolution on channels-last data."""
    return F.conv2d(x.movedim(-1, 1), weight, bias, stride, padding, groups=groups).movedim(1, -1)


#: Every way by its name.
WAYS = {"grouped": grouped, "apart": apart, "frames": frames, "columns": columns}


class DepthwiseConv3d(nn.Conv3d):
    """An `nn.Conv3d` with a group for each input channel, executed by `depthwise`.

    As of `nn.Conv3d` with zero padding and without dilation: N x C x T x H x W to N x mC x T' x H' x W'.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve N x C x T x H x W."""
        padding = cast("Triple", self.padding)
        return depthwise(x, self.weight, self.bias, cast("Triple", self.stride), padding)
