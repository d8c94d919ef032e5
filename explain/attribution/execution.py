"""Run methods on the samples of a batch, as many at a time as memory holds; those that need one pass alone share it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explain.attribution.job import Job, Raw, Wanted
from explain.attribution.methods import Method
from explain.attribution.passes import one_pass
from explain.model.layouts import computed_in, exact, layout_of
from explain.model.memory import MeasuredBytes, Progress, fitting, in_parts, within_memory
from explain.model.targets import Score, Target, TargetLike, join, resolve, scored, select
from zoo.clips import timed, times_of
from zoo.devices import is_out_of_memory
from zoo.errors import ModelError, PluginError, PluginExitError, UsageError, ZooError, describe, one_line
from zoo.isolation import guarded
from zoo.registry.plugins import resolve as find_function

#: What one evaluation with gradients needs, in tensors made by one without: those kept for the backward pass, and
#: theirs.
BACKWARD = 2.0


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A method, and the layer that it is to look at."""

    method: Method
    layer: str | None = None


def fitting_for(fixed: Target, batch: Tensor) -> int:
    """Evaluations that fit into memory at once."""
    return fitting(fixed.made * batch[0].numel(), batch.device, kept=BACKWARD)


def fix(model: nn.Module, batch: Tensor, target: TargetLike | Target, batch_size: int | None = None) -> Target:
    """The target for every sample, which tells what the passes of this model need."""
    sample = f"one sample of {tuple(batch.shape[1:])}"
    if isinstance(target, Target):
        _check_length(target, batch)
        if target.made:
            return target
        made = within_memory(lambda _: resolve(model, batch[:1], _nothing).made, 1, sample)
        return dataclasses.replace(target, made=made)
    parts = in_parts(
        lambda part: resolve(model, timed(batch[part], times_of(batch)), target),
        len(batch),
        lambda last: batch_size or (fitting_for(last, batch) if last else _first(model, target, batch)),
        sample,
    )
    return join(parts)


def _first(model: nn.Module, target: TargetLike | Target, batch: Tensor) -> int:
    """Samples of the first pass, of which nothing is known: one, which tells what the others need.

    A callable may count on the whole batch: it gets all that fit, as a bare pass of one sample tells.
    """
    if not callable(target) or len(batch) == 1:
        return 1
    return fitting_for(resolve(model, batch[:1], _nothing), batch)


def _nothing(_output: Any) -> Tensor:
    """A target that asks for nothing: for passes that are only measured."""
    return torch.zeros(1)


def _check_length(target: Target, batch: Tensor) -> None:
    if len(target) != len(batch):
        raise UsageError(f"the target is resolved for {len(target)} samples, the batch has {len(batch)}")


def share(
    asked: Sequence[Asked],
    job: Callable[[Asked, Target], Job],
    model: nn.Module,
    batch: Tensor,
    target: TargetLike | Target,
    batch_size: int | None,
    progress: Progress | None,
) -> tuple[Target, dict[Asked, Raw]]:
    """One forward and one backward pass for several methods; it also fixes the target where that is not done yet."""
    if isinstance(target, Target):
        _check_length(target, batch)
    wanted = Wanted(
        gradient=any(one.method.reads == "gradient" for one in asked),
        slopes=tuple(dict.fromkeys(one.layer or "" for one in asked if one.method.reads == "slopes")),
        maps=tuple(dict.fromkeys(one.layer or "" for one in asked if one.method.reads == "maps")),
    )
    layout = layout_of(model, batch)
    samples = torch.arange(len(batch), device=batch.device)
    alone = False

    def score(inputs: Tensor, part: slice) -> tuple[Tensor, Target]:
        if not isinstance(target, Target):
            return scored(model, timed(inputs, times_of(batch)), target)
        own = select(target, samples[part])
        with MeasuredBytes() as measured:
            values = Score(model, own)(inputs, samples[: len(inputs)])
        return values, dataclasses.replace(own, made=measured.total / inputs.numel())

    def passed(part: slice) -> list[tuple[Target, list[Raw]]]:
        nonlocal alone
        found = one_pass(model, batch[part], layout, lambda inputs: score(inputs, part), wanted)
        if found is None:
            alone = True
            return [one for k in range(*part.indices(len(batch))) for one in passed(slice(k, k + 1))]
        count = len(found.target)
        jobs = (_part(job(one, found.target), part, count) for one in asked)
        own = [dataclasses.replace(given, samples=samples[:count], passed=found) for given in jobs]
        raws = [_called(one.method, given) for one, given in zip(asked, own, strict=True)]
        if progress is not None:
            progress(min(part.stop, len(batch)), len(batch))
        return [(found.target, raws)]

    def size(last: list[tuple[Target, list[Raw]]] | None) -> int:
        if alone:
            return 1
        known = last[0][0] if last else target
        if batch_size or not isinstance(known, Target) or not known.made:
            return batch_size or _first(model, target, batch)
        return fitting_for(known, batch)

    names = ", ".join(dict.fromkeys(one.method.name for one in asked))
    what = f"one sample of {tuple(batch.shape[1:])} for {names}"
    parts = [one for several in in_parts(passed, len(batch), size, what) for one in several]
    fixed = join([own for own, _ in parts])
    if isinstance(target, Target):  # the same one, where it can be: what is tested on several maps goes by it
        fixed = target if target.made else dataclasses.replace(target, made=fixed.made)
    return fixed, {one: whole([raws[place] for _, raws in parts]) for place, one in enumerate(asked)}


def whole(parts: Sequence[Raw]) -> Raw:
    """Parts of a batch as one result, without gradient."""
    deltas = [part.delta for part in parts if part.delta is not None]
    times = [part.time for part in parts if part.time is not None]
    against = [part.against for part in parts if part.against is not None]
    targets = [part.target for part in parts if part.target is not None]
    return Raw(
        values=torch.cat([part.values.detach() for part in parts]),
        delta=torch.cat(deltas).detach() if deltas else None,
        time=torch.cat(times).detach() if times else None,
        against=torch.cat(against) if against else None,
        precision=parts[0].precision,
        target=join(targets) if targets else None,
    )


def run_all(method: Method, job: Job) -> Raw:
    """A method on all samples, as many at a time as memory holds."""

    def run(size: int) -> Raw:
        job.score.done = 0
        starts = range(0, len(job.batch), size)
        return whole([_called(method, _part(job, slice(start, start + size), size)) for start in starts])

    return within_memory(run, job.size, f"one sample of {tuple(job.batch.shape[1:])} for {method.name}")


def _called(method: Method, job: Job) -> Raw:
    """A method's result for a job.

    Raises:
        PluginError: A method from elsewhere fails, or gives back something else than raw values.
    """
    with working(method, method.run):
        try:
            raw = _valid(method, find_function(method.run)(job), job)
        except RuntimeError as error:
            if "does not require grad" in one_line(error) or "not have been used in the graph" in one_line(error):
                reason = f"{job.score.target} does not depend on the input, or not differentiably so"
                raise ModelError(reason) from error
            raise
    raw = dataclasses.replace(raw, values=exact(raw.values))
    _check_finite(method, raw, job)
    return raw


def _check_finite(method: Method, raw: Raw, job: Job) -> None:
    """Refuse a result with numbers that are not finite; the output is finite, as fixing the target made sure.

    Raises:
        ModelError: It says of which sample, and what may help.
    """
    wrong = ~raw.values.isfinite().flatten(1).all(dim=1)
    for one in (raw.delta, raw.time):
        if one is not None:
            wrong |= ~one.isfinite().flatten(1).all(dim=1) if one.ndim > 1 else ~one.isfinite()
    if not bool(wrong.any()):
        return
    at = int(wrong.nonzero()[0])
    values = raw.values[at]
    lost = int((~values.isfinite()).sum())
    precision = computed_in(job.model, job.batch.device)
    if precision:
        remedy = f"numbers of 16 bits ({precision}) are too few for it here: compute in float32"
    else:
        remedy = (
            "a derivative on the way back from the output is not finite; choose a method that removes parts (occlusion)"
        )
    raise ModelError(
        f"{method.name} gives {lost:,} of {values.numel():,} numbers that are not finite for sample "
        f"{int(job.samples[at])}, {job.score.target.descriptions[int(job.samples[at])]}; {remedy}"
    )


@contextmanager
def working(method: Method, reference: str) -> Iterator[None]:
    """Raise PluginError where a plugin's method fails inside, whatever it raises; `reference` names its function."""
    if method.run.startswith("explain."):
        yield
        return
    try:
        with guarded():
            yield
    except Exception as error:
        ours = isinstance(error, ZooError) and not isinstance(error, PluginExitError)
        if ours or is_out_of_memory(error):
            raise
        raise PluginError(
            f"the attribution method {method.name} ({reference}) does not work: {describe(error)}"
        ) from error


def _valid(method: Method, raw: Any, job: Job) -> Raw:
    """What a method gave back, if it can be made a map."""
    if not isinstance(raw, Raw) or not isinstance(raw.values, torch.Tensor):
        raise TypeError(f"expected explain.attribution.Raw with a tensor, got {type(raw).__name__}")
    shape, wanted = tuple(raw.values.shape), tuple(job.batch.shape)
    if method.reduction == "positive":
        wanted = (wanted[0], *shape[1:]) if len(shape) == 5 else (wanted[0], 1, 1, 1, 1)
    if shape != wanted:
        raise ValueError(f"expected values of shape {wanted}, got {shape}")
    return raw


def _part(job: Job, samples: slice, size: int) -> Job:
    return dataclasses.replace(
        job,
        batch=job.batch[samples],
        samples=job.samples[samples],
        baseline=job.baseline[samples],
        references=tuple(reference[samples] for reference in job.references),
        size=size,
    )
