"""Inputs of a page: clip, model, target, following frames, and the notices on them."""

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

#: Relative change of a value that is reported; rounding alone causes less than a hundredth of it.
TOLD = 0.05


def changed(model: nn.Module, clip: Any, name: str, **asked: Any) -> str:
    """Compare the predictions of a model loaded with another dtype with those in the architecture's own.

    Args:
        model: The model as it was loaded, with `dtype`.
        clip: The clip, as for `zoo.preprocess`.
        name: Name that it was loaded by.
        asked: Further arguments of `zoo.load` except device and dtype: weights, seed, numbers.

    Returns:
        A sentence; empty if the top classes agree and values and clips differ by less than 5%, or if memory cannot hold
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


#: The target that means every head.
ALL = "all"

#: Consequence of random weights for a page of maps (`untrained`).
MAPS = ", and the maps mean nothing yet"

#: Consequence of random weights where sections on learned features are omitted.
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
    """Read the clip, compute the prediction, and fix the target.

    Args:
        model: The model, in eval mode.
        clip: As in `report`.
        asked: The target, as in `report`.
        part: Temporal range of the clip in seconds, `start` and `end`.
        picture: Name of the clip's sprite.
        name: The model's name on the page; None is the name that it was loaded by.
        evaluation: Its stored evaluation.
        shared: Fields that all models of one page share: `seed`, `options`, `progress`, `seconds` and `began` of the
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
    """Check whether every head is to be explained."""
    return isinstance(target, str) and target == ALL


def named(model: nn.Module) -> str:
    """Return a model's name on a page: the name that it was loaded by, its entry's name, or its class."""
    entry, loaded = entry_of(model), getattr(model, "zoo_load_report", None)
    return str(loaded.name if loaded else entry.name if entry else type(model).__name__)


def see(
    model: nn.Module, clip: Any, part: tuple[float, float | None] = (0.0, None)
) -> tuple[clips.Clip, Tensor, Tensor]:
    """Return the decoded clip, the model's view of it (uint8, T x H x W x C, RGB or gray), and its batch."""
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
    """Return clip, frames and batch for a module without an entry, from the batch passed by the user."""
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
    """Return the clip with a further warning, if there is one."""
    said = (*context.clip.warnings, *filter(None, [warning]))
    return dataclasses.replace(context, clip=dataclasses.replace(context.clip, warnings=said))


def untrained(model: nn.Module, meaning: str) -> list[str]:
    """Return a notice on a model that is untrained, or not trained for this; `meaning` is the consequence."""
    origin = provenance_of.origin_of(model)
    if origin is None:
        return []
    if origin.status == "random":
        return [f"These weights are random: the model has learned nothing{meaning}."]
    return unproven(origin, "This model") or adapted(model, "This model")


def unproven(origin: provenance_of.Origin, name: str) -> list[str]:
    """Return a notice on a model whose tensors are not those of the weights that it is named after."""
    if origin.status == "modified":
        return [
            f"{name} was {origin.text}; what was published of these weights, their metrics and their checksum do not "
            "hold for it."
        ]
    if origin.status == "unknown":
        return [f"The weights of {name[0].lower()}{name[1:]} are {origin.text}."]
    return [f"Weights of {name[0].lower()}{name[1:]}: {origin.text}."] if origin.status == "unverified" else []


def adapted(model: nn.Module, name: str) -> list[str]:
    """Return a notice on a model that was loaded with the weights of another network."""
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
    """Compute the prediction of a model for a clip, and the ground truth where known.

    Args:
        model: The model.
        clip: The decoded clip.
        batch: The preprocessed clip.
        top: As in `zoo.predict`.

    Returns:
        The output of `zoo.predict` for the sample. Heads that predict frames (`OutputSpec.follows`) have the key
        "follows"; their "squared_error" is relative to the following frames, None if the clip ends before, and
        "last_frame_again" is the error of repeating the clip's last frame. Then the following frames, 1 x C x T x H x W
        on the CPU, or 1 x C x H x W like the output, by the heads that predict them.
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
    """Return the frames after a clip, preprocessed as model input: 1 x C x count x H x W on the CPU.

    None if the source ends before, or if the clip is not the beginning of its source: frames in memory, or a part of a
    video.
    """
    return clips.following(clip.source, model, count, start=clip.start, end=clip.end) if _begins(model, clip) else None


def _begins(model: nn.Module, clip: Clip) -> bool:
    """Check whether a clip matches its source from the clip's start on."""
    try:
        again = clips.decode(clip.source, start=clip.start, end=clip.end, spec=clips.spec_of(model)).frames
    except ZooError:
        return False
    return again.shape == clip.frames.shape and torch.equal(again, clip.frames)


def compared_with(said: Mapping[str, Any]) -> str:
    """Describe the reference of the squared error of an output clip."""
    if not said.get("follows"):
        return "the clip"
    count = said["shape"][1] if len(said["shape"]) == 4 else 1
    return "the frame that follows" if count == 1 else f"the {count} frames that follow"


def laid_out(model: nn.Module, clip: Any, layout: Layout | None) -> AbstractContextManager[Any]:
    """Set the layout of a batch for a module without an entry, within a context.

    Raises:
        UnknownNameError: Unknown layout.
        UsageError: It differs from that of the model's entry, or the time axis of the batch is ambiguous.
    """
    entry = entry_of(model)
    if entry is None and isinstance(clip, Tensor) and clip.is_floating_point():
        return fixed(model, clip.detach().to(devices.like(model).device), layout)
    if entry is not None and layout is not None:
        return fixed(model, torch.empty(entry.input.shape, device="meta"), layout)
    return nullcontext()
