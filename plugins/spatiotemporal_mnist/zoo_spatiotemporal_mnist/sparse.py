"""The convolutional networks, computed only where clips are not empty.

A blinking digit covers a few hundredths of a clip. Everywhere else a convolution reads nothing but background, and its
output there depends on the distance to the border, not on the clip. So a block is computed at its active sites, those
whose window holds a pixel of the digit, and once for an empty clip, which BatchNorm's statistics count as often as it
occurs. Outputs, gradients and running statistics are those of the whole computation, up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo_spatiotemporal_mnist.networks import ResidualBlock


@dataclass(frozen=True, slots=True)
class Sites:
    """Index of the matrix row that holds the channels of each site of N clips, and of an empty clip after them.

    The rows are those of the active sites, clip by clip, then those of the empty clip.
    """

    #: (N+1) x T x H x W (bool); none of the empty clip is active.
    active: Tensor
    #: (N+1) x (T+2) x (H+2) x (W+2) (int64): the row of each site. The margin of one site is the padding, and
    #: has a row after all others.
    index: Tensor
    #: Number of rows, without the padding's.
    rows: int
    #: Whether all sites of the empty clip but the first are equal along an axis.
    alike: tuple[bool, ...]

    def weights(self) -> Tensor:
        """Count the sites of the N clips that each row represents (int64)."""
        return torch.bincount(self.index[:-1, 1:-1, 1:-1, 1:-1].flatten(), minlength=self.rows)

    def dense(self, rows: Tensor) -> Tensor:
        """Scatter to all sites: rows x C to N x C x T x H x W, in the memory format channels_last_3d."""
        return F.embedding(self.index[:-1, 1:-1, 1:-1, 1:-1], rows).permute(0, 4, 1, 2, 3)

    def kinds(self) -> list[int]:
        """Along each axis, how many sites of the empty clip have rows of their own: the first ones."""
        shape = self.active.shape[1:]
        return [min(size, 2) if same else size for size, same in zip(shape, self.alike, strict=True)]

    def places(self) -> Tensor:
        """Return the site of each row: rows x 4 (clip, time, row, column)."""
        device = self.active.device
        axes = [torch.arange(kind, device=device) for kind in self.kinds()]
        last = torch.tensor([len(self.active) - 1], device=device)
        return torch.cat((self.active.nonzero(), torch.cartesian_prod(last, *axes)))


def locate(active: Tensor, alike: tuple[bool, ...]) -> Sites:
    """Number the active sites, then those of the empty clip that may differ."""
    found = Sites(active, active.new_empty(0, dtype=torch.int64), 0, alike)
    kinds = found.kinds()
    empty = torch.arange(math.prod(kinds), device=active.device).view(kinds)
    for axis, (size, kind) in enumerate(zip(active.shape[1:], kinds, strict=True)):
        empty = empty.index_select(axis, torch.arange(size, device=active.device).clamp_(max=kind - 1))
    places = active.flatten().nonzero()[:, 0]
    inside = (empty + len(places)).expand_as(active).flatten()
    inside[places] = torch.arange(len(places), device=active.device)
    rows = len(places) + math.prod(kinds)
    return replace(found, index=F.pad(inside.view_as(active), (1,) * 6, value=rows), rows=rows)


def begin(clips: Tensor, dtype: torch.dtype) -> tuple[Tensor, Sites]:
    """Return the pixels of uint8 clips N x 1 x T x H x W: rows x 1 in [0, 1], and their index."""
    active = F.pad(clips[:, 0] != 0, (0,) * 7 + (1,))
    sites = locate(active, (True, True, True))
    values = clips[:, 0][active[:-1]].to(dtype).div_(255)
    return F.pad(values, (0, sites.rows - len(values)))[:, None], sites


def convolve(sites: Sites, kernel: Sequence[int], stride: Sequence[int]) -> tuple[Tensor, Sites]:
    """Return the rows that a convolution's windows read, rows x taps (int64), and the sites of its output.

    Kernels of 1 or 3 sites an axis, padded by 0 or 1, at strides of 1 or 2.
    """
    active, alike = sites.active, list(sites.alike)
    for axis, (size, step) in enumerate(zip(kernel, stride, strict=True)):
        length = active.shape[axis + 1]
        alike[axis] = alike[axis] and (size == 1 or (step == 2 and length % 2 == 0))
        if size == 3:
            margin = [0] * 6
            margin[4 - 2 * axis : 6 - 2 * axis] = [1, 1]
            active = F.pad(active, margin)
        taps = [active.narrow(axis + 1, tap, length).transpose(0, axis + 1)[::step] for tap in range(size)]
        active = sum(taps[1:], taps[0]).transpose(0, axis + 1)
    found = locate(active, tuple(alike))
    # In the flattened index: the first tap of each output, then the distances of all taps from it.
    widths = sites.index.stride()
    device = active.device
    scale = torch.tensor([1, *stride], device=device)
    corner = torch.tensor([0, *(1 - size // 2 for size in kernel)], device=device)
    first = ((found.places() * scale + corner) * torch.tensor(widths, device=device)).sum(1)
    offsets = [
        sum(tap * width for tap, width in zip(window, widths[1:], strict=True))
        for window in product(*map(range, kernel))
    ]
    return sites.index.flatten()[first[:, None] + torch.tensor(offsets, device=device)], found


def normalize(norm: nn.Module, rows: Tensor, weights: Tensor) -> Tensor:
    """Apply BatchNorm to rows x C, each row counted as often as `weights` says, in the type of its parameters."""
    norm = cast("nn.BatchNorm3d", norm)
    with torch.autocast(rows.device.type, enabled=False):
        rows = rows.to(norm.weight.dtype)
        if not norm.training:
            statistics = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
            return F.batch_norm(rows, *statistics, norm.weight, norm.bias, eps=norm.eps)
        weights = weights.to(rows)
        total = weights.sum()
        mean = weights @ rows / total
        centered = rows - mean
        variance = weights @ centered.square() / total
    with torch.no_grad():
        batches = cast("Tensor", norm.num_batches_tracked).add_(1)
        momentum = 1 / float(batches) if norm.momentum is None else norm.momentum
        cast("Tensor", norm.running_mean).lerp_(mean, momentum)
        cast("Tensor", norm.running_var).lerp_(variance * (total / (total - 1)), momentum)
    return torch.addcmul(norm.bias, centered, norm.weight * (variance + norm.eps).rsqrt())


def _linear(convolution: nn.Module, rows: Tensor) -> Tensor:
    """Convolve the windows: rows x (taps * C) to rows x C'."""
    weight = cast("Tensor", convolution.weight)
    return F.linear(rows, weight.permute(0, 2, 3, 4, 1).flatten(1), cast("Tensor", convolution.bias))


def block(layer: ResidualBlock, rows: Tensor, sites: Sites) -> tuple[Tensor, Sites]:
    """Compute a residual block: rows x C to rows x C'."""
    main = dict(layer.main.named_children())
    convolution = cast("nn.Conv3d", main["conv"])
    windows, after = convolve(sites, convolution.kernel_size, convolution.stride)
    x = rows
    if "reduce" in main:
        x = normalize(main["reduce_norm"], _linear(main["reduce"], x), sites.weights()).relu_()
    weights = after.weights()
    x = F.embedding(windows, F.pad(x, (0, 0, 0, 1))).flatten(1)
    x = normalize(main["conv_norm"], _linear(convolution, x), weights).relu_()
    x = normalize(main["expand_norm"], _linear(main["expand"], x), weights)
    shortcut = F.embedding(windows[:, windows.shape[1] // 2], rows)
    if not isinstance(layer.shortcut, nn.Identity):
        shortcut = _linear(layer.shortcut, shortcut)
    return (x + shortcut).relu_(), after


def body(blocks: nn.Sequential, clips: Tensor, count: int = 3) -> Tensor:
    """Compute a body of convolutions, the first `count` blocks on non-empty sites only, the others densely.

    uint8 clips N x 1 x T x H x W to N x C x T' x H' x W', as the blocks give for clips / 255. Hooks of the first blocks
    are not called.
    """
    rows, sites = begin(clips, next(blocks.parameters()).dtype)
    for layer in list(blocks)[:count]:
        rows, sites = block(cast("ResidualBlock", layer), rows, sites)
    x = sites.dense(rows)
    for layer in list(blocks)[count:]:
        x = layer(x)
    return x
