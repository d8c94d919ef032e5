"""From raw attributions to a map over time, rows and columns: the one place that decides on signs and channels.

===========  ==============================================  ============================================
reduction    map (N x T x H x W)                             unit
===========  ==============================================  ============================================
sum          sum over channels, signed                       output, shared out among pixels
mean         mean over channels, signed                      output (the change that covering a pixel makes)
magnitude    sum over channels of absolute values, >= 0      output per unit of input
positive     layer's map, negative values cut to 0, resized  none: compare within one map only
             trilinearly to the input, >= 0
===========  ==============================================  ============================================

And from a map to one number for each frame (N x T), positive where the frame supports the output:

=========  ===============================================================  =====================================
time unit  number of a frame                                                methods
=========  ===============================================================  =====================================
change     f(x) - f(x changed), the mean over the windows that hold it      temporal_occlusion, frame_order
sum        sum over its pixels; all frames add up to the difference that    integrated gradients, DeepLift,
           the method shares out (a part's Shapley value goes to its        GradientSHAP, LRP, Shapley values
           pixels in equal shares)
mean       mean over its pixels, of the mean over the blocks that hold one  occlusion, ablation, RISE
share      its share of the sum of absolute values, >= 0; no unit           all others
=========  ===============================================================  =====================================

The first three are in units of the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from explain.layouts import to_ncthw

if TYPE_CHECKING:
    from torch import Tensor

    from explain.attribution.methods import Reduction, TimeUnit
    from zoo.entries import Layout


def to_map(values: Tensor, reduction: Reduction, layout: Layout, size: tuple[int, int, int]) -> Tensor:
    """Raw values (as the batch, or N x 1 x T' x H' x W' for "positive") as N x T x H x W.

    Args:
        values: Raw attributions.
        reduction: As the table of this module says.
        layout: Layout of the batch.
        size: Frames, rows and columns of the batch.
    """
    if reduction == "positive":
        resized = F.interpolate(values.clamp(min=0), size=size, mode="trilinear", align_corners=False)
        return resized.squeeze(1)
    clips = to_ncthw(values, layout)
    if reduction == "magnitude":
        return clips.abs().sum(dim=1)
    return clips.mean(dim=1) if reduction == "mean" else clips.sum(dim=1)


def over_time(heat: Tensor, unit: TimeUnit = "share") -> Tensor:
    """A map N x T x H x W as one number for each frame, N x T, as the second table of this module says."""
    if unit == "change":
        return heat[:, :, 0, 0].clone()  # the same at all pixels of a frame
    if unit == "mean":
        return heat.double().mean(dim=(2, 3)).to(heat)
    if unit == "sum":
        return heat.double().sum(dim=(2, 3)).to(heat)
    sizes = heat.double().abs().sum(dim=(2, 3))
    return (sizes / sizes.sum(dim=1, keepdim=True).clamp(min=torch.finfo(sizes.dtype).tiny)).to(heat)


def parts_over_time(values: Tensor, parts: Tensor) -> Tensor:
    """The values of parts, K, shared out among their pixels (T x H x W, each the number of its part): T sums."""
    sizes = torch.bincount(parts.flatten(), minlength=len(values))
    return (values / sizes.clamp(min=1))[parts].sum(dim=(1, 2))


def read_parts(heat: Tensor) -> Tensor:
    """`parts_over_time` of a map, N x T x H x W, whose parts are told by their values: N x T."""
    rows = []
    for one in heat.double():
        values, parts = torch.unique(one, return_inverse=True)
        rows.append(parts_over_time(values, parts))
    return torch.stack(rows).to(heat)
