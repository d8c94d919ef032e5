"""What the output owes to single stretches of time, and to the order of frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from explain.attribution.job import Job, Raw
from explain.attribution.options import FrameOrderOptions, TemporalOcclusionOptions
from explain.attribution.removal import spread
from explain.model.layouts import from_ncthw, to_ncthw
from zoo.errors import ModelError


def temporal_occlusion(job: Job) -> Raw:
    """f(x) minus f(x without a window of frames), averaged over the windows that hold a frame.

    "freeze" holds the frame before the window (at the start, the one behind it); "drop" takes the window out, moves up
    what follows and holds the last frame; "repeat" shows the frames before the window again (at the start, those behind
    it); "cover" shows the baseline. All pixels of a frame have the same value. Windows and steps are
    those of `window` and `stride` along time. Zeiler & Fergus (arXiv 1311.2901, section 2.2) for frames; the fills are
    this package's.

    Raises:
        ModelError: The clip is a single frame.
    """
    check(job)
    options: TemporalOcclusionOptions = job.options
    frames, (size, *_), (step, *_) = _frames(job), *options.blocks
    windows = _windows(frames, min(size, frames - 1), step)
    return _changed(job, windows, [[_filled(options.fill, frames, *window)] for window in windows])


def frame_order(job: Job) -> Raw:
    """f(x) minus f(x with the frames of a window in another order), averaged over the windows that hold a frame.

    "reverse" plays the window backwards; "shuffle" draws orders, none of them the old one, and takes the mean. A window
    of the whole clip tells what the order of all frames is worth. Windows have at least two frames; all pixels of a
    frame have the same value. After Misra, Zitnick & Hebert, Shuffle and Learn (arXiv 1603.08561), who ask for the
    order of frames.

    Raises:
        ModelError: The clip is a single frame.
    """
    check(job)
    options: FrameOrderOptions = job.options
    frames, (size, *_), (step, *_) = _frames(job), *options.blocks
    windows = _windows(frames, max(2, size), step)
    generator = torch.Generator().manual_seed(job.seed)
    return _changed(job, windows, [_reordered(options, frames, window, generator) for window in windows])


def check(job: Job) -> None:
    """Refuse single frames.

    Raises:
        ModelError: There is but one.
    """
    if _frames(job) < 2:
        raise ModelError("the input is a single frame: there is no time to change")


def _frames(job: Job) -> int:
    return int(to_ncthw(job.batch, job.layout).shape[2])


def _windows(frames: int, size: int, step: int) -> list[tuple[int, int]]:
    """First frame and the one behind the last of every window; the last window ends with the clip."""
    step = min(step, size)
    starts = [min(k * step, frames - size) for k in range(math.ceil((frames - size) / step) + 1)]
    return [(start, start + size) for start in starts]


def _filled(fill: str, frames: int, start: int, end: int) -> list[int]:
    """Which frame stands at each place; from `frames` on, the baseline's."""
    order = list(range(frames))
    if fill == "cover":
        order[start:end] = range(frames + start, frames + end)
    elif fill == "drop":
        order = [*order[:start], *order[end:]]
        order += [order[-1]] * (frames - len(order))
    elif fill == "freeze":
        order[start:end] = [start - 1 if start else end] * (end - start)
    else:
        left = range(max(0, 2 * start - end), start) if start else range(end, min(frames, end + end - start))
        order[start:end] = [left[k % len(left)] for k in range(end - start)]
    return order


def _reordered(
    options: FrameOrderOptions, frames: int, window: tuple[int, int], generator: torch.Generator
) -> list[list[int]]:
    start, end = window
    inside = list(range(start, end))
    if options.order == "reverse":
        return [[*range(start), *inside[::-1], *range(end, frames)]]
    orders: list[list[int]] = []
    while len(orders) < options.n_samples:
        drawn = [inside[k] for k in torch.randperm(len(inside), generator=generator).tolist()]
        if drawn != inside:
            orders.append([*range(start), *drawn, *range(end, frames)])
    return orders


def _changed(job: Job, windows: list[tuple[int, int]], orders: list[list[list[int]]]) -> Raw:
    """The loss with each window's frames changed, the mean over its orders and over the windows that hold a frame."""
    every = [order for several in orders for order in several]
    job.expect(len(every))
    clips, baseline = to_ncthw(job.batch, job.layout), to_ncthw(job.baseline, job.layout)
    both = torch.cat([clips, baseline], dim=2)
    extent = clips.shape[2:]
    values: list[Tensor] = []
    with torch.no_grad():
        for sample in range(len(clips)):
            outputs = []
            for start in range(0, len(every), job.size):
                some = every[start : start + job.size]
                batch = torch.stack([both[sample][:, order] for order in some])
                scores = job.score(from_ncthw(batch, job.layout).contiguous(), job.samples[sample].expand(len(some)))
                outputs.append(scores.double())
            losses = (job.value[sample].double() - torch.cat(outputs)).view(len(windows), -1).mean(dim=1)
            total, count = losses.new_zeros(extent[0]), losses.new_zeros(extent[0])
            for loss, (first, end) in zip(losses, windows, strict=True):
                total[first:end] += loss
                count[first:end] += 1
            values.append((total / count.clamp(min=1)).view(-1, 1, 1).expand(*extent))
    return Raw(values=spread(job, values))
