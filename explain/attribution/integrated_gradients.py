"""Integrated gradients: gradients along the straight way from a baseline to the input."""

from __future__ import annotations

import captum.attr
import torch

from explain.attribution.jobs import Job, Raw
from zoo.errors import UnknownNameError, UsageError

#: Rules of integration.
RULES = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")


def integrated_gradients(job: Job) -> Raw:
    """(x - b) times the mean gradient on the way from b to x (arXiv 1703.01365, equation 1).

    Captum's trapezoid weights sum to (n - 1) / n; here they sum to 1, so that every rule is exact on a linear model.
    The delta is the attributions' sum minus f(x) - f(b); f(x) is taken from the target, f(b) costs one more forward
    pass.

    Raises:
        UnknownNameError: No such rule.
        UsageError: Fewer steps than the rule needs (1 for gausslegendre, 2 for the others).
    """
    if job.integration not in RULES:
        raise UnknownNameError("integration rule", job.integration, RULES)
    fewest = 1 if job.integration == "gausslegendre" else 2
    if job.steps < fewest:
        raise UsageError(f"integration {job.integration!r} needs at least {fewest} steps, not {job.steps}")
    job.expect(job.steps + 1)
    values = captum.attr.IntegratedGradients(job.score).attribute(
        job.batch,
        baselines=job.baseline,
        additional_forward_args=job.samples,
        n_steps=job.steps,
        method=job.integration,
        internal_batch_size=max(job.size, len(job.batch)),
    )
    if job.integration == "riemann_trapezoid":
        values = values * (job.steps / (job.steps - 1))
    with torch.no_grad():
        difference = job.value - job.score(job.baseline, job.samples)
    return Raw(values=values, delta=values.flatten(1).sum(dim=1) - difference)
