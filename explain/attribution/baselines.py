"""What stands for "nothing there" where a method needs a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.attribution.options import BASELINES
from explain.model.layouts import from_ncthw, to_ncthw
from zoo.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from zoo.entries import InputSpec, Layout

#: Width of the "blur" baseline's window, as a share of the longer side.
BLUR = 0.25


def make_baseline(
    baseline: Tensor | float | str | None, batch: Tensor, layout: Layout, spec: InputSpec | None
) -> Tensor:
    """A baseline shaped like the batch.

    Args:
        baseline: None or "zero": zeros in the model's own units (the mean colour, where inputs are normalised). A
            number: that value everywhere. A tensor: broadcast to the batch. "black": black frames, by the model's input
            specification. "blur": each frame under a box blur a quarter of its longer side wide, three times over.
            "mean_frame": every frame replaced by the mean over time, so that only motion is missing.
        batch: The samples, in `layout`.
        layout: Order of the axes.
        spec: The model's input specification, where it has one.

    Raises:
        UnknownNameError: No baseline of that name.
        UsageError: "black" without an input specification, or a tensor that is not finite or does not
            broadcast to the batch.
    """
    if baseline is None or baseline == "zero":
        return torch.zeros_like(batch)
    if isinstance(baseline, Tensor):
        if not bool(baseline.isfinite().all()):
            raise UsageError(f"a baseline of shape {tuple(baseline.shape)} holds numbers that are not finite")
        try:
            return baseline.detach().to(batch).expand_as(batch).clone()
        except RuntimeError:
            raise UsageError(
                f"a baseline of shape {tuple(baseline.shape)} does not fit a batch of shape {tuple(batch.shape)}"
            ) from None
    if isinstance(baseline, int | float):
        return torch.full_like(batch, baseline)
    if baseline == "black":
        return _black(batch, layout, spec)
    if baseline == "blur":
        return _blurred(batch, layout)
    if baseline == "mean_frame":
        clips = to_ncthw(batch, layout)
        return from_ncthw(clips.mean(dim=2, keepdim=True).expand_as(clips), layout).clone()
    raise UnknownNameError("baseline", baseline, BASELINES, "or a finite number")


def _black(batch: Tensor, layout: Layout, spec: InputSpec | None) -> Tensor:
    clips = to_ncthw(batch, layout)
    if spec is None or len(spec.mean) not in {1, clips.shape[1]}:
        raise UsageError("baseline 'black' needs the model's input specification; give a number or a tensor instead")
    mean, std = (batch.new_tensor(values).view(1, -1, 1, 1, 1) for values in (spec.mean, spec.std))
    black = (spec.range[0] - mean) / std
    return from_ncthw(black.expand_as(clips), layout).clone()


def _blurred(batch: Tensor, layout: Layout) -> Tensor:
    clips = to_ncthw(batch, layout)
    reach = max(1, int(max(clips.shape[-2:]) * BLUR) // 2)
    frames = clips.transpose(1, 2).flatten(0, 1)
    for _ in range(3):  # three box blurs are near enough to a Gaussian
        padded = F.pad(frames, (reach, reach, reach, reach), mode="replicate")
        frames = F.avg_pool2d(padded, 2 * reach + 1, stride=1)
    blurred = frames.reshape(clips.shape[0], clips.shape[2], *frames.shape[1:]).transpose(1, 2)
    return from_ncthw(blurred, layout).clone()
