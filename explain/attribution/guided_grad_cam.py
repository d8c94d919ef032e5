"""Guided Grad-CAM: the pixels of guided backpropagation where Grad-CAM sees the features."""

from __future__ import annotations

import dataclasses

from torch.nn import functional as F

from explain.attribution.backpropagation import guided_backprop
from explain.attribution.grad_cam import grad_cam
from explain.attribution.jobs import Job, Raw
from explain.layouts import from_ncthw, to_ncthw


def guided_grad_cam(job: Job) -> Raw:
    """Guided backpropagation times Grad-CAM's map, without its negative values and resized (arXiv 1610.02391, 3.2).

    Raises:
        ModelError: As for either.
    """
    twice = dataclasses.replace(job, repeats=2 * job.repeats)
    pixels = guided_backprop(twice).values
    found = grad_cam(twice).values
    maps = found.clamp(min=0)
    size = to_ncthw(job.batch, job.layout).shape[2:]
    resized = F.interpolate(maps, size=tuple(size), mode="trilinear", align_corners=False)
    return Raw(values=pixels * from_ncthw(resized, job.layout), against=found.flatten(1).lt(0).any(dim=1))
