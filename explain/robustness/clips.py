"""Robustness of a model on clips: one file, several, or a recipe's test set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain.progress import Followed, following
from explain.robustness.checking import Check
from explain.robustness.perturbed_clips import Spoiled
from explain.robustness.results import Robustness
from explain.sources import Source, find, shown, truths
from zoo import clips as reading
from zoo.errors import ClipError, UnknownNameError
from zoo.models import prediction
from zoo.models.heads import outputs_of_entry

_NO_FRAMES_AFTER = (
    "no frames follow those that the model reads, so its answers are compared with that for the unchanged clip, "
    "not with the truth"
)
_NO_LABELS = "not every clip has a label that names a class, so no accuracy is measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipsRobustness:
    """Robustness measured over clips, and its sources."""

    result: Robustness
    #: Description of the clips: the file, "12 clips of FOLDER", or "200 test clips of RECIPE".
    source: str
    #: The first clip, which pages show perturbed.
    first: Spoiled
    #: Clips that could not be used, by path, each with the reason.
    left_out: Mapping[str, str]
    #: Notes for the reader: lossy conversions, missing ground truth.
    notes: tuple[str, ...] = ()


def check_robustness_on_clips(
    model: nn.Module,
    clips: str | os.PathLike[str] | Sequence[str | Source],
    *,
    each: bool = False,
    start: float = 0.0,
    end: float | None = None,
    progress: Followed = None,
    **settings: Any,
) -> ClipsRobustness:
    """Measure `explain.check_robustness` over clips read from files, one after the other.

    The ground truth is the following frames, for heads that predict them, and the labels, for several clips.

    Args:
        model: A model of the zoo.
        clips: A video, an image, a folder, a list, or samples, as `explain.report` takes them; or several paths.
        each: Treat every image of a folder as a clip.
        start: Seconds at which each clip begins.
        end: Seconds at which each clip ends; None is its end.
        progress: As in `explain.check_robustness`, over all clips.
        settings: `perturbations`, `levels`, `draws`, `fill`, `target`, `seed` and further arguments of
            `explain.check_robustness`.

    Raises:
        ClipError: if no clip can be used.
        Others: as raised by `explain.check_robustness` and, for a single clip, `zoo.read_clip`.
    """
    if isinstance(clips, str | os.PathLike):
        many, asked = find(clips, each=each), os.fspath(clips)
        sources = [Source(path=asked, name=asked)] if many is None else many
    else:
        sources = many = [one if isinstance(one, Source) else Source(path=one, name=one) for one in clips]
        asked = "a list"
    check, first, left_out, notes = Check(model, **settings), None, dict[str, str](), list[str]()
    decoded = {source.path: source for source in sources}
    classes = {one.name: one.labels for one in outputs_of_entry(model) if one.kind == "classes"}
    known = {path: _labelled(source, classes) for path, source in decoded.items() if many is not None}
    heads = [name for name in classes if known and all(name in truth for truth in known.values())]
    if not heads and classes and any(source.label for source in sources):
        notes.append(f"note: {_NO_LABELS}")
    predicts = any(one.follows for one in outputs_of_entry(model))
    ended: list[str] = []  # without the frames that the model predicts; used only if all are

    def read(path: str) -> tuple[reading.Clip, Tensor]:
        found = reading.decode(path, start=start, end=end, spec=reading.spec_of(model))
        return found, reading.preprocess(found, model)

    def perturb(path: str, batch: Tensor, after: Mapping[str, Tensor], done: int) -> Spoiled:
        truth = {name: torch.tensor([known[path][name]]) for name in heads} | dict(after)
        check.add(batch, truth or None, _part(told("perturbing"), done, len(decoded)))
        return first or Spoiled(model, batch, fill=check.fill, seed=check.seed)

    with following(progress) as told:
        for done, path in enumerate(decoded):
            try:
                clip, batch = read(path)
            except (ClipError, UnknownNameError) as error:
                if many is None:
                    raise
                left_out[path] = str(error)
                continue
            notes += [f"warning: {warning}" for warning in clip.warnings if many is None]
            after = {}
            if predicts:
                heads_of = prediction.outputs(model, batch)
                after = prediction.following(model, heads_of, path, start=start, end=end)
            if predicts and not after:
                ended.append(path)
            else:
                first = perturb(path, batch, after, done)
        if ended and first is None:
            notes.append(f"note: {_NO_FRAMES_AFTER}")
            for done, path in enumerate(ended):
                first = perturb(path, read(path)[1], {}, done)
            ended = []
    left_out |= dict.fromkeys(ended, "it ends before the frames that the model predicts")
    notes += [f"warning: {path} is left out: {reason}" for path, reason in left_out.items()]
    if first is None:
        raise ClipError(f"none of the {len(decoded)} clips can be used; {next(iter(left_out.values()))}")
    result = check.result()
    source = clip.source if many is None else f"{result.samples} clip{'s' * (result.samples != 1)} of {asked}"
    return ClipsRobustness(result=result, source=source, first=first, left_out=left_out, notes=tuple(notes))


def _part(show: Callable[[int, int], None] | None, done: int, clips: int) -> Callable[[int, int], None] | None:
    """Map progress through one clip to progress through all."""
    return None if show is None else lambda part, whole: show(done * whole + part, clips * whole)


def _labelled(source: Source, classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the true class of each head named by a clip's label or a bundled sample."""
    if source.label:
        return truths(source.label, classes)
    if not source.path.startswith("sample:") or source.path not in reading.samples():
        return {}
    sample, index = reading.samples()[source.path]
    return truths(sample.labels[index], classes) | shown(sample.classes[index] if sample.classes else {}, classes)
