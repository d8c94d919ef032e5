"""One forward and one backward pass, for every method that needs no more: what it leaves at the input and at layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from explain.attribution.job import Job, Pass, Wanted
from explain.model.layers import Capture, as_maps, did_not_run, is_folded
from explain.model.layouts import exact, to_ncthw
from explain.model.targets import Target
from zoo.entries import Layout
from zoo.errors import ModelError


def gradient_of(job: Job) -> Tensor:
    """The gradient at the input, from the pass that methods share or one of its own."""
    found = _of(job, Wanted(gradient=True)).gradient
    assert found is not None  # noqa: S101 - asked for
    return found


def maps_of(job: Job) -> Tensor:
    """The maps of the job's layer, n x C x T' x H' x W'."""
    name = job.layer or ""
    return _of(job, Wanted(maps=(name,))).maps[name]


def maps_and_slopes_of(job: Job) -> tuple[Tensor, Tensor]:
    """The maps of the job's layer and the gradient with respect to them, both n x C x T' x H' x W'."""
    name = job.layer or ""
    found = _of(job, Wanted(slopes=(name,)))
    return found.maps[name], found.slopes[name]


def _of(job: Job, wanted: Wanted) -> Pass:
    if job.passed is not None:
        return job.passed

    def run(part: slice) -> Pass | None:
        samples = job.samples[part]
        return one_pass(
            job.model,
            job.batch[part],
            job.layout,
            lambda inputs: (job.score(inputs, samples), job.score.target),
            wanted,
        )

    whole = run(slice(None))
    return whole or _joined([run(slice(k, k + 1)) for k in range(len(job.batch))])


def one_pass(
    model: nn.Module,
    batch: Tensor,
    layout: Layout,
    score: Callable[[Tensor], tuple[Tensor, Target]],
    wanted: Wanted,
) -> Pass | None:
    """Run the model forward, and backward only to where a gradient is wanted.

    Where no gradient at the input is wanted, nothing before the layers is recorded. None where frames are folded into
    the batch axis and there are several samples: only a batch of one tells which frame is whose.

    Args:
        model: The model, prepared (`explain.model.preservation.prepared`).
        batch: n samples, without gradient.
        layout: Order of their axes.
        score: Gives the number explained for each of the samples, and the target that it is of.
        wanted: What the pass is for.

    Raises:
        ModelError: A layer does not run, its maps have no places in time and space, or the output does not depend on it
            or on the input.
    """
    inputs = batch.clone().requires_grad_() if wanted.gradient else batch
    names = dict.fromkeys([*wanted.slopes, *wanted.maps])
    recorded = wanted.gradient or bool(wanted.slopes)
    with ExitStack() as stack:
        stack.enter_context(torch.set_grad_enabled(recorded))
        captures = {name: stack.enter_context(Capture(model, name, leaf=name in wanted.slopes)) for name in names}
        scores, target = score(inputs)
        calls = {name: list(capture.calls) for name, capture in captures.items()}
    for name, outputs in calls.items():
        if not outputs:
            raise did_not_run(model, name)
    if len(batch) > 1 and (target.folded or any(is_folded(outputs, len(batch)) for outputs in calls.values())):
        return None
    at_input, at_layers = _slopes(scores.sum(), inputs, {name: calls[name] for name in wanted.slopes}, wanted, target)
    frames = to_ncthw(batch, layout).shape[2]

    def read(outputs: Iterable[Tensor], name: str) -> Tensor:
        return exact(as_maps([one.detach() for one in outputs], captures[name].module, len(batch), name))

    maps = {name: read(outputs, name) for name, outputs in calls.items()}
    for name, one in maps.items():
        check_places(one, name, frames)
    return Pass(
        target=target,
        gradient=None if at_input is None else exact(at_input),
        maps=maps,
        slopes={name: read(outputs, name) for name, outputs in at_layers.items()},
    )


def check_places(maps: Tensor, name: str, frames: int) -> None:
    """Refuse a layer's positions in a row, as tokens are: where each of them lies is not known.

    Raises:
        ModelError: There are more of them than frames.
    """
    if maps.shape[2] > frames and maps.shape[3:] == (1, 1):
        raise ModelError(
            f"layer {name!r} gives {maps.shape[2]} positions in a row for a clip of {frames} "
            f"frame{'s' * (frames > 1)}: where each of them lies is not known; choose a layer whose output is a map"
        )


def _slopes(
    total: Tensor, inputs: Tensor, calls: Mapping[str, list[Tensor]], wanted: Wanted, target: Target
) -> tuple[Tensor | None, dict[str, list[Tensor]]]:
    """The gradients at the input and at every call of the layers, in one backward pass."""
    points = [inputs] * wanted.gradient + [call for outputs in calls.values() for call in outputs]
    if not points:
        return None, {}
    found: list[Tensor | None] = [None] * len(points)
    if total.requires_grad:
        found = list(torch.autograd.grad(total, points, allow_unused=True))
    if wanted.gradient and found[0] is None:
        raise ModelError(f"{target} does not depend on the input, or not differentiably so")
    left = iter(found[int(wanted.gradient) :])
    at_layers = {}
    for name, outputs in calls.items():
        own = [next(left) for _ in outputs]
        if all(gradient is None for gradient in own):
            raise ModelError(
                f"{target} does not depend on layer {name!r}, or not differentiably so; choose an earlier layer"
            )
        at_layers[name] = [
            torch.zeros_like(call) if gradient is None else gradient
            for call, gradient in zip(outputs, own, strict=True)
        ]
    return found[0] if wanted.gradient else None, at_layers


def _joined(parts: list[Pass | None]) -> Pass:
    """The passes of single samples as one."""
    whole = [part for part in parts if part is not None]
    gradients = [part.gradient for part in whole if part.gradient is not None]
    return Pass(
        target=whole[0].target,
        gradient=torch.cat(gradients) if gradients else None,
        maps={name: torch.cat([part.maps[name] for part in whole]) for name in whole[0].maps},
        slopes={name: torch.cat([part.slopes[name] for part in whole]) for name in whole[0].slopes},
    )
