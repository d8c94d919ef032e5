"""Occlusion: cover a block of pixels and frames, and see what the output loses."""

from __future__ import annotations

import math
from collections.abc import Callable

import captum.attr
import torch
from torch import Tensor

from explain.attribution.job import Job, Raw
from explain.attribution.options import OcclusionOptions
from zoo.entries import Layout
from zoo.errors import UsageError

#: Most blocks that the default window and stride give.
MOST_WINDOWS = 300
#: Places along time that the default gives at most; the rest of `MOST_WINDOWS` goes to rows and columns.
PLACES_IN_TIME = 8

Extent = tuple[int, int, int]


def occlusion(job: Job) -> Raw:
    """f(x) minus f(x with a block covered by the baseline), averaged over the blocks that cover a pixel.

    The blocks span all channels. Positive: covering the pixel lowers the output. For a linear model it is the sum, over
    the block, of weight times (input - baseline).
    """
    options: OcclusionOptions = job.options
    window, stride = options.blocks
    job.expect(window_count(_extent(job), window, stride))
    unchanged = [job.value]

    def score(batch: Tensor, samples: Tensor) -> Tensor:
        if unchanged and torch.equal(batch, job.batch):  # Captum's first call; known from the target
            return unchanged.pop()
        return job.score(batch, samples)

    channels = job.batch.shape[2 if job.layout == "NTCHW" else 1]
    with torch.no_grad():
        values = captum.attr.Occlusion(score).attribute(
            job.batch,
            sliding_window_shapes=_in_layout(window, channels, job.layout),
            strides=_in_layout(stride, channels, job.layout),
            baselines=job.baseline,
            additional_forward_args=job.samples,
            perturbations_per_eval=max(1, job.size // len(job.batch)),
        )
    return Raw(values=values)


def default_blocks(
    extent: Extent, most: int = MOST_WINDOWS, places_in_time: int = PLACES_IN_TIME
) -> tuple[Extent, Extent]:
    """Window and stride (T, H, W) for clips of that extent: at most `most` blocks, `places_in_time` along time.

    Fewer along time where rows and columns would not get two places each: blocks of whole frames show no place.
    A block is two strides long along each axis, so that every pixel but those at the border is covered by two blocks an
    axis; an axis as short as the places it may have gets blocks of one.
    """
    in_time = max(1, min(extent[0], places_in_time, most // 4))
    places = (in_time, *(math.isqrt(most // in_time),) * 2)
    strides = [
        1 if size <= count else math.ceil(size / (count + 1)) for size, count in zip(extent, places, strict=True)
    ]
    windows = [
        1 if size <= count else min(size, 2 * stride)
        for size, count, stride in zip(extent, places, strides, strict=True)
    ]
    return (windows[0], windows[1], windows[2]), (strides[0], strides[1], strides[2])


def check_blocks(extent: Extent, window: Extent | None, stride: Extent | None) -> tuple[Extent, Extent]:
    """Window and stride as asked for, the missing ones by default (a window alone: half of it as stride).

    Raises:
        UsageError: A window larger than the clip, or a stride larger than the window: pixels would be left out.
    """
    if window is None and stride is None:
        return default_blocks(extent)
    if window is None:
        window = _each(min, extent, _each(lambda step, _: 2 * step, stride or extent))
    if stride is None:
        stride = _each(lambda size, _: max(1, size // 2), window)
    for axis, size, block, step in zip("THW", extent, window, stride, strict=True):
        if not 1 <= step <= block <= size:
            raise UsageError(
                f"window {block} and stride {step} do not fit {size} along {axis}; "
                f"expected 1 <= stride <= window <= {size}"
            )
    return window, stride


def _each(rule: Callable[[int, int], int], extent: Extent, other: Extent = (0, 0, 0)) -> Extent:
    first, second, third = (rule(mine, theirs) for mine, theirs in zip(extent, other, strict=True))
    return first, second, third


def window_count(extent: Extent, window: Extent, stride: Extent) -> int:
    """Number of blocks that cover a clip of that extent."""
    return math.prod(
        math.ceil((size - block) / step) + 1 for size, block, step in zip(extent, window, stride, strict=True)
    )


def _extent(job: Job) -> Extent:
    shape = job.batch.shape
    return 1 if job.layout == "NCHW" else shape[1 if job.layout == "NTCHW" else 2], shape[-2], shape[-1]


def _in_layout(extent: Extent, channels: int, layout: Layout) -> tuple[int, ...]:
    """(T, H, W) and the channels, in the order of a sample's axes."""
    time, height, width = extent
    if layout == "NCHW":
        return channels, height, width
    return (channels, time, height, width) if layout == "NCTHW" else (time, channels, height, width)
