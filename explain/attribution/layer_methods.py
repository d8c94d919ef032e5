"""Methods of one layer: Grad-CAM (Selvaraju et al., 2017), guided Grad-CAM, layer activation and gradient."""

from __future__ import annotations

import dataclasses

from torch.nn import functional as F

from explain.attribution.backpropagation import guided_backprop
from explain.attribution.job import Job, Raw
from explain.attribution.passes import maps_and_slopes_of, maps_of
from explain.model.layouts import from_ncthw, to_ncthw


def layer_activation(job: Job) -> Raw:
    """Mean over units of the activations' absolute values, at each of the layer's positions."""
    job.expect(1)
    return Raw(values=maps_of(job).abs().mean(dim=1, keepdim=True))


def layer_gradient_x_activation(job: Job) -> Raw:
    """Sum over units of activation times gradient, at each of the layer's positions (arXiv 1605.01713, section 3.3).

    The raw map keeps its sign. Summed over all positions it is the output, where nothing behind the layer adds a
    bias or bends.
    """
    job.expect(1)
    maps, slopes = maps_and_slopes_of(job)
    return Raw(values=(maps * slopes).sum(dim=1, keepdim=True))


def grad_cam(job: Job) -> Raw:
    """Sum over units of their maps, weighted by the gradient averaged over T', H', W' (arXiv 1610.02391, equation 1).

    The raw map keeps its sign; equation 2's ReLU is applied with the resizing to the map.
    """
    return _cam(job, (2, 3, 4))


def grad_cam_per_frame(job: Job) -> Raw:
    """As `grad_cam`, the gradient averaged over H', W' at each of the layer's time steps."""
    return _cam(job, (3, 4))


def _cam(job: Job, averaged: tuple[int, ...]) -> Raw:
    job.expect(1)
    maps, slopes = maps_and_slopes_of(job)
    return Raw(values=(slopes.mean(dim=averaged, keepdim=True) * maps).sum(dim=1, keepdim=True))


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
