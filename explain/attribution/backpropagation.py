"""Methods of one backward pass: saliency, input x gradient, guided backpropagation and deconvolution."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from explain.attribution import rules
from explain.attribution.job import Job, Raw
from explain.attribution.passes import gradient_of
from explain.attribution.rules import NoRuleError
from zoo.errors import ModelError

#: Nodes of functions that bend the gradient and are no rectifiers: neither paper says what to do with them.
_UNRULED = frozenset({
    "Celu", "Elu", "Gelu", "Hardswish", "LeakyRelu", "Mish", "PreluKernel", "RreluWithNoise", "Selu", "Silu",
    "Softplus",
})  # fmt: skip


def guided_backprop(job: Job) -> Raw:
    """The gradient, cut at every ReLU where it is negative or where the ReLU's input was (arXiv 1412.6806, 3.4).

    Holds for modules and functions, in place or not, and for modules that run several times. Gates of recurrent layers
    and other saturating functions pass the plain gradient.

    Raises:
        ModelError: The model runs no ReLU, or an activation function that neither paper speaks of.
    """
    job.expect(1)
    return Raw(values=_gradient(job, guided=True))


def deconvolution(job: Job) -> Raw:
    """The gradient, cut at every ReLU where it is negative, whatever the ReLU's input (arXiv 1311.2901, section 2.1).

    Otherwise as `guided_backprop`.
    """
    job.expect(1)
    return Raw(values=_gradient(job, guided=False))


def check(job: Job) -> None:
    """Refuse models on which these would be the plain gradient, or half of it.

    Raises:
        ModelError: The reason.
    """
    mode = _mode(guided=True)
    rules.scored(job, job.batch.clone().requires_grad_(), mode, functools.partial(_refuse, mode))


def _gradient(job: Job, *, guided: bool) -> Tensor:
    mode = _mode(guided=guided)
    return rules.gradient(job, mode, functools.partial(_refuse, mode))


def _refuse(mode: rules.Ruled, score: Tensor) -> None:
    found = rules.operations(score)
    own = rules.foreign(found)
    for name, nodes in found.items():
        if name in _UNRULED:
            raise NoRuleError(nodes[0], f"runs {name}, and only for ReLU there is a rule")
    if own is not None:
        raise NoRuleError(own[1], f"runs a function of its own ({own[0]}), whose ReLUs cannot be seen")
    for name in ("DifferentiableGraph", "Maximum", "Relu", "Threshold", "Where"):
        if name in found:
            raise NoRuleError(found[name][0], f"runs {name}, which may be a ReLU that no rule reaches")
    if not mode.count:
        raise ModelError("no ReLU runs: it would be the plain gradient (saliency)")


def _rectifies(operation: rules.Operation, given: Tensor) -> bool:
    """Whether a function is a ReLU, if maybe with an upper end: clamp and hardtanh may be."""
    below, above = operation(torch.full_like(given, -1e4)), operation(torch.ones_like(given))
    return not bool(below.any()) and bool((above == 1).all())


def _mode(*, guided: bool) -> rules.Ruled:
    def ruling(_name: str, operation: rules.Operation, given: Tensor, _result: Tensor) -> rules.Rule | None:
        if not _rectifies(operation, given):
            return None
        if not guided:
            return lambda gradient: gradient.clamp(min=0)
        passing = rules.slope(operation, given)
        return lambda gradient: gradient.clamp(min=0) * passing

    return rules.Ruled(rules.RECTIFIERS, ruling)


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


def check_gradients(job: Job) -> None:
    """Refuse outputs without a gradient.

    Raises:
        ModelError: The output does not depend on the input, or not differentiably so.
    """
    rules.scored(job, job.batch.clone().requires_grad_())
