"""Methods that average gradients: integrated gradients, GradientSHAP and SmoothGrad."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import captum.attr
import torch
from torch import Tensor

from explain.attribution import rules
from explain.attribution.job import Job, Raw
from explain.attribution.methods import find_method
from explain.attribution.options import GradientShapOptions, IntegratedGradientsOptions, SmoothGradOptions
from explain.model.layouts import from_ncthw, to_ncthw
from zoo.registry.plugins import resolve

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
    options: GradientShapOptions = job.options
    each = max(1, options.n_samples // len(references))
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
    """
    options: SmoothGradOptions = job.options
    run: Callable[[Job], Raw] = resolve(find_method(options.smooth).run)
    generator = torch.Generator().manual_seed(job.seed)
    spread = _range(job.batch) * NOISE
    total = torch.zeros_like(job.batch, dtype=job.value.dtype)
    shape = (1, *to_ncthw(job.batch, job.layout).shape[1:])  # the same noise for every order of the axes
    left = options.n_samples
    while left:
        several = min(left, max(1, job.size // len(job.batch)))
        noise = torch.stack([torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(several)])
        noise = torch.stack([from_ncthw(one, job.layout) for one in noise])
        noisy = job.batch + noise.to(job.batch) * spread
        part = _inner(job.repeated(noisy.flatten(0, 1), several, options.n_samples))
        total += run(part).values.detach().view(several, *total.shape).sum(dim=0)
        left -= several
    return Raw(values=total / options.n_samples)


def check_sampled(job: Job) -> None:
    """Refuse what the method that is smoothed refuses.

    Raises:
        ModelError: The reason.
    """
    method = find_method(job.options.smooth)
    if method.check:
        resolve(method.check)(_inner(job))


def _inner(job: Job) -> Job:
    """The job of the method that is smoothed; a plugin's row that names its options has one object for both."""
    return dataclasses.replace(job, options=getattr(job.options, "inner", job.options))


def _range(batch: Tensor) -> Tensor:
    """Largest minus smallest value of each sample, to be broadcast."""
    values = batch.flatten(1)
    return (values.amax(dim=1) - values.amin(dim=1)).view(-1, *([1] * (batch.ndim - 1)))


#: Rules of integration whose first point is the baseline itself.
_FROM_BASELINE = {"riemann_left", "riemann_trapezoid"}


def integrated_gradients(job: Job) -> Raw:
    """(x - b) times the mean gradient on the way from b to x (arXiv 1703.01365, equation 1).

    Captum's trapezoid weights sum to (n - 1) / n; here they sum to 1, so that every rule is exact on a linear model.
    The delta is the attributions' sum minus f(x) - f(b); f(x) is taken from the target, f(b) from the first
    point where a rule begins at the baseline; else it costs one more forward pass.
    """
    options: IntegratedGradientsOptions = job.options
    known = options.integration in _FROM_BASELINE
    job.expect(options.n_steps + (not known))
    first: list[Tensor] = []

    def score(batch: Tensor, samples: Tensor) -> Tensor:
        outputs = job.score(batch, samples)
        if not first:
            first.append(outputs.detach()[: len(job.batch)])
        return outputs

    values = captum.attr.IntegratedGradients(score).attribute(
        job.batch,
        baselines=job.baseline,
        additional_forward_args=job.samples,
        n_steps=options.n_steps,
        method=options.integration,
        internal_batch_size=max(job.size, len(job.batch)),
    )
    if options.integration == "riemann_trapezoid":
        values = values * (options.n_steps / (options.n_steps - 1))
    if not known:
        with torch.no_grad():
            first = [job.score(job.baseline, job.samples)]
    return Raw(values=values, delta=values.flatten(1).sum(dim=1) - (job.value - first[0]))
