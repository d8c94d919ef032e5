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
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

from explain.layouts import to_ncthw

if TYPE_CHECKING:
    from torch import Tensor

    from explain.attribution.methods import Reduction
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


def over_time(heat: Tensor) -> Tensor:
    """A map N x T x H x W as a curve N x T: absolute values summed over rows and columns."""
    return heat.abs().sum(dim=(2, 3))
