"""Attribute: read what was asked for, run the methods, reduce to maps, leave the model as it was."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from explain.attribution.baselines import make_baseline
from explain.attribution.execution import Asked, fitting_for, fix, run_all, share, working
from explain.attribution.job import Job, Raw
from explain.attribution.maps import causing_frame, over_time, to_map
from explain.attribution.methods import Method, Reduction, all_methods, find_method, with_layer
from explain.attribution.occlusion import check_blocks
from explain.attribution.options import (
    BaselineOptions,
    BlockOptions,
    WindowOptions,
    WrappingOptions,
    options_for,
    settings_of,
)
from explain.attribution.results import Attribution
from explain.fields.theoretical import ReceptiveField
from explain.model.diagnosis import diagnosing, is_whole
from explain.model.layers import find_layer
from explain.model.layouts import computed_in, input_of, layout_of, to_display, to_ncthw
from explain.model.memory import Progress, within_memory
from explain.model.preservation import prepared, states
from explain.model.targets import Score, Target, TargetLike, select
from explain.progress import following
from explain.results import Results
from zoo.clips import timed, times_of
from zoo.entries import InputSpec, Layout
from zoo.errors import UsageError, ZooError
from zoo.models.provenance import origin_of
from zoo.registry.plugins import resolve as find_function


@overload
def attribute(model: nn.Module, batch: Tensor, *, method: str | Method, **options: Any) -> Attribution: ...
@overload
def attribute(
    model: nn.Module, batch: Tensor, *, method: Sequence[str | Method], **options: Any
) -> list[Attribution]: ...
@diagnosing
def attribute(
    model: nn.Module,
    batch: Tensor,
    *,
    method: str | Method | Sequence[str | Method],
    target: TargetLike | Target = None,
    layer: str | None = None,
    layout: Layout | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: Progress | bool | None = None,
    **options: Any,
) -> Attribution | list[Attribution]:
    """Show which pixels of which frames an output rests on.

    The model is explained in eval mode and left as it was found, also on failure (`explain.model.preservation`).

    Args:
        model: Any module that takes `batch`; one from `zoo.load` also knows its layout, outputs and labels.
        batch: N x C x T x H x W, N x T x C x H x W or N x C x H x W (`layout`), floating point, as `zoo.preprocess`
            gives it, on the model's device.
        method: Name of a method (`explain.attribution.methods`), or several: then a list comes back in their order.
            "METHOD@LAYER" looks at that layer, so that one call can name a method for several of them. Methods that
            need no more than a gradient at the input or at layers (`Method.reads`) share one forward and one backward
            pass, which fixes the target, too.
        target: What is explained (`explain.model.targets`); None is the first output's predicted class, sample by
            sample, its value, or, where it is a clip, the mean of that; "output[3, 10:18]" or an `explain.Region` is a
            part of one. A `Target` of an earlier result is taken as it is. "LAYER/UNIT:max" explains a unit's highest
            activation, and results then tell the one frame to show (`.frame`, `.still`).
        layer: For methods that look at one and name none; None chooses one
            (`explain.attribution.layer_choice.default_layer`) and says why in `.note`.
        layout: Order of the batch's axes, "NCTHW", "NTCHW" or "NCHW"; None asks the model's entry, its config, its
            first layer and the shape (`zoo.models.layouts.layout_of`).
        batch_size: Most evaluations at once; None fits them to the free memory. Halved where memory runs out.
        seed: For methods that draw. The same seed gives the same bytes with the same `batch_size`, number of threads,
            machine and versions; a `batch_size` of None follows the free memory. Otherwise sums are rounded in another
            order, by up to 1e-5 of the largest value in what was tried.
        progress: Called as progress(done, total), in evaluations, through each method; once through all that share a
            pass; True shows bars.
        **options: The method's own options by name, as docs/methods.md lists them (`explain.attribution.options`):
            `n_steps`, `baseline`, `window` ... Of several methods each gets those that it has. None is the default.

    Raises:
        UnknownNameError: No such method, target or layer, an option that none of the methods has, or a value that is
            none of its choices; near names are offered.
        UsageError: A batch, target or option that cannot be; or which axis of the batch is time is not known.
        ModelError: The method cannot look at this model, layer or output, or its map is not finite.
        MemoryLimitError: Not even one sample fits into memory.
        PluginError: A plugin's method does not work.
    """
    names = [method] if isinstance(method, str | type | Method) else method
    if not isinstance(names, Sequence):
        raise UsageError(f"a method is a name, or several in a list, not {type(method).__name__}")
    asked = [Asked(*_as_method(name)) for name in names]
    _check(batch_size)
    given = dict(zip((one.method for one in asked), options_for([one.method for one in asked], options), strict=True))
    layout = layout_of(model, batch, layout)
    times = times_of(batch)
    batch = timed(batch.detach(), times)
    clips = to_ncthw(batch, layout)
    extent = clips.shape[2], clips.shape[3], clips.shape[4]
    given = {entry: _with_blocks(own, extent) for entry, own in given.items()}
    for name in dict.fromkeys([layer, *(one.layer for one in asked)]):
        if name is not None:
            find_layer(model, name)
    weights = _weights(model)
    with prepared(model, seed=seed), following(progress) as told:
        batch = batch.clone() if batch.is_inference() else batch
        shown = (255 * to_display(batch, input_of(model), layout)).round().to(torch.uint8)
        chosen, note = layer, ""
        if layer is None and any(one.method.needs_layer and one.layer is None for one in asked):
            from explain.attribution.layer_choice import default_layer

            chosen, note = default_layer(model, batch)
        asked = [dataclasses.replace(one, layer=one.layer or chosen) for one in asked]

        def job(one: Asked, fixed: Target, shown: Progress | None = None) -> Job:
            return _job(
                one.method,
                given.get(one.method) or options_for([one.method], {})[0],
                model=model,
                score=Score(model, fixed, shown),
                batch=batch,
                size=batch_size or fitting_for(fixed, batch),
                layer=one.layer,
                seed=seed,
            )

        drawn = states(model)
        sharing = [one for one in asked if one.method.reads]
        if sharing:
            names = ", ".join(dict.fromkeys(one.method.name for one in sharing))
            fixed, raws = share(sharing, job, model, batch, target, batch_size, told(names))
        else:
            fixed, raws = fix(model, batch, target, batch_size), {}
        unsettled = _randomness(model, fixed, batch) if states(model) != drawn else ""

        precision = computed_in(model, batch.device)

        def run(one: Asked) -> Attribution:
            own = job(one, fixed, None if one in raws else told(one.method.name))
            raw = raws[one] if one in raws else run_all(one.method, own)
            settings = settings_of(one.method, own.options)
            wraps = isinstance(own.options, WrappingOptions)
            reduction = find_method(own.options.inner_method).reduction if wraps else one.method.reduction
            heat = to_map(raw.values, reduction, layout, extent)
            unit = one.method.time
            if settings.get("baseline", 0) is None and len(own.references) > 1:
                settings["baseline"] = _own_references(own.options, extent[0])
            return Attribution(
                method=one.method.name,
                target=raw.target or fixed,
                raw=raw.values,
                map=heat,
                time=over_time(heat, unit) if raw.time is None else raw.time,
                time_unit=unit,
                layout=layout,
                times=times,
                delta=raw.delta,
                layer=own.layer,
                note="; ".join(
                    filter(
                        None,
                        [
                            note if own.layer == chosen and layer is None else "",
                            unsettled,
                            _emptiness(heat, raw, reduction, fixed),
                            f"computed in {raw.precision or precision}" if raw.precision or precision else "",
                        ],
                    )
                ),
                settings={name: _plain(value) for name, value in settings.items()}
                | ({"seed": seed} if {"n_samples", "nt_samples"} & settings.keys() else {}),
                weights=weights,
                clip=shown,
            )

        results = [run(one) for one in asked]
        if fixed.positions is not None:
            gradient = Asked(find_method("saliency"))
            known = [result.raw for one, result in zip(asked, results, strict=True) if one.method is gradient.method]
            slopes = known[0] if known else run_all(gradient.method, job(gradient, fixed)).values
            frame = causing_frame(slopes, batch, layout)
            results = [dataclasses.replace(result, frame=frame) for result in results]
    return results[0] if isinstance(method, str | type | Method) else Results(results)


@diagnosing
def applicability(
    model: nn.Module,
    batch: Tensor,
    target: TargetLike = None,
    layer: str | None = None,
    *,
    layout: Layout | None = None,
    progress: Progress | bool | None = None,
) -> dict[str, str]:
    """Why each method does not apply to a model, by the method's name; nothing where it does.

    At most two forward passes for each method, on the first sample, and some to find a layer; the model is left as it
    was found.

    Args:
        model: As for `attribute`.
        batch: Any batch that the model takes.
        target: What would be explained: a unit in front of an LSTM can be explained by methods that LSTMs refuse.
        layer: As for `attribute`.
        layout: As for `attribute`.
        progress: Called as progress(done, total), in methods; True shows a bar.

    Raises:
        UnknownNameError: No such target or layer.
        UsageError: A batch or target that cannot be.
    """
    layout = layout_of(model, batch, layout)
    batch = batch[:1].detach()
    frames, rows, columns = to_ncthw(batch, layout).shape[2:]
    if layer is not None:
        find_layer(model, layer)
    found = {}
    with prepared(model, seed=0), following(progress) as told:
        fixed = fix(model, batch, target)
        methods = all_methods()
        tell = told("trying methods") or (lambda *_: None)

        @functools.cache
        def fields() -> list[ReceptiveField]:
            from explain.fields.theoretical import trace

            return trace(model, tuple(batch.shape), gradients=False).rows

        @functools.cache
        def choose() -> tuple[str, str]:
            from explain.attribution.layer_choice import default_layer

            return default_layer(model, batch, fields())

        for done, entry in enumerate(methods.values()):
            tell(done, len(methods))
            try:
                _check_applies(
                    entry,
                    _job(
                        entry,
                        _with_blocks(options_for([entry], {})[0], (frames, rows, columns)),
                        model=model,
                        score=Score(model, fixed),
                        batch=batch,
                        size=fitting_for(fixed, batch),
                        layer=layer,
                    ),
                    choose,
                )
            except ZooError as error:
                found[entry.name] = str(error)
            else:
                found[entry.name] = ""
    return found


def _check_applies(entry: Method, job: Job, choose: Callable[[], object]) -> None:
    if entry.needs_layer and job.layer is None:
        choose()
    if entry.check:
        with working(entry, entry.check):
            within_memory(lambda _: find_function(entry.check)(job), 1, f"one sample of {tuple(job.batch.shape[1:])}")


def _job(
    entry: Method,
    options: Any,
    *,
    model: nn.Module,
    score: Score,
    batch: Tensor,
    size: int,
    layer: str | None,
    seed: int = 0,
) -> Job:
    """Build what a method is handed."""
    layout = layout_of(model, batch)
    references = _references(options, batch, layout, input_of(model))
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
        options=options,
        seed=seed,
    )


def _with_blocks(options: Any, extent: tuple[int, int, int]) -> Any:
    """A method's options with the window and stride that clips of that extent get where none were given."""
    if isinstance(options, WrappingOptions):
        return dataclasses.replace(options, inner=_with_blocks(options.inner, extent))
    if not isinstance(options, WindowOptions):
        return options
    blocks = check_blocks(extent, options.window, getattr(options, "stride", None))
    names = ("window", "stride") if isinstance(options, BlockOptions) else ("window",)
    return dataclasses.replace(options, **dict(zip(names, blocks, strict=False)))


def _weights(model: nn.Module) -> dict[str, str]:
    """What is known of a model's weights."""
    origin = origin_of(model)
    if origin is None:
        return {}
    return {"status": origin.status, "text": origin.text} | ({"sha256": origin.sha256} if origin.sha256 else {})


def _randomness(model: nn.Module, fixed: Target, batch: Tensor) -> str:
    """What a reader must know of a model that draws random numbers: that two passes on one sample differ, if they do.

    Pages say that settings and seed give the same numbers again, which does not make such numbers those of the model.
    """
    own = select(fixed, torch.arange(1, device=batch.device))
    with torch.no_grad():
        one, other = (float(Score(model, own)(batch[:1], torch.zeros(1, dtype=torch.long))) for _ in range(2))
    if one == other:
        return ""
    return (
        f"the model draws random numbers in eval mode: two passes on the same clip give {one:.4g} and {other:.4g}, so "
        "that this map is one of many"
    )


def _emptiness(heat: Tensor, raw: Raw, reduction: Reduction, fixed: Target) -> str:
    """Why maps show nothing, where they do: nothing has an effect, or none that the map shows."""
    empty = ~heat.flatten(1).any(dim=1)
    found = raw.values.flatten(1).any(dim=1) if raw.against is None else raw.against
    hidden = "all of the evidence is against {}, and only evidence for it is shown"
    if raw.against is None and reduction != "positive":
        hidden = "what the channels say of {} cancels out"
    said = []
    for group, why in ((empty & ~found, "nothing that the method looks at changes {}"), (empty & found, hidden)):
        samples = group.nonzero().flatten().tolist()
        if samples:
            what = ", ".join(dict.fromkeys(fixed.descriptions[sample] for sample in samples))
            which = f" of sample{'s' * (len(samples) > 1)} {', '.join(map(str, samples))}" if len(heat) > 1 else ""
            said.append(f"the map{which} is zero everywhere: {why.format(what)}")
    return "; ".join(said)


def _as_method(method: str | type | Method) -> tuple[Method, str | None]:
    return (method, None) if isinstance(method, Method) else with_layer(method)


def _references(options: Any, batch: Tensor, layout: Layout, spec: InputSpec | None) -> tuple[Tensor, ...]:
    """The baselines that a method looks at: one, but for methods that take the mean over several."""
    while isinstance(options, WrappingOptions):
        options = options.inner
    chosen: Any = options.baseline if isinstance(options, BaselineOptions) else None
    if not isinstance(chosen, list):
        several = chosen is None and isinstance(options, BaselineOptions) and len(options.references) > 1
        chosen = _own_references(options, to_ncthw(batch, layout).shape[2]) if several else [chosen]
    return tuple(make_baseline(one, batch, layout, spec) for one in chosen)


def _own_references(options: Any, frames: int) -> list[str]:
    """A method's own baselines for clips of so many frames: the mean frame of one frame is that frame."""
    while isinstance(options, WrappingOptions):
        options = options.inner
    return [name for name in options.references if not (frames == 1 and name == "mean_frame")]


def _check(batch_size: int | None) -> None:
    if batch_size is not None and not is_whole(batch_size):
        raise UsageError(f"batch_size is a whole number, not {batch_size!r}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"a batch size is at least 1, not {batch_size}")


def _plain(value: Any) -> Any:
    """A setting as it can be written down: a tensor by its shape."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if callable(value):
        return f"function {getattr(value, '__name__', type(value).__name__)}"
    return f"tensor {tuple(value.shape)}" if isinstance(value, torch.Tensor) else value
