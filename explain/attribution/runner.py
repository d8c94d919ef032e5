"""Run attribution methods: resolve the target, fit the work to memory, reduce to maps, leave the model as it was."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import torch

from explain.attribution.baselines import make_baseline
from explain.attribution.frames import causing_frame
from explain.attribution.jobs import Job, Raw
from explain.attribution.maps import over_time, to_map
from explain.attribution.methods import BUILT_IN, Method, all_methods, find_method
from explain.attribution.occlusion import check_blocks, default_blocks
from explain.attribution.results import Attribution
from explain.budget import MeasuredBytes, Progress, fitting, within_memory
from explain.display import to_display
from explain.layers import find_layer
from explain.layouts import input_of, layout_of, to_ncthw
from explain.preservation import prepared
from explain.progress import following
from explain.targets import Score, Target, TargetLike, join, resolve
from zoo.errors import ModelError, PluginError, UsageError, ZooError
from zoo.plugins import resolve as find_function

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from zoo.entries import InputSpec, Layout

    Baseline = Tensor | float | str | None

#: What one evaluation with gradients needs, in tensors made by one without: those kept for the backward pass, and
#: theirs.
BACKWARD = 2.0


class Options(TypedDict, total=False):
    """The options of `attribute`, for callers that pass them on."""

    target: TargetLike | Target
    layer: str | None
    baseline: Baseline | Sequence[Baseline]
    steps: int
    integration: str
    window: tuple[int, int, int] | None
    stride: tuple[int, int, int] | None
    draws: int | None
    features: str | Tensor | None
    fill: str
    order: str
    smooth: str
    batch_size: int | None
    seed: int
    progress: Progress | bool | None


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
    baseline: Baseline | Sequence[Baseline] = None,
    steps: int = 32,
    integration: str = "gausslegendre",
    window: tuple[int, int, int] | None = None,
    stride: tuple[int, int, int] | None = None,
    draws: int | None = None,
    features: str | Tensor | None = None,
    fill: str = "freeze",
    order: str = "reverse",
    smooth: str = "saliency",
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
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
        baseline: What stands for "nothing there": a name, a number, a tensor, or None for zeros (`baselines`). Several
            for gradient_shap and deep_lift_shap (None: zeros, blurred frames, the mean frame), of which others take the
            first.
        steps: Points of integration.
        integration: "gausslegendre", "riemann_left", "riemann_right", "riemann_middle" or "riemann_trapezoid".
        window: Extent (T, H, W) of the occluding block; None gives at most 300 blocks (`occlusion.default_blocks`).
        stride: Stride (T, H, W) of the block; None is half the window.
        draws: How often a method that draws does so; None is the method's own number (`Method.draws`).
        features: What is removed at once: "grid" (blocks of `window`), "supervoxels" (needs scikit-image), or numbers
            T x H x W from 0 on that say which part a pixel belongs to; None is the method's own.
        fill: For temporal_occlusion: "freeze", "drop", "repeat" or "cover".
        order: For frame_order: "reverse" or "shuffle".
        smooth: The gradient method that smooth_grad takes the mean of.
        batch_size: Most evaluations at once; None fits them to the free memory. Halved where memory runs out.
        seed: For methods that draw; the same seed gives the same bytes.
        progress: Called as progress(done, total), in evaluations, through each method; True shows bars.

    Raises:
        UnknownNameError: No such method, target, layer, baseline or integration rule; near names are offered.
        UsageError: A batch, target, window, number of steps or draws that cannot be.
        ModelError: The method cannot look at this model, layer or output.
        MemoryLimitError: Not even one sample fits into memory.
        PluginError: A plugin's method does not work.
    """
    names = [method] if isinstance(method, str | Method) else method
    methods = [_as_method(name) for name in names]
    _check(batch, batch_size, draws)
    layout = layout_of(model, batch)
    batch = batch.detach()
    clips = to_ncthw(batch, layout)
    extent = clips.shape[2], clips.shape[3], clips.shape[4]
    blocks = check_blocks(extent, window, stride)
    if layer is not None:
        find_layer(model, layer)
    with prepared(model, seed=seed), following(progress) as told:
        batch = batch.clone() if batch.is_inference() else batch
        fixed, made = _fix(model, batch, target)
        shown = (255 * to_display(batch, input_of(model), layout)).round().to(torch.uint8)
        note = ""
        if layer is None and any(entry.needs_layer for entry in methods):
            from explain.attribution.grad_cam import default_layer

            layer, note = default_layer(model, batch)

        def job(entry: Method, shown: Progress | None = None) -> Job:
            return _job(
                entry,
                model=model,
                score=Score(model, fixed, shown),
                batch=batch,
                baseline=baseline,
                size=batch_size or fitting(made, batch.device, kept=BACKWARD),
                layer=layer,
                steps=steps,
                integration=integration,
                blocks=blocks,
                seed=seed,
                draws=draws,
                features=features,
                fill=fill,
                order=order,
                smooth=smooth,
            )

        def run(entry: Method) -> Attribution:
            asked = job(entry, told(entry.name))
            raw = _run(entry, asked)
            reduction = find_method(smooth).reduction if "smooth" in entry.options else entry.reduction
            heat = to_map(raw.values, reduction, layout, extent)
            used = {
                "baseline": _plain_baseline(baseline, entry),
                "steps": steps,
                "integration": integration,
                "window": blocks[0],
                "stride": blocks[1],
                "draws": asked.draws,
                "features": asked.features,
                "fill": fill,
                "order": order,
                "smooth": smooth,
            }
            return Attribution(
                method=entry.name,
                target=fixed,
                raw=raw.values,
                map=heat,
                time=over_time(heat),
                delta=raw.delta,
                layer=asked.layer,
                note=note if asked.layer else "",
                settings={name: _plain(used[name]) for name in entry.options if name in used},
                clip=shown,
            )

        results = [run(entry) for entry in methods]
        if fixed.positions is not None:
            gradient = find_method("saliency")
            known = [result.raw for entry, result in zip(methods, results, strict=True) if entry is gradient]
            frame = causing_frame(known[0] if known else _run(gradient, job(gradient)).values, batch, layout)
            results = [dataclasses.replace(result, frame=frame) for result in results]
    return results[0] if isinstance(method, str | Method) else results


def applicability(
    model: nn.Module,
    batch: Tensor,
    target: TargetLike = None,
    layer: str | None = None,
    *,
    progress: Progress | bool | None = None,
) -> dict[str, str]:
    """Why each method does not apply to a model, by the method's name; nothing where it does.

    At most two forward passes for each method, on the first sample; the model is left as it was found.

    Args:
        model: As for `attribute`.
        batch: Any batch that the model takes.
        target: What would be explained: a unit in front of an LSTM can be explained by methods that LSTMs refuse.
        layer: As for `attribute`.
        progress: Called as progress(done, total), in methods; True shows a bar.

    Raises:
        UnknownNameError: No such target or layer.
        UsageError: A batch or target that cannot be.
    """
    layout = layout_of(model, batch)
    batch = batch[:1].detach()
    frames, rows, columns = to_ncthw(batch, layout).shape[2:]
    if layer is not None:
        find_layer(model, layer)
    found = {}
    with prepared(model, seed=0), following(progress) as told:
        fixed, made = _fix(model, batch, target)
        methods = all_methods()
        tell = told("trying methods") or (lambda *_: None)
        for done, entry in enumerate(methods.values()):
            tell(done, len(methods))
            try:
                _check_applies(
                    entry,
                    _job(
                        entry,
                        model=model,
                        score=Score(model, fixed),
                        batch=batch,
                        size=fitting(made, batch.device, kept=BACKWARD),
                        layer=layer,
                        blocks=default_blocks((frames, rows, columns)),
                    ),
                )
            except ZooError as error:
                found[entry.name] = str(error)
            else:
                found[entry.name] = ""
    return found


def _check_applies(entry: Method, job: Job) -> None:
    if entry.needs_layer and job.layer is None:
        from explain.attribution.grad_cam import default_layer

        default_layer(job.model, job.batch)
    if entry.check:
        within_memory(lambda _: find_function(entry.check)(job), 1, f"one sample of {tuple(job.batch.shape[1:])}")


def _job(
    entry: Method,
    *,
    model: nn.Module,
    score: Score,
    batch: Tensor,
    size: int,
    layer: str | None,
    blocks: tuple[tuple[int, int, int], tuple[int, int, int]],
    baseline: Baseline | Sequence[Baseline] = None,
    steps: int = 32,
    integration: str = "gausslegendre",
    seed: int = 0,
    draws: int | None = None,
    features: str | Tensor | None = None,
    fill: str = "freeze",
    order: str = "reverse",
    smooth: str = "saliency",
) -> Job:
    """What a method is handed, with its own numbers where nobody chose others."""
    layout = layout_of(model, batch)
    references = _references(baseline, entry, batch, layout, input_of(model))
    return Job(
        model=model,
        score=score,
        batch=batch,
        samples=torch.arange(len(batch), device=batch.device),
        layout=layout,
        baseline=references[0],
        references=references,
        size=size,
        layer=layer if entry.needs_layer else None,
        steps=steps,
        integration=integration,
        window=blocks[0],
        stride=blocks[1],
        seed=seed,
        draws=draws or entry.draws,
        features=entry.features if features is None or "features" not in entry.options else features,
        fill=fill,
        order=order,
        smooth=smooth,
    )


def _as_method(method: str | Method) -> Method:
    return method if isinstance(method, Method) else find_method(method)


def _nothing(_output: Any) -> Tensor:
    """A target that asks for nothing: for passes that are only measured."""
    return torch.zeros(1)


def _references(
    baseline: Baseline | Sequence[Baseline], entry: Method, batch: Tensor, layout: Layout, spec: InputSpec | None
) -> tuple[Tensor, ...]:
    """The baselines that a method looks at: one, but for methods that take the mean over several."""
    chosen: Sequence[Baseline] = baseline if isinstance(baseline, tuple | list) else [baseline]  # type: ignore[list-item]
    if not chosen:
        raise UsageError("no baseline is given; leave it out, or name at least one")
    if len(entry.references) == 1:
        chosen = chosen[:1]
    elif baseline is None:
        single = to_ncthw(batch, layout).shape[2] == 1  # the mean frame of one frame is that frame
        chosen = [name for name in entry.references if not (single and name == "mean_frame")]
    return tuple(make_baseline(one, batch, layout, spec) for one in chosen)


def _plain_baseline(baseline: Baseline | Sequence[Baseline], entry: Method) -> Any:
    """The baselines as they can be written down."""
    if baseline is None and len(entry.references) > 1:
        return list(entry.references)
    return [_plain(one) for one in baseline] if isinstance(baseline, tuple | list) else baseline


def _check(batch: Tensor, batch_size: int | None, draws: int | None) -> None:
    if not batch.is_floating_point():
        raise UsageError(f"a batch must be floating point, as zoo.preprocess gives it, not {batch.dtype}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"a batch size is at least 1, not {batch_size}")
    if draws is not None and draws < 1:
        raise UsageError(f"a method draws at least once, not {draws} times")


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
        jobs = [_part(job, slice(start, start + size), size) for start in range(0, len(job.batch), size)]
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


def _part(job: Job, samples: slice, size: int) -> Job:
    return dataclasses.replace(
        job,
        batch=job.batch[samples],
        samples=job.samples[samples],
        baseline=job.baseline[samples],
        references=tuple(reference[samples] for reference in job.references),
        size=size,
    )


def _plain(value: Any) -> Any:
    """A setting as it can be written down: a tensor by its shape."""
    return f"tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
