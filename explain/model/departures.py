"""Where an output clip is farthest from what it should be: what is explained of it where nothing is asked for."""

from __future__ import annotations

import math
from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

from explain.model.layouts import exact, layout_of, to_ncthw
from explain.model.regions import Bounds
from zoo.models.heads import output_specs

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
    if not {clips.ndim, batch.ndim} <= {4, 5}:
        return None
    read = to_ncthw(batch, layout_of(model, batch))
    given = clips if clips.ndim == 5 else clips[:, :, None]
    if truth is not None:
        wanted, against = (truth if truth.ndim == 5 else truth[:, :, None]).to(given), "what follows"
    elif output_specs(model, {head: clips})[head].follows:
        wanted, against = read[:, :, -1:], "the last frame"
    else:
        wanted, against = read, "the clip"
    frames = given.shape[2] if against == "the last frame" else wanted.shape[2]
    if given.shape != (*wanted.shape[:2], frames, *wanted.shape[3:]):
        return None
    errors = (exact(given) - exact(wanted)).square().mean(dim=1)
    size = [math.ceil(SHARE * length) for length in errors.shape[2:]]
    step = [max(1, length // 2) for length in size]
    means = F.avg_pool2d(errors, size, step)
    regions = []
    for at in means.flatten(1).argmax(dim=1).tolist():
        time, place = divmod(at, means.shape[2] * means.shape[3])
        row, column = (one * length for one, length in zip(divmod(place, means.shape[3]), step, strict=True))
        regions.append(((time, time + 1), (row, row + size[0]), (column, column + size[1])))
    return tuple(regions), against
