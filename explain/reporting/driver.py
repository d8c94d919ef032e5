"""Put a report together: read the clip, ask the model, build every section, write the folder."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import zoo
from explain.attribution.methods import method_names
from explain.attribution.options import takes_former_names
from explain.model.layers import find_layer
from explain.model.layouts import entry_of, fixed, has_random_weights
from explain.model.preservation import preserved
from explain.progress import telling
from explain.reporting import pages, writing
from explain.reporting.context import Context, Options
from explain.reporting.reading import LEFT_OUT, MAPS, _is_all, changed, clip_name, read, untrained, warned
from explain.reporting.sections import BUILT_IN, COLLECTED, OF_LEARNED, select
from explain.reporting.topics import prediction, provenance
from explain.sources import find as find_sources
from zoo import clips, devices
from zoo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from explain.progress import Told
    from explain.reporting.pages import Part, Report
    from zoo.entries import Layout


@takes_former_names
def report(
    model: nn.Module | str,
    clip: str | os.PathLike[str] | clips.Clip | Tensor,
    out: str | os.PathLike[str],
    *,
    methods: str | type | Sequence[str | type] | None = None,
    sections: str | Iterable[str] | None = None,
    target: Any = None,
    layout: Layout | None = None,
    device: str | None = None,
    dtype: str | None = None,
    weights: str | None = "default",
    layer: str | None = None,
    n_steps: int = 32,
    unit_layers: int | str | Sequence[str] = 3,
    units: int = 2,
    unit_steps: int = 64,
    thorough: bool = False,
    each: bool = False,
    start: float = 0.0,
    end: float | None = None,
    num_classes: int | Mapping[str, int] | None = None,
    in_channels: int | None = None,
    seed: int = 0,
    progress: Told = None,
) -> Report:
    """Write a report on what a model looks at in a clip, or in many.

    The folder gets `report.html` (opens from disk, loads nothing), `report.json` (every number shown) and
    `tensors.safetensors` (raw maps). It appears whole or not at all.

    A report on many clips says what all of them have in common, with 95 % intervals, and shows the best and the worst.
    Clips that cannot be read are named and left out. What is done is kept clip by clip in a hidden folder beside `out`:
    a call that was ended goes on from there when it is made again.

    Args:
        model: A name of the zoo, or a module; its parameters, flags, hooks and the random state are left as found.
        clip: For many clips: a folder of videos or sub-folders (whose names are labels), a list of `path` or
            `path,label` a line (FILE.txt, FILE.csv), or "sample:NAME/*" (`explain.sources.find`). For one: what
            `zoo.read_clip` takes, a `Clip`, or uint8 frames T x H x W x C. For a module that did not come from the zoo:
            its batch, one sample of floating-point numbers.
        out: Folder to write: a new one, an empty one, or an earlier report, which is then replaced.
        methods: Names of attribution methods, at least one; None takes six usual ones, four for many clips.
        sections: Names of sections; None takes all, those of plugins too (which are about one clip). What no section
            needs is not computed.
        target: What to explain, as in `explain.attribute`; None is the first output's predicted class, its value, or
            the part of a clip that is farthest from what it should be. "all" explains each output, one after the other
            (of one clip).
        layout: Order of the axes of a batch, as in `explain.attribute`, for a module that did not come from the zoo.
        device: "cpu", "cuda", "cuda:N" or "auto", for a name; a module is used where it is. None is "auto".
        dtype: "bfloat16", "float32" ..., for a name; a module is used as it is. None is the model's own.
        weights: As in `zoo.load`, for a name.
        layer: Layer of the methods that look at one; None leaves it to each method.
        n_steps: Steps of integrated gradients.
        unit_layers: Layers whose units are maximised: how many, or their names.
        units: Units in each of them: those that the clip excites most.
        unit_steps: Steps of activation maximisation.
        thorough: Test at length whether maps can be trusted (`explain.check_faithfulness`), which takes many times as
            long.
        each: Take every image file of a folder as a clip of its own. A folder that holds images alone is else one clip,
            frame by frame.
        start: Seconds of the clip, or of each of many, at which to begin.
        end: Seconds at which to stop; None goes to the end.
        num_classes: As in `zoo.load`, for a name: other numbers of classes.
        in_channels: As in `zoo.load`, for a name: other number of input channels.
        seed: Seed of everything drawn at random.
        progress: Called as progress(step, done, total); True shows bars with the time left.

    Raises:
        OutputError: where the folder cannot be written, or holds anything else.
        UnknownNameError: for an unknown model, clip, method, section, layer or target.
        ClipError, WeightsError, DeviceError, ModelError, MemoryLimitError: as `zoo.load`, `zoo.preprocess` and
            `explain.attribute` raise them.
    """
    began = time.perf_counter()
    folder = writing.check(out, "report")
    methods, sections = method_names(methods), _names(sections)
    if methods == ():
        raise UsageError("methods names no attribution method; name one, or give None for six usual ones")
    _check_counts(n_steps=n_steps, units=units, unit_steps=unit_steps)
    wanted = unit_layers if isinstance(unit_layers, int) else _names(unit_layers) or ()
    options = Options(
        methods=methods,
        layer=layer,
        steps=n_steps,
        unit_layers=wanted,
        units=units,
        unit_steps=unit_steps,
        thorough=thorough,
    )
    asked_for: dict[str, Any] = {"weights": weights, "num_classes": num_classes, "in_channels": in_channels}
    nothing = {"weights": "default", "num_classes": None, "in_channels": None}
    if not isinstance(model, str) and (device is not None or dtype is not None or asked_for != nothing):
        raise UsageError(
            "device, dtype, weights, num_classes and in_channels are for a model given by name; a module is used "
            "where and as it is"
        )
    place = os.fspath(clip) if isinstance(clip, str | os.PathLike) else ""
    many = find_sources(place, each=each) if place else None
    if many is not None:
        if (wanted, units, unit_steps) != (3, 2, 64):
            raise UsageError(f"units are maximised for one clip, not for the {len(many)} of {place}")
        select(COLLECTED, sections)
        if _is_all(target):
            raise UsageError(
                f"every output is explained of one clip; of the {len(many)} of {place}, name one as target"
            )
    asked_by = model if isinstance(model, str) else None
    with telling(progress) as tell:
        if isinstance(model, str):
            model = zoo.load(model, device=device or "auto", dtype=dtype, seed=seed, **asked_for)
        for name in [*([layer] if layer else []), *(() if isinstance(wanted, int) else wanted)]:
            find_layer(model, name)
        if many is not None:
            from explain.reporting.many import collecting

            return collecting.report(
                model,
                many,
                place,
                folder,
                sections=sections,
                target=target,
                options=options,
                part=(start, end),
                seed=seed,
                progress=tell,
                began=began,
            )
        with preserved(model), laid_out(model, clip, layout):
            model.eval()
            part = (start, end)
            context = read(
                model, clip, target, part=part, seed=seed, options=options, progress=tell, seconds={}, began=began
            )
            if asked_by is not None and dtype is not None:
                context = warned(context, changed(model, context.clip, asked_by, seed=seed, **asked_for))
            random = has_random_weights(model)
            built_in = [one for one in BUILT_IN if sections is not None or not (random and one.name in OF_LEARNED)]
            parts, problems = pages.build(
                built_in, sections, {context.picture.name}, context.timed, "explain_sections", context=context
            )
            return _write(folder, context, parts, problems)


def laid_out(model: nn.Module, clip: Any, layout: Layout | None) -> AbstractContextManager[Any]:
    """Within, the axes of a batch that is given for a module without an entry are known.

    Raises:
        UnknownNameError: No such layout.
        UsageError: It is not that of the model's entry, or which axis of the batch is time is not known.
    """
    entry = entry_of(model)
    if entry is None and isinstance(clip, Tensor) and clip.is_floating_point():
        return fixed(model, clip.detach().to(devices.like(model).device), layout)
    if entry is not None and layout is not None:
        return fixed(model, torch.empty(entry.input.shape, device="meta"), layout)
    return nullcontext()


def _names(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Names once each; one alone may be given as it is."""
    return None if given is None else tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def _write(folder: Path, context: Context, parts: list[Part], problems: list[dict[str, str]]) -> Report:
    built = {part.name: part.content for part in parts if part.content}
    last = built.get("provenance")
    run = dict(last.data) if last else provenance.facts(context)
    said = prediction.sentence(context.prediction)
    data: dict[str, Any] = {
        "model": context.name,
        "clip": context.clip.source,
        "summary": said,
        "warnings": [*context.clip.warnings, *(LEFT_OUT if has_random_weights(context.model) else ())],
        "target": context.target.description,
        "run": run,
        "problems": problems,
    }
    return pages.write(
        folder,
        "report",
        parts,
        data,
        {"batch": context.batch},
        {"model": context.name, "clip": context.clip.source, "seed": context.seed},
        [context.picture],
        model_name=context.name,
        clip_name=clip_name(context.clip),
        summary=context.entry.summary if context.entry else "",
        sentence=said,
        notices=_notices(context, problems),
        # A model may make a clip of a picture.
        frames=max(
            sprite.frames
            for sprite in [context.picture, *(built["prediction"].sprites if "prediction" in built else ())]
        ),
    )


def _notices(context: Context, problems: list[dict[str, str]]) -> list[str]:
    """What a reader must know before anything else."""
    said = [f"Note: {warning}" for warning in context.clip.warnings]
    left_out = list(LEFT_OUT) if has_random_weights(context.model) else untrained(context.model, MAPS)
    return said + left_out + pages.broken(problems)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}")
