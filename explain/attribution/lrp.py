"""Layer-wise relevance propagation: the output shared out among what made it up, layer by layer.

Relevance is passed back as relevance per unit of activation. A gradient does just that for everything linear, so that a
residual sum shares out in proportion to its terms, and nothing is counted twice; only rules that differ from the
gradient need code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from explain.attribution import rules
from explain.attribution.jobs import Job, Raw
from zoo.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

#: Values smaller than this are none: no division by them.
LEAST = 1e-12
_CONVOLUTIONS = frozenset(f"conv{way}{axes}d" for way in ("", "_transpose") for axes in (1, 2, 3))
#: Functions that are 0 at 0, so that all of their result comes from their input; of those with limits, when they are.
_ACTIVATIONS = rules.ELEMENTWISE - {"hardsigmoid", "logsigmoid", "sigmoid", "softplus"}


def lrp(job: Job) -> Raw:
    """Input times what comes back of the output by the z+ rule in convolutions and the 0 rule elsewhere.

    z+ (arXiv 1512.02479, section 4.2; alpha 1, beta 0 of Bach et al. 2015): a convolution's relevance goes to what
    added to its sum, positive products of inputs and weights and positive biases, in proportion. Dense layers, sums,
    averages and BatchNorm pass on in proportion to all terms, maxima to the largest, activation functions everything.
    What biases have added stays with them: without biases the values sum to f(x).

    Raises:
        ModelError: An operation has no rule (gates of recurrent layers, attention, sigmoids ...).
    """
    job.expect(1)
    return Raw(values=job.batch * rules.gradient(job, _mode(), _refuse))


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
    none = given.abs() < LEAST
    share = torch.where(none, torch.zeros_like(given), result / torch.where(none, torch.ones_like(given), given))
    return lambda relevance: relevance * share


def _convolution(operation: rules.Operation, given: Tensor, result: Tensor) -> rules.Rule:
    """The z+ rule: positive inputs through positive weights, negative ones through negative weights."""
    others: tuple[Any, ...] = operation.others  # type: ignore[attr-defined]  # set where operations are caught
    if not others or not isinstance(others[0], torch.Tensor) or others[0].requires_grad:
        raise ModelError("a convolution's weights depend on the input; LRP has no rule for it")
    weight, bias = others[0], others[1] if len(others) > 1 else None

    def rule(relevance: Tensor) -> Tensor:
        with torch.enable_grad():
            above = given.clamp(min=0).requires_grad_()
            below = given.clamp(max=0).requires_grad_()
            added = operation(above, weight.clamp(min=0), None) + operation(below, weight.clamp(max=0), None)
            total = added.detach()
            if bias is not None:
                total = total + bias.clamp(min=0).view(-1, *([1] * (weight.ndim - 2)))
            none = total < LEAST
            share = torch.where(none, torch.zeros_like(total), relevance * result / total.masked_fill(none, 1.0))
            upper, lower = torch.autograd.grad(added, (above, below), share)
        return torch.where(given >= 0, upper, lower)

    return rule
