"""RISE: random soft masks over space and time, and how the output goes with what they show."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.attribution.job import Job, Raw
from explain.attribution.options import RiseOptions
from explain.attribution.removal import spread, without
from explain.model.layouts import to_ncthw

#: Cells of the coarse masks along T, H and W at most, and the share of them that shows the clip.
CELLS = (4, 7, 7)
SHOWN = 0.5


def rise(job: Job) -> Raw:
    """Mean output where a mask shows a pixel, minus the mean output of all masks (arXiv 1806.07421, equation 6).

    Masks are drawn as coarse cells in time, rows and columns, resized linearly and shifted by less than a cell; where
    they are 0 the baseline is seen. Equation 6 divides by the expected brightness of a mask; here it is the brightness
    that was drawn, and the mean output is taken off: what is left tells pixels apart, and has the output's unit.
    """
    options: RiseOptions = job.options
    count = options.n_samples
    job.expect(count)
    extent = tuple(to_ncthw(job.batch, job.layout).shape[2:])
    values = []
    for sample in range(len(job.batch)):
        bright = torch.zeros(extent, dtype=torch.float64, device=job.batch.device)
        whole = job.value[sample].to(bright)
        seen, total = torch.zeros_like(bright), bright.new_zeros(())
        for shares, outputs in without(job, sample, _masks(job, count, extent)):
            masks = shares.to(bright)
            bright += masks.sum(dim=0)
            changes = outputs.to(bright) - whole  # else rounding is left where nothing changes
            seen += torch.einsum("m,mthw->thw", changes, masks)
            total += changes.sum()
        # Of a pixel that no mask has shown nothing is known.
        values.append(torch.where(bright > 0, seen / bright.clamp(min=1e-12) - total / count, 0.0))
    return Raw(values=spread(job, values))


def _masks(job: Job, count: int, extent: tuple[int, ...]) -> Iterator[Tensor]:
    """All masks, T x H x W each, some at a time."""
    generator = torch.Generator().manual_seed(job.seed)
    cells = [min(most, size) for most, size in zip(CELLS, extent, strict=True)]
    steps = [math.ceil(size / along) for size, along in zip(extent, cells, strict=True)]
    wider = [along + 1 if size > 1 else 1 for along, size in zip(cells, extent, strict=True)]
    coarse = (torch.rand(count, *wider, generator=generator, dtype=torch.float64) < SHOWN).to(job.batch)
    shifts = [torch.randint(step, (count,), generator=generator).tolist() for step in steps]
    size = [along * step for along, step in zip(wider, steps, strict=True)]
    for start in range(0, count, job.size):
        fine = F.interpolate(
            coarse[start : start + job.size, None], size=size, mode="trilinear", align_corners=False
        ).squeeze(1)
        cut = [
            mask[
                tuple(
                    slice(shift[start + at], shift[start + at] + long)
                    for shift, long in zip(shifts, extent, strict=True)
                )
            ]
            for at, mask in enumerate(fine)
        ]
        yield torch.stack(cut)
