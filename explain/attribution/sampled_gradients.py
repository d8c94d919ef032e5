"""Gradients averaged over draws: gradient SHAP and SmoothGrad.

What is drawn depends on the seed alone, not on the sample, its place in a batch, or the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from explain.attribution import rules
from explain.attribution.jobs import Job, Raw
from explain.layouts import from_ncthw, to_ncthw
from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

#: Methods that `smooth_grad` takes the mean of.
SMOOTHED = (
    "saliency",
    "input_x_gradient",
    "integrated_gradients",
    "gradient_shap",
    "deep_lift",
    "guided_backprop",
    "deconvolution",
)
#: Standard deviation of SmoothGrad's noise, as a share of the range of a sample's values.
NOISE = 0.15


def gradient_shap(job: Job) -> Raw:
    """(x - b) times the gradient at places drawn between b and x, over several b: expected gradients.

    arXiv 1906.10670, equation 7, with one place drawn from each of as many equal pieces of the way as there are draws
    for each reference (for the variance). It is SHAP's estimate for a model that is nearly linear (arXiv 1705.07874);
    Captum's method of this name draws references and places independently. `delta` is the sum minus f(x) plus the mean
    f(b): not zero, but small where the draws are many.
    """
    references = job.references
    each = max(1, job.draws // len(references))
    job.expect((each + 1) * len(references))
    generator = torch.Generator().manual_seed(job.seed)
    total, below = torch.zeros_like(job.batch, dtype=job.value.dtype), torch.zeros_like(job.value)
    for reference in references:
        way = job.batch - reference
        places = (torch.arange(each) + torch.rand(each, generator=generator, dtype=torch.float64)) / each
        for several in torch.split(places, max(1, job.size // len(job.batch))):
            at = several.to(job.batch).view(-1, *([1] * job.batch.ndim))
            part = job.repeated((reference + at * way).flatten(0, 1), len(several), 1)
            total += rules.gradient(part).view(len(several), *way.shape).sum(dim=0) * way
        with torch.no_grad():
            below += job.score(reference, job.samples) / len(references)
    values = total / (each * len(references))
    return Raw(values=values, delta=values.flatten(1).sum(dim=1) - (job.value - below))


def smooth_grad(job: Job) -> Raw:
    """The mean of a gradient method over clips with noise added (arXiv 1706.03825, section 3).

    The noise's standard deviation is `NOISE` of the range of the sample's values. The mean keeps its sign.

    Raises:
        UnknownNameError: `smooth` is no method that this can be made of.
    """
    run = _smoothed(job)
    generator = torch.Generator().manual_seed(job.seed)
    spread = _range(job.batch) * NOISE
    total = torch.zeros_like(job.batch, dtype=job.value.dtype)
    shape = (1, *to_ncthw(job.batch, job.layout).shape[1:])  # the same noise for every order of the axes
    left = job.draws
    while left:
        several = min(left, max(1, job.size // len(job.batch)))
        noise = torch.stack([torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(several)])
        noise = torch.stack([from_ncthw(one, job.layout) for one in noise])
        noisy = job.batch + noise.to(job.batch) * spread
        part = job.repeated(noisy.flatten(0, 1), several, job.draws)
        total += run(part).values.detach().view(several, *total.shape).sum(dim=0)
        left -= several
    return Raw(values=total / job.draws)


def check(job: Job) -> None:
    """Refuse what the method that is smoothed refuses.

    Raises:
        ModelError: The reason.
    """
    from explain.attribution.methods import find_method
    from zoo.plugins import resolve

    _smoothed(job)
    method = find_method(job.smooth)
    if method.check:
        resolve(method.check)(job)


def _smoothed(job: Job) -> Callable[[Job], Raw]:
    from explain.attribution.methods import find_method
    from zoo.plugins import resolve

    if job.smooth not in SMOOTHED:
        raise UnknownNameError("method to smooth", job.smooth, SMOOTHED)
    run: Callable[[Job], Raw] = resolve(find_method(job.smooth).run)
    return run


def _range(batch: Tensor) -> Tensor:
    """Largest minus smallest value of each sample, to be broadcast."""
    values = batch.flatten(1)
    return (values.amax(dim=1) - values.amin(dim=1)).view(-1, *([1] * (batch.ndim - 1)))
