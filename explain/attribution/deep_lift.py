"""DeepLift: differences from a reference, passed back through every operation in proportion."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from explain.attribution import rules
from explain.attribution.job import Job, Raw
from zoo.errors import ModelError

#: Differences smaller than this are none: the slope stands for the quotient.
LEAST = 1e-7
#: How far the attributions' sum may lie from the difference that they share out, as a share of both outputs, before the
#: result is refused: far more than float32 loses in a deep network, far less than a missed operation makes.
TOLERANCE = 0.02


def deep_lift(job: Job) -> Raw:
    """(x - b) times the multipliers of the Rescale rule (arXiv 1704.02685, section 3.5.1).

    An activation function's multiplier is the quotient of the differences of its result and its input between x and b.
    Max pooling shares its difference out between the places of both maxima. The sum is f(x) - f(b);
    `delta` says by how much it is missed. Functions are caught where they run (`explain.attribution.rules`), so that
    modules that run several times and functional activations are right.

    Raises:
        ModelError: An operation has no rule (gates of recurrent layers, attention, layer normalisation ...).
    """
    job.expect(2)
    return _deep_lift(job)


def deep_lift_shap(job: Job) -> Raw:
    """The mean of `deep_lift` over several references (arXiv 1705.07874, section 4.2).

    Raises:
        ModelError: As `deep_lift`.
    """
    job.expect(2 * len(job.references))
    parts = [_deep_lift(job.against(reference)) for reference in job.references]
    deltas = torch.stack([part.delta for part in parts if part.delta is not None])
    return Raw(values=torch.stack([part.values for part in parts]).mean(dim=0), delta=deltas.mean(dim=0))


def check(job: Job) -> None:
    """Refuse models with operations that have no rule.

    Raises:
        ModelError: The reason.
    """
    known: list[tuple[str, Tensor, Tensor]] = []
    rules.scored(job, job.baseline.clone().requires_grad_(), rules.Ruled(_NAMES, functools.partial(_note, known)))
    rules.scored(job, job.batch.clone().requires_grad_(), rules.Ruled(_NAMES, _ruling(known)), _refuse)


_NAMES = rules.ELEMENTWISE | rules.POOLINGS


def _deep_lift(job: Job) -> Raw:
    known: list[tuple[str, Tensor, Tensor]] = []
    baseline = job.baseline.clone().requires_grad_()
    below = rules.scored(job, baseline, rules.Ruled(_NAMES, functools.partial(_note, known))).detach()
    inputs = job.batch.clone().requires_grad_()
    score = rules.scored(job, inputs, rules.Ruled(_NAMES, _ruling(known)), _refuse)
    above = score.detach()
    multipliers = torch.autograd.grad(score.sum(), inputs)[0]
    values = multipliers * (job.batch - job.baseline)
    delta = values.flatten(1).sum(dim=1) - (above - below)
    size = above.abs() + below.abs() + values.abs().flatten(1).sum(dim=1)
    if bool((delta.abs() > TOLERANCE * size.clamp(min=1e-12)).any()):
        raise ModelError(
            f"DeepLift's attributions should sum to {(above - below).tolist()} and miss it by {delta.tolist()}: an "
            "operation of this model is not shared out rightly; choose integrated_gradients"
        )
    return Raw(values=values, delta=delta)


def _refuse(score: Tensor) -> None:
    rules.check_linear(score, "DeepLift")


def _note(
    known: list[tuple[str, Tensor, Tensor]],
    name: str,
    _operation: rules.Operation,
    given: Tensor,
    result: Tensor,
) -> None:
    """Remember what an operation reads and gives for the reference, in the order of the runs."""
    known.append((name, given, result))


def _ruling(known: list[tuple[str, Tensor, Tensor]]) -> rules.Ruling:
    """The rules for the samples, from what ran for the reference."""
    left = iter(known)

    def ruling(name: str, operation: rules.Operation, given: Tensor, result: Tensor) -> rules.Rule:
        ran, reference, base = next(left, ("nothing", given, result))
        if ran != name or reference.shape != given.shape:
            raise ModelError(
                f"the model runs {name} for the clip where it runs {ran} for the baseline: DeepLift needs the same "
                "operations for both"
            )
        if name in rules.POOLINGS:
            return functools.partial(_share, operation, given, reference, result, base)
        difference = given - reference
        none = difference.abs() < LEAST
        quotient = (result - base) / torch.where(none, torch.ones_like(difference), difference)
        multiplier = torch.where(none, rules.slope(operation, given), quotient)
        return lambda gradient: gradient * multiplier

    return ruling


def _share(
    operation: rules.Operation,
    given: Tensor,
    reference: Tensor,
    result: Tensor,
    base: Tensor,
    gradient: Tensor,
) -> Tensor:
    """What max pooling passes back: the part of the difference above the larger maximum to where each maximum is."""
    larger = torch.maximum(result, base)
    mine = _unpooled(operation, given, gradient * (larger - base))
    theirs = _unpooled(operation, reference, gradient * (result - larger))
    difference = given - reference
    none = difference.abs() < LEAST
    return torch.where(none, torch.zeros_like(given), (mine + theirs) / torch.where(none, 1.0, difference))


def _unpooled(operation: rules.Operation, given: Tensor, values: Tensor) -> Tensor:
    """Values of a pooling's positions, put to where each maximum is: what its gradient does."""
    with torch.enable_grad():
        start = given.clone().requires_grad_()
        return torch.autograd.grad(operation(start), start, values)[0]
