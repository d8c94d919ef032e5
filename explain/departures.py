"""Where an output clip is farthest from what it should be: what is explained of it where nothing is asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from torch.nn import functional as F

from explain.precision import exact
from zoo.prediction import like_output, output_specs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explain.regions import Bounds

#: A region is one frame, and this share of its rows and columns.
SHARE: Final = 0.25


def departures(
    model: nn.Module, batch: Tensor, head: str, clips: Tensor, truth: Tensor | None = None
) -> tuple[tuple[Bounds, ...], str] | None:
    """The region of each sample in which the squared error of an output clip is largest.

    Args:
        model: The model, whose entry says whether the output predicts what follows.
        batch: What it was given, N samples.
        head: Name of the output.
        clips: The output: N x C x T x H x W or, of one frame, N x C x H x W.
        truth: What it should be, where that is known. Else a prediction is held against the last frame that the model
            was given, and any other output of the batch's shape against the batch.

    Returns:
        The regions, and in words what they are farthest from; None where nothing is known that the output should be.
    """
    if clips.ndim not in {4, 5}:
        return None
    read = like_output(model, batch)
    if truth is not None:
        wanted, against = truth.to(clips), "what follows"
    elif output_specs(model, {head: clips})[head].follows:
        last = read[:, :, -1:] if read.ndim == 5 else read
        wanted, against = (last if clips.ndim == 5 or last.ndim == 4 else last[:, :, 0]), "the last frame"
    else:
        wanted, against = read, "the clip"
    fits = wanted.shape == clips.shape or (
        against == "the last frame"
        and clips.ndim == wanted.ndim == 5
        and (wanted.shape[:2], wanted.shape[3:]) == (clips.shape[:2], clips.shape[3:])
    )
    if not fits:
        return None
    errors = (exact(clips) - exact(wanted)).square().mean(dim=1)
    errors = errors if errors.ndim == 4 else errors[:, None]
    size = [math.ceil(SHARE * length) for length in errors.shape[2:]]
    step = [max(1, length // 2) for length in size]
    means = F.avg_pool2d(errors, size, step)
    regions = []
    for at in means.flatten(1).argmax(dim=1).tolist():
        time, place = divmod(at, means.shape[2] * means.shape[3])
        row, column = (one * length for one, length in zip(divmod(place, means.shape[3]), step, strict=True))
        regions.append(((time, time + 1), (row, row + size[0]), (column, column + size[1])))
    return tuple(regions), against
