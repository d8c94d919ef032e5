"""Layer-wise relevance propagation: the output shared out among what made it up, layer by layer.

Relevance is passed back as relevance per unit of activation. A gradient does just that for everything linear, so that a
residual sum shares out in proportion to its terms, and nothing is counted twice; only rules that differ from the
gradient need code.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from explain.attribution import rules
from explain.attribution.job import Job, Raw
from explain.model.layouts import exact, widened
from zoo.devices import is_out_of_memory
from zoo.errors import ModelError, one_line

#: Values smaller than this are none: no division by them. Rules compute in 32 bits or more: in float16 it is 0.
LEAST = 1e-12
_CONVOLUTIONS = frozenset(f"conv{way}{axes}d" for way in ("", "_transpose") for axes in (1, 2, 3))
#: Functions that are 0 at 0, so that all of their result comes from their input; of those with limits, when they are.
_ACTIVATIONS = rules.ELEMENTWISE - {"hardsigmoid", "logsigmoid", "sigmoid", "softplus"}


def lrp(job: Job) -> Raw:
    """Input times what comes back of the output by the z+ rule in convolutions and the 0 rule elsewhere.

    z+ (arXiv 1512.02479, section 4.2; alpha 1, beta 0 of Bach et al. 2015): a convolution's relevance goes to what
    added to its sum, positive products of inputs and weights and positive biases, in proportion. Dense layers, sums,
    averages and BatchNorm pass on in proportion to all terms, maxima to the largest, activation functions everything.
    What biases have added stays with them: without biases the values sum to f(x). Models of 16 bits are computed in 32,
    with the weights that they have: what is divided, and what is passed back, is often too small for float16.

    Raises:
        ModelError: An operation has no rule (gates of recurrent layers, attention, sigmoids ...), or the model cannot
            be computed in 32 bits.
    """
    job.expect(1)
    with widened(job.model) as narrow:
        if not narrow:
            return Raw(values=job.batch * rules.gradient(job, _mode(), _refuse))
        wide = dataclasses.replace(job, batch=job.batch.float())
        try:
            values = wide.batch * rules.gradient(wide, _mode(), _refuse)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"LRP needs numbers of 32 bits, in which this model does not run ({one_line(error)[:200]}); load it in "
                "float32"
            ) from error
        return Raw(values=values, precision="float32, with the model's weights of 16 bits")


def check(job: Job) -> None:
    """Refuse models with operations that have no rule.

    Raises:
        ModelError: The reason.
    """
    rules.scored(job, job.batch.clone().requires_grad_(), _mode(), _refuse)


def _refuse(score: Tensor) -> None:
    maxima = ("MaxPool2DWithIndices", "MaxPool3DWithIndices")
    rules.check_linear(score, "LRP", besides=("Convolution",), allowed=maxima)


def _mode() -> rules.Ruled:
    return rules.Ruled(_CONVOLUTIONS | _ACTIVATIONS, _ruling)


def _ruling(name: str, operation: rules.Operation, given: Tensor, result: Tensor) -> rules.Rule | None:
    if name in _CONVOLUTIONS:
        return _convolution(operation, given, result)
    if name in rules.LIMITING and bool(operation(torch.zeros_like(given)).any()):
        return None
    given, result = exact(given), exact(result)
    none = given.abs() < LEAST
    share = torch.where(none, torch.zeros_like(given), result / torch.where(none, torch.ones_like(given), given))
    return lambda relevance: (relevance * share).to(relevance)


def _convolution(operation: rules.Operation, given: Tensor, result: Tensor) -> rules.Rule:
    """The z+ rule: positive inputs through positive weights, negative ones through negative weights."""
    others: tuple[Any, ...] = operation.others  # type: ignore[attr-defined]  # set where operations are caught
    if not others or not isinstance(others[0], torch.Tensor) or others[0].requires_grad:
        raise ModelError("a convolution's weights depend on the input; LRP has no rule for it")
    given, result, weight = exact(given), exact(result), exact(others[0])
    bias = others[1] if len(others) > 1 else None

    def rule(relevance: Tensor) -> Tensor:
        with torch.enable_grad():
            above = given.clamp(min=0).requires_grad_()
            below = given.clamp(max=0).requires_grad_()
            added = operation(above, weight.clamp(min=0), None) + operation(below, weight.clamp(max=0), None)
            total = exact(added.detach())
            if bias is not None:
                total = total + exact(bias).clamp(min=0).view(-1, *([1] * (weight.ndim - 2)))
            none = total < LEAST
            share = torch.where(none, torch.zeros_like(total), relevance * result / total.masked_fill(none, 1.0))
            upper, lower = torch.autograd.grad(added, (above, below), share.to(added))
        return torch.where(given >= 0, upper, lower).to(relevance)

    return rule
