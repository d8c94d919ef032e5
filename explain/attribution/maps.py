"""From raw attributions to a map over time, rows and columns: the one place that decides on signs and channels.

===========  ==============================================  ============================================
reduction    map (N x T x H x W)                             unit
===========  ==============================================  ============================================
sum          sum over channels, signed                       output, shared out among pixels
mean         mean over channels, signed                      output (the change that covering a pixel makes)
magnitude    sum over channels of absolute values, >= 0      output per unit of input
positive     layer's map, negative sums cut to 0, resized    none: compare within one map only
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

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.attribution.methods import Reduction, TimeUnit
from explain.model.layouts import to_ncthw
from zoo.entries import Layout
from zoo.errors import ModelError


def to_map(values: Tensor, reduction: Reduction, layout: Layout, size: tuple[int, int, int]) -> Tensor:
    """Raw values (as the batch, or N x units x T' x H' x W' for "positive") as N x T x H x W.

    Args:
        values: Raw attributions.
        reduction: As the table of this module says.
        layout: Layout of the batch.
        size: Frames, rows and columns of the batch.
    """
    if reduction == "positive":
        resized = F.interpolate(
            values.sum(dim=1, keepdim=True).clamp(min=0), size=size, mode="trilinear", align_corners=False
        )
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


def causing_frame(gradient: Tensor, batch: Tensor, layout: Layout) -> Tensor:
    """The frame that adds most to what the gradient is of, for each sample: N, integers.

    "Only the frame causing the highest activation is shown" (3TConv, arXiv 2006.15983, section 4.3) leaves open which
    one that is: a unit sees several frames, at coarse or no steps in time. Here a frame adds the sum, over channels and
    pixels, of gradient times input (arXiv 1605.01713, section 3.3). In a network that is linear piece by piece
    (convolutions, ReLU, maxima, BatchNorm in eval mode), these sums and what biases add make up the activation. Frames
    that the unit does not react to are left out, so a unit of any layer, with whatever steps in time, gets a frame that
    it sees. Equal sums are decided by the gradient's magnitude, then by order.

    Measured against blanking frame after frame, it is the frame without which the activation falls most for 75 to 100 %
    of the units of convolutions (`benchmarks/frames.py`: four depths of ts_conv3d_xl, 12 units each), the frame with
    the strongest gradient for 0 to 58 %, the one in the middle of the unit's window for 8 to 58 %: these often are
    empty. Behind a recurrence over all frames no such rule is to be relied on (an LSTM's units: 33 %).

    Args:
        gradient: As the batch.
        batch: The samples; zero stands for "nothing there" (the mean colour, where inputs are normalised).
        layout: Order of their axes.

    Raises:
        ModelError: There is no gradient at all: the activation does not react to small changes.
    """
    slopes = to_ncthw(gradient, layout).double()
    added = (slopes * to_ncthw(batch, layout).double()).sum(dim=(1, 3, 4))
    felt = slopes.abs().sum(dim=(1, 3, 4))
    if not bool((felt > 0).any(dim=1).all()):
        raise ModelError(
            "the unit's highest activation does not react to small changes of the clip: no frame causes it"
        )
    added = added.masked_fill(felt == 0, float("-inf"))
    most = added == added.amax(dim=1, keepdim=True)
    return felt.masked_fill(~most, -1.0).argmax(dim=1)
