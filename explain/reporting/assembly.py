"""Put a report together: read the clip, ask the model, build every section, write the folder."""

from __future__ import annotations

import dataclasses
import os
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import zoo
from explain.attribution.methods import find_method
from explain.layers import find_layer
from explain.layouts import entry_of, fixed, has_random_weights, layout_of, to_ncthw
from explain.precision import changed
from explain.preservation import preserved
from explain.progress import telling
from explain.reporting import composition, sequels, writing
from explain.reporting.builtin import prediction, provenance
from explain.reporting.context import Context, Options
from explain.reporting.media import clip_sprite
from explain.reporting.sections import BUILT_IN, COLLECTED, OF_LEARNED, select
from explain.sources import find as find_sources
from explain.targets import Target
from explain.targets import resolve as resolve_target
from zoo import clips, devices
from zoo import provenance as provenance_of
from zoo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from explain.progress import Told
    from explain.reporting.composition import Part, Report
    from zoo.entries import Layout


#: The target that stands for every output.
ALL = "all"
#: What random weights mean for a page of maps (`untrained`).
MAPS = ", and the maps mean nothing yet"
#: The same, where what was learned is left out for it.
LEFT_OUT = (
    f"These weights are random: the model has learned nothing{MAPS}. Tests of maps, synthesized clips of units and "
    "motions of filters are left out.",
)


def report(
    model: nn.Module | str,
    clip: str | os.PathLike[str] | clips.Clip | Tensor,
    out: str | os.PathLike[str],
    *,
    methods: str | Sequence[str] | None = None,
    sections: str | Iterable[str] | None = None,
    target: Any = None,
    layout: Layout | None = None,
    device: str | None = None,
    dtype: str | None = None,
    weights: str | None = "default",
    layer: str | None = None,
    steps: int = 32,
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
        steps: Steps of integrated gradients.
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
    methods, sections = _names(methods), _names(sections)
    if methods == ():
        raise UsageError("methods names no attribution method; name one, or give None for six usual ones")
    for name in methods or ():
        find_method(name)
    _check_counts(steps=steps, units=units, unit_steps=unit_steps)
    wanted = unit_layers if isinstance(unit_layers, int) else _names(unit_layers) or ()
    options = Options(
        methods=methods,
        layer=layer,
        steps=steps,
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
            from explain.reporting.collected import collecting

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
            parts, problems = composition.build(
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


def read(
    model: nn.Module,
    clip: Any,
    asked: Any,
    *,
    part: tuple[float, float | None] = (0.0, None),
    picture: str = "clip",
    name: str | None = None,
    evaluation: Mapping[str, Any] | None = None,
    **shared: Any,
) -> Context:
    """Read the clip, ask the model once, and fix what is explained.

    Args:
        model: The model, in eval mode.
        clip: As in `report`.
        asked: The target, as in `report`.
        part: Seconds between which the clip is cut, `start` and `end`.
        picture: What the clip's sprite is called.
        name: What the page calls the model; None is what it was loaded by.
        evaluation: What was measured of it.
        shared: What all models of one page have in common: `seed`, `options`, `progress`, `seconds` and `began` of the
            `Context`.
    """
    entry = provenance_of.entry_of(model)
    decoded, frames, batch = see(model, clip, part)
    said, truths = sequels.ask(model, decoded, batch)
    resolved: Target = resolve_target(model, batch, None if _is_all(asked) else asked, truths=truths)
    return Context(
        model=model,
        entry=entry,
        name=name or named(model),
        evaluation=evaluation,
        clip=decoded,
        frames=frames.numpy(),
        picture=clip_sprite(picture, frames.numpy(), times=clips.times_of(batch)),
        batch=batch,
        target=resolved,
        asked=None if _is_all(asked) else asked,
        prediction=said,
        truths=truths,
        everything=_is_all(asked),
        device=str(devices.like(model).device),
        **shared,
    )


def _is_all(target: Any) -> bool:
    return isinstance(target, str) and target == ALL


def named(model: nn.Module) -> str:
    """What a page calls a model: what it was loaded by, its entry's name, or its class."""
    entry, loaded = entry_of(model), getattr(model, "zoo_load_report", None)
    return str(loaded.name if loaded else entry.name if entry else type(model).__name__)


def see(
    model: nn.Module, clip: Any, part: tuple[float, float | None] = (0.0, None)
) -> tuple[clips.Clip, Tensor, Tensor]:
    """The clip as it was read, as the model sees it (uint8, T x H x W x C, RGB or grey), and its batch."""
    entry, like = entry_of(model), devices.like(model)
    if entry is None:
        if part != (0.0, None):
            raise UsageError("start and end cut a clip, and this module takes a batch")
        return _ready_made(model, clip, like.device)
    decoded = _read(clip, entry.input, *part)
    frames = clips.convert(decoded, entry.input)
    batch = clips.timed(clips.normalize(frames, entry.input).to(like), clips.times_of(decoded, entry.input))
    return decoded, frames.flip(-1) if entry.input.channels == "BGR" else frames, batch


def _read(clip: Any, spec: zoo.InputSpec, start: float, end: float | None) -> clips.Clip:
    if isinstance(clip, clips.Clip):
        return clips.cut(clip, start, end)
    if isinstance(clip, Tensor):
        return clips.of_frames(clip.cpu(), spec, start=start, end=end)
    read = clips.decode(clip, start=start, end=end, spec=spec)
    if spec.frames == 1 and read.total > 1 and Path(clip).is_dir():
        one = (
            f"The folder holds {read.total} images and the model takes one, so this is about the one in the middle; "
            "`explain report --each` takes every image as a clip of its own."
        )
        read = dataclasses.replace(read, warnings=(*read.warnings, one))
    return read


def _ready_made(model: nn.Module, batch: Any, device: torch.device) -> tuple[clips.Clip, Tensor, Tensor]:
    """Clip, frames and batch of a module without an entry, which was given its batch."""
    if not isinstance(batch, Tensor) or not batch.is_floating_point():
        raise UsageError(
            "this module did not come from zoo.load, so nothing says how it wants its clips: give the batch itself, "
            "one sample of floating-point numbers"
        )
    times = clips.times_of(batch)
    batch = clips.timed(batch.to(device), times)
    moved = to_ncthw(batch, layout_of(model, batch)).detach().float().cpu()
    if len(moved) != 1:
        raise UsageError(f"a report is about one sample, this batch holds {len(moved)}")
    low, high = moved.min(), moved.max()
    shown = ((moved - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)[0].permute(1, 2, 3, 0)
    if shown.shape[-1] not in {1, 3}:
        shown = shown.float().mean(dim=-1, keepdim=True).to(torch.uint8)
    count = len(shown)
    read = clips.Clip(
        frames=shown.expand(-1, -1, -1, 3).contiguous(),
        source="a batch given in memory",
        indices=tuple(range(count)),
        total=count,
        times=times if times is not None and len(times) == count else None,
    )
    return read, shown.contiguous(), batch


def warned(context: Context, warning: str) -> Context:
    """The same with a warning more, if there is one."""
    said = (*context.clip.warnings, *filter(None, [warning]))
    return dataclasses.replace(context, clip=dataclasses.replace(context.clip, warnings=said))


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
    return composition.write(
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


def clip_name(clip: clips.Clip) -> str:
    """What a page calls a clip: its file's name, or the sample's."""
    return Path(clip.source).name if "sample:" not in clip.source else clip.source


def _notices(context: Context, problems: list[dict[str, str]]) -> list[str]:
    """What a reader must know before anything else."""
    said = [f"Note: {warning}" for warning in context.clip.warnings]
    left_out = list(LEFT_OUT) if has_random_weights(context.model) else untrained(context.model, MAPS)
    return said + left_out + composition.broken(problems)


def untrained(model: nn.Module, meaning: str) -> list[str]:
    """What a reader must know of a model that was not trained, or not for this; `meaning` is what follows from it."""
    origin = provenance_of.origin_of(model)
    if origin is None:
        return []
    if origin.status == "random":
        return [f"These weights are random: the model has learned nothing{meaning}."]
    return unproven(origin, "This model") or adapted(model, "This model")


def unproven(origin: provenance_of.Origin, name: str) -> list[str]:
    """What a reader must know of a model whose tensors are not those of the weights that it is called by."""
    if origin.status == "modified":
        return [
            f"{name} was {origin.text}; what was published of these weights, their metrics and their checksum do not "
            "hold for it."
        ]
    if origin.status == "unknown":
        return [f"The weights of {name[0].lower()}{name[1:]} are {origin.text}."]
    return [f"Weights of {name[0].lower()}{name[1:]}: {origin.text}."] if origin.status == "unverified" else []


def adapted(model: nn.Module, name: str) -> list[str]:
    """What a reader must know of a model that was loaded with the weights of another network."""
    report = getattr(model, "zoo_load_report", None)
    if report is None or not report.adapted:
        return []
    return [
        f"{name} was loaded with convolutions of another network ({Path(report.file).name}), made to fit, and "
        f"{report.initialised} of its tensors as initialised: unless it was trained since, what it says means nothing."
    ]


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UsageError(f"{name} must be at least 1, got {count}")
