"""Methods that take one gradient."""

from __future__ import annotations

from explain.attribution import rules
from explain.attribution.jobs import Job, Raw
from explain.attribution.passes import gradient_of


def saliency(job: Job) -> Raw:
    """Gradient of the output with respect to the input, with its sign: `raw` of a linear model is its weight.

    The map is the magnitude (arXiv 1312.6034, section 3.1; over colour channels summed, where the paper takes the
    largest).
    """
    job.expect(1)
    return Raw(values=gradient_of(job))


def input_x_gradient(job: Job) -> Raw:
    """Input times gradient: the terms of the first-order expansion around zero (arXiv 1605.01713, section 3.3)."""
    job.expect(1)
    return Raw(values=job.batch * gradient_of(job))


def check(job: Job) -> None:
    """Refuse outputs without a gradient.

    Raises:
        ModelError: The output does not depend on the input, or not differentiably so.
    """
    rules.scored(job, job.batch.clone().requires_grad_())
