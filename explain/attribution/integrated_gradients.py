"""Integrated gradients: gradients along the straight way from a baseline to the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import captum.attr
import torch

from explain.attribution.jobs import Job, Raw
from zoo.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

#: Rules of integration.
RULES = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")
#: Those whose first point is the baseline itself.
_FROM_BASELINE = {"riemann_left", "riemann_trapezoid"}


def integrated_gradients(job: Job) -> Raw:
    """(x - b) times the mean gradient on the way from b to x (arXiv 1703.01365, equation 1).

    Captum's trapezoid weights sum to (n - 1) / n; here they sum to 1, so that every rule is exact on a linear model.
    The delta is the attributions' sum minus f(x) - f(b); f(x) is taken from the target, f(b) from the first
    point where a rule begins at the baseline; else it costs one more forward pass.

    Raises:
        UnknownNameError: No such rule.
        UsageError: Fewer steps than the rule needs (1 for gausslegendre, 2 for the others).
    """
    if job.integration not in RULES:
        raise UnknownNameError("integration rule", job.integration, RULES)
    fewest = 1 if job.integration == "gausslegendre" else 2
    if job.steps < fewest:
        raise UsageError(f"integration {job.integration!r} needs at least {fewest} steps, not {job.steps}")
    known = job.integration in _FROM_BASELINE
    job.expect(job.steps + (not known))
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
        n_steps=job.steps,
        method=job.integration,
        internal_batch_size=max(job.size, len(job.batch)),
    )
    if job.integration == "riemann_trapezoid":
        values = values * (job.steps / (job.steps - 1))
    if not known:
        with torch.no_grad():
            first = [job.score(job.baseline, job.samples)]
    return Raw(values=values, delta=values.flatten(1).sum(dim=1) - (job.value - first[0]))
