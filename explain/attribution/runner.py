"""Run attribution methods: resolve the target, fit the work to memory, reduce to maps, leave the model as it was."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import torch

from explain.attribution.baselines import make_baseline
from explain.attribution.frames import causing_frame
from explain.attribution.jobs import Job, Raw
from explain.attribution.maps import over_time, to_map
from explain.attribution.methods import BUILT_IN, Method, find_method
from explain.attribution.occlusion import check_blocks
from explain.attribution.results import Attribution
from explain.budget import MeasuredBytes, Progress, fitting, within_memory
from explain.layers import find_layer
from explain.layouts import input_of, layout_of, to_ncthw
from explain.preservation import prepared
from explain.targets import Score, Target, TargetLike, join, resolve
from zoo.errors import ModelError, PluginError, UsageError, ZooError
from zoo.plugins import resolve as find_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

#: What one evaluation with gradients needs, in tensors made by one without: those kept for the backward pass, and
#: theirs.
BACKWARD = 2.0


class Options(TypedDict, total=False):
    """The options of `attribute`, for callers that pass them on."""

    target: TargetLike | Target
    layer: str | None
    baseline: Tensor | float | str | None
    steps: int
    integration: str
    window: tuple[int, int, int] | None
    stride: tuple[int, int, int] | None
    batch_size: int | None
    seed: int
    progress: Progress | None


@overload
def attribute(  # type: ignore[overload-overlap]  # a text is a sequence of texts, too
    model: nn.Module, batch: Tensor, *, method: str | Method, **options: Unpack[Options]
) -> Attribution: ...
@overload
def attribute(
    model: nn.Module,
    batch: Tensor,
    *,
    method: Sequence[str | Method],
    **options: Unpack[Options],
) -> list[Attribution]: ...
def attribute(
    model: nn.Module,
    batch: Tensor,
    *,
    method: str | Method | Sequence[str | Method],
    target: TargetLike | Target = None,
    layer: str | None = None,
    baseline: Tensor | float | str | None = None,
    steps: int = 32,
    integration: str = "gausslegendre",
    window: tuple[int, int, int] | None = None,
    stride: tuple[int, int, int] | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attribution | list[Attribution]:
    """Show which pixels of which frames an output rests on.

    The model is explained in eval mode and left as it was found, also on failure (`explain.preservation`).

    Args:
        model: Any module that takes `batch`; one from `zoo.load` also knows its layout, outputs and labels.
        batch: N x C x T x H x W, N x T x C x H x W (where the model's input says so) or N x C x H x W, floating point,
            as `zoo.preprocess` gives it, on the model's device.
        method: Name of a method (`explain.attribution.methods`), or several: then a list comes back in their order.
        target: What is explained (`explain.targets`); None is the first output's predicted class, sample by sample. A
            `Target` of an earlier result is taken as it is. "LAYER/UNIT:max" explains a unit's highest activation, and
            results then tell the one frame to show (`.frame`, `.still`).
        layer: For Grad-CAM; None chooses one (`explain.attribution.grad_cam.default_layer`) and says why in `.note`.
        baseline: For integrated_gradients and occlusion; a name, a number, a tensor, or None for zeros (`baselines`).
        steps: Points of integration.
        integration: "gausslegendre", "riemann_left", "riemann_right", "riemann_middle" or "riemann_trapezoid".
        window: Extent (T, H, W) of the occluding block; None gives at most 300 blocks (`occlusion.default_blocks`).
        stride: Stride (T, H, W) of the block; None is half the window.
        batch_size: Most evaluations at once; None fits them to the free memory. Halved where memory runs out.
        seed: For methods that draw; the same seed gives the same bytes.
        progress: Called as progress(done, total), in evaluations, through each method.

    Raises:
        UnknownNameError: No such method, target, layer, baseline or integration rule; near names are offered.
        UsageError: A batch, target, window or number of steps that cannot be.
        ModelError: The method cannot look at this model, layer or output.
        MemoryLimitError: Not even one sample fits into memory.
        PluginError: A plugin's method does not work.
    """
    names = [method] if isinstance(method, str | Method) else method
    methods = [_as_method(name) for name in names]
    _check(batch, batch_size)
    layout = layout_of(model, batch)
    batch = batch.detach()
    clips = to_ncthw(batch, layout)
    extent = clips.shape[2], clips.shape[3], clips.shape[4]
    blocks = check_blocks(extent, window, stride)
    if layer is not None:
        find_layer(model, layer)
    with prepared(model, seed=seed):
        batch = batch.clone() if batch.is_inference() else batch
        reference = make_baseline(baseline, batch, layout, input_of(model))
        fixed, made = _fix(model, batch, target)
        note = ""
        if layer is None and any(entry.needs_layer for entry in methods):
            from explain.attribution.grad_cam import default_layer

            layer, note = default_layer(model, batch)

        def job(looked_at: str | None = None, shown: Progress | None = None) -> Job:
            return Job(
                model=model,
                score=Score(model, fixed, shown),
                batch=batch,
                samples=torch.arange(len(batch), device=batch.device),
                layout=layout,
                baseline=reference,
                size=batch_size or fitting(made, batch.device, kept=BACKWARD),
                layer=looked_at,
                steps=steps,
                integration=integration,
                window=blocks[0],
                stride=blocks[1],
                seed=seed,
            )

        def run(entry: Method) -> Attribution:
            looked_at = layer if entry.needs_layer else None
            raw = _run(entry, job(looked_at, progress))
            heat = to_map(raw.values, entry.reduction, layout, extent)
            used = {
                "baseline": baseline,
                "steps": steps,
                "integration": integration,
                "window": blocks[0],
                "stride": blocks[1],
            }
            return Attribution(
                method=entry.name,
                target=fixed,
                raw=raw.values,
                map=heat,
                time=over_time(heat),
                delta=raw.delta,
                layer=looked_at,
                note=note if looked_at else "",
                settings={name: _plain(used[name]) for name in entry.options if name in used},
            )

        results = [run(entry) for entry in methods]
        if fixed.positions is not None:
            gradient = find_method("saliency")
            known = [result.raw for entry, result in zip(methods, results, strict=True) if entry is gradient]
            frame = causing_frame(known[0] if known else _run(gradient, job()).values, batch, layout)
            results = [dataclasses.replace(result, frame=frame) for result in results]
    return results[0] if isinstance(method, str | Method) else results


def _as_method(method: str | Method) -> Method:
    return method if isinstance(method, Method) else find_method(method)


def _nothing(_output: Any) -> Tensor:
    """A target that asks for nothing: for passes that are only measured."""
    return torch.zeros(1)


def _check(batch: Tensor, batch_size: int | None) -> None:
    if not batch.is_floating_point():
        raise UsageError(f"a batch must be floating point, as zoo.preprocess gives it, not {batch.dtype}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"a batch size is at least 1, not {batch_size}")


def _fix(model: nn.Module, batch: Tensor, target: TargetLike | Target) -> tuple[Target, float]:
    """The target for every sample, and the bytes that one sample's forward pass makes."""
    if isinstance(target, Target):
        if len(target) != len(batch):
            raise UsageError(f"the target is resolved for {len(target)} samples, the batch has {len(batch)}")
        with MeasuredBytes() as measured:
            within_memory(lambda _: resolve(model, batch[:1], _nothing), 1)
        return target, measured.total
    measured = MeasuredBytes()

    def fix(size: int) -> Target:
        measured.total = 0
        with measured:
            return join([resolve(model, part, target) for part in torch.split(batch, size)])

    fixed = within_memory(fix, len(batch), f"one sample of {tuple(batch.shape[1:])}")
    return fixed, measured.total / len(batch)


def _run(method: Method, job: Job) -> Raw:
    """A method on all samples, as many at a time as memory holds.

    Raises:
        PluginError: A method from elsewhere fails, or gives back something else than raw values.
    """

    def run(size: int) -> Raw:
        function = find_function(method.run)
        job.score.done = 0
        several = zip(*(torch.split(part, size) for part in (job.batch, job.samples, job.baseline)), strict=True)
        jobs = [_part(job, *parts, size=size) for parts in several]
        results = [_valid(method, function(part), part) for part in jobs]
        deltas = [result.delta for result in results if result.delta is not None]
        return Raw(
            values=torch.cat([result.values.detach() for result in results]),
            delta=torch.cat(deltas).detach() if deltas else None,
        )

    try:
        return within_memory(run, job.size, f"one sample of {tuple(job.batch.shape[1:])} for {method.name}")
    except ZooError:
        raise
    except Exception as error:
        if "does not require grad" in str(error) or "not have been used in the graph" in str(error):
            raise ModelError(f"{job.score.target} does not depend on the input, or not differentiably so") from error
        if method in BUILT_IN:
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise PluginError(f"the attribution method {method.name} ({method.run}) does not work: {reason}") from error


def _valid(method: Method, raw: Any, job: Job) -> Raw:
    """What a method gave back, if it can be made a map."""
    if not isinstance(raw, Raw) or not isinstance(raw.values, torch.Tensor):
        raise TypeError(f"expected explain.attribution.Raw with a tensor, got {type(raw).__name__}")
    shape, wanted = tuple(raw.values.shape), tuple(job.batch.shape)
    if method.reduction == "positive":
        wanted = (wanted[0], 1, *shape[2:]) if len(shape) == 5 else (wanted[0], 1, 1, 1, 1)
    if shape != wanted:
        raise ValueError(f"expected values of shape {wanted}, got {shape}")
    return raw


def _part(job: Job, batch: Tensor, samples: Tensor, baseline: Tensor, *, size: int) -> Job:
    return dataclasses.replace(job, batch=batch, samples=samples, baseline=baseline, size=size)


def _plain(value: Any) -> Any:
    """A setting as it can be written down: a tensor by its shape."""
    return f"tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
