"""Read what a page is about: clip, model, target, the frames that follow, and the notices on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from explain.drawing.sprites import clip_sprite
from explain.model.layouts import entry_of, fixed, layout_of, to_ncthw
from explain.model.targets import Target
from explain.model.targets import resolve as resolve_target
from explain.reporting.context import Context
from zoo import clips, devices
from zoo.clips import Clip
from zoo.entries import Layout
from zoo.errors import MemoryLimitError, UsageError, ZooError
from zoo.models import prediction
from zoo.models import provenance as provenance_of
from zoo.models.prediction import describe, like_output, outputs

#: Relative change of a value that is told; rounding alone makes less than a hundredth.
TOLD = 0.05


def changed(model: nn.Module, clip: Any, name: str, **asked: Any) -> str:
    """What a model that was loaded with another type says differently from one with the architecture's own.

    Args:
        model: The model as it was loaded, with `dtype`.
        clip: The clip, as `zoo.preprocess` takes it.
        name: What it was loaded by.
        asked: What else `zoo.load` was given, but for the device and the type: weights, seed, numbers.

    Returns:
        A sentence; empty where the same classes lead, values and clips differ by less than 5 %, or memory does not hold
        both.
    """
    if entry_of(model) is None:
        return ""
    try:
        own = zoo.load(name, device=str(devices.like(model).device), **asked)
        if devices.like(own).dtype == devices.like(model).dtype:
            return ""
        batches = [zoo.preprocess(clip, one) for one in (model, own)]
        heads = [outputs(one, batch) for one, batch in zip((model, own), batches, strict=True)]
    except MemoryLimitError:
        return ""
    said, meant = (describe(*given, top=1)[0] for given in zip((model, own), batches, heads, strict=True))
    types = [str(devices.like(one).dtype).removeprefix("torch.") for one in (model, own)]
    told = []
    for head, now in said.items():
        before = meant[head]
        if now["kind"] == "classes" and now["top"][0]["label"] != before["top"][0]["label"]:
            told.append(f"{head} {now['top'][0]['label']} instead of {before['top'][0]['label']}")
        elif now["kind"] == "value" and abs(now["value"] - before["value"]) > TOLD * abs(before["value"]):
            told.append(f"{head} {now['value']:.3g} instead of {before['value']:.3g}")
        elif now["kind"] == "clip":
            clips = [one[head].double() for one in heads]
            share = float((clips[0] - clips[1]).norm() / clips[1].norm().clamp(min=torch.finfo(torch.float64).tiny))
            if share > TOLD:
                told.append(f"{head} off by {100 * share:.0f} %")
    if not told:
        return ""
    return (
        f"In {types[0]} the model says something else than in {types[1]}: {', '.join(told)}. What is shown explains "
        f"the changed answer; compute in {types[1]} to explain the model as it was trained."
    )


#: The target that stands for every output.
ALL = "all"

#: What random weights mean for a page of maps (`untrained`).
MAPS = ", and the maps mean nothing yet"

#: The same, where what was learned is left out for it.
LEFT_OUT = (
    f"These weights are random: the model has learned nothing{MAPS}. Tests of maps, synthesized clips of units and "
    "motions of filters are left out.",
)


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
    said, truths = ask(model, decoded, batch)
    resolved: Target = resolve_target(model, batch, None if is_all(asked) else asked, truths=truths)
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
        asked=None if is_all(asked) else asked,
        prediction=said,
        truths=truths,
        everything=is_all(asked),
        device=str(devices.like(model).device),
        **shared,
    )


def is_all(target: Any) -> bool:
    """Tell whether every output is to be explained."""
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


def ask(
    model: nn.Module, clip: Clip, batch: Tensor, *, top: int = 5
) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """What a model says about a clip, and what it should have said where that is known.

    Args:
        model: The model.
        clip: The clip as it was read.
        batch: The same as the model takes it.
        top: As in `zoo.predict`.

    Returns:
        What `zoo.predict` gives of the sample. Outputs that predict (`OutputSpec.follows`) also say so as "follows";
        their "squared_error" is from what follows, None where the clip ends before, and "last_frame_again" is that of
        the clip's last frame in their place. Then what follows, 1 x C x T x H x W on the CPU, or 1 x C x H x W like the
        output, by the outputs that predict it.
    """
    heads = outputs(model, batch)
    said = describe(model, batch, heads, top=top)[0]
    entry = entry_of(model)
    predicted = [spec.name for spec in entry.outputs if spec.kind == "clip" and spec.follows] if entry else []
    known = (
        prediction.following(model, heads, clip.source, start=clip.start, end=clip.end)
        if predicted and _begins(model, clip)
        else {}
    )
    found = {name: clips.timed(after.float().cpu(), clips.times_of(after)) for name, after in known.items()}
    for name in predicted:
        said[name] |= {"follows": True, "squared_error": None, "last_frame_again": None}
        if name in found:
            far = prediction.missed(heads[name], found[name], like_output(model, batch))
            said[name] |= dict(zip(("squared_error", "last_frame_again"), far, strict=True))
    return said, found


def following(model: nn.Module, clip: Clip, count: int) -> Tensor | None:
    """The frames after a clip, prepared as the model's input is: 1 x C x count x H x W on the CPU.

    None where it ends before, and where it is not what stands at the beginning of its source: frames given in memory,
    or a part of a video.
    """
    return clips.following(clip.source, model, count, start=clip.start, end=clip.end) if _begins(model, clip) else None


def _begins(model: nn.Module, clip: Clip) -> bool:
    """Whether a clip is what its source shows from the clip's start on."""
    try:
        again = clips.decode(clip.source, start=clip.start, end=clip.end, spec=clips.spec_of(model)).frames
    except ZooError:
        return False
    return again.shape == clip.frames.shape and torch.equal(again, clip.frames)


def compared_with(said: Mapping[str, Any]) -> str:
    """What the squared error of an output clip is measured from, in words."""
    if not said.get("follows"):
        return "the clip"
    count = said["shape"][1] if len(said["shape"]) == 4 else 1
    return "the frame that follows" if count == 1 else f"the {count} frames that follow"


def laid_out(model: nn.Module, clip: Any, layout: Layout | None) -> AbstractContextManager[Any]:
    """Fix the axes of a batch that is given for a module without an entry, for as long as the context lasts.

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
