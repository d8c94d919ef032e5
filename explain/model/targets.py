"""What is explained: one number for each sample, chosen among a model's outputs and units and then held fixed.

========================  ==================================================================
target                    number explained
========================  ==================================================================
None                      first output: its predicted class (logit), its value, or the mean of the part of a clip that
                          is farthest from what it should be (`explain.model.departures`); of the whole where that is
                          unknown
3, "cat"                  that class, by index or label, of a model with one output
"digit"                   that output: its predicted class, its value, or the mean of the whole clip
"digit:7", "digit:#7"     that output's class, by label or, where no label reads so, index; "#7" is always the index
"output[3, 10:18, 4:12]"  mean of a pixel, a frame or a region of an output that is a clip (`explain.model.regions`)
Region("output", t=3)     the same, as an object
"output[42]", "cat[42]"   of an output with a row for each frame (`OutputSpec.per_frame`): frame 42's predicted class
                          or value, and class "cat" there; "[:]", or nothing, is the mean over all frames, "[10:20]"
                          over some; `Region("output", t=42)` is the same
"output:max", "cat:max"   the same at the frame where it is highest
"layer1.0.conv/12"        mean over time and space of that layer's unit (channel) 12
"layer1.0.conv/12:max"    highest activation of that unit, at the time step, row and column where the clip has it
callable                  callable(model output) -> N numbers, one for each sample
========================  ==================================================================

A predicted class, and the frame or the place of a highest value, are read off the unchanged batch once, sample by
sample, so that what is explained does not move while inputs are perturbed. Of several frames the class is predicted
whose logit is highest in their mean, or anywhere in them ("max").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.fx
from torch import Tensor, nn

from explain.model.departures import departures
from explain.model.diagnosis import not_finite
from explain.model.layers import Capture, is_folded, layer_names
from explain.model.layouts import entry_of, exact
from explain.model.memory import MeasuredBytes
from explain.model.regions import Bounds, Region, parse, said
from zoo.clips import instant, times_of
from zoo.errors import ModelError, UnknownNameError, UsageError
from zoo.models.heads import by_head, output_specs

#: How a target may be asked for.
TargetLike = int | str | Region | Callable[[Any], Tensor] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Target:
    """A target fixed for the samples of one batch."""

    #: One text for each sample ("digit = 7", "speed", "output[t=3]", "layer1/12", "layer1/12:max").
    descriptions: tuple[str, ...]
    #: The number explained for each sample of the unchanged batch: N, on the batch's device.
    value: Tensor
    #: Name of the output; None for units and callables.
    head: str | None = None
    #: Class explained for each sample, N; None for values, clips, units and callables.
    classes: Tensor | None = None
    #: Frames, rows and columns of an output clip whose mean is explained, each from a first to before a last; None for
    #: all that is no clip.
    region: Bounds | None = None
    #: Of an output with a row for each frame: the frames whose mean is explained, from a first to before a last, or the
    #: one frame of each sample, N, where it is highest.
    times: tuple[int, int] | None = None
    peaks: Tensor | None = None
    #: The region of each sample, N of them, where they were chosen and not asked for; `region` is then the first one.
    regions: tuple[Bounds, ...] | None = None
    #: What the regions that were chosen are farthest from: "the clip", "the last frame", "the frames that follow".
    against: str = ""
    #: Name of the layer and index of the unit in it; None for outputs and callables.
    unit: tuple[str, int] | None = None
    #: Time step, row and column of the unit's highest activation for each sample, N x 3, in positions of the layer; the
    #: first of several equal ones. None where the unit's mean is explained, and for outputs and callables.
    positions: Tensor | None = None
    #: Calls of the unit's layer in one forward pass.
    calls: int = 1
    #: Whether samples must run one by one: the unit's layer has frames folded into the batch, or the model takes one.
    folded: bool = False
    #: The callable, where one was given.
    function: Callable[[Any], Tensor] | None = None
    #: Bytes that the forward pass which fixed the target made, for each number of the input; 0 where nobody counted.
    made: float = 0.0

    @property
    def description(self) -> str:
        """What is explained, once for the batch: the text of all samples, or each one's where they differ."""
        return ", ".join(dict.fromkeys(self.descriptions))

    def __str__(self) -> str:
        return self.description

    def __len__(self) -> int:
        return len(self.descriptions)


def resolve(
    model: nn.Module,
    batch: Tensor,
    target: TargetLike = None,
    *,
    head: str | None = None,
    truths: Mapping[str, Tensor] | None = None,
) -> Target:
    """Fix a target for every sample of a batch, with one forward pass.

    Args:
        model: Any module, its parameters frozen or not; `zoo_entry.outputs` names its outputs and labels where there is
            one.
        batch: N samples as the model takes them.
        target: As the table of this module says.
        head: The output that None stands for; None is the first.
        truths: What outputs that are clips should be, by name, in their shape, where it is known.

    Raises:
        UnknownNameError: No such output, label, class index, layer or unit.
        UsageError: The target is ambiguous, a region lies outside the output, a class or a region is asked of an
            output that has none, or the callable gives no number for each sample.
        ModelError: The model's output cannot be explained without a callable, or is not finite, or a unit whose highest
            activation is meant has the same everywhere.
    """
    with torch.no_grad():
        return scored(model, batch, target, head=head, truths=truths)[1]


def scored(
    model: nn.Module,
    batch: Tensor,
    target: TargetLike = None,
    *,
    head: str | None = None,
    truths: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, Target]:
    """As `resolve`, with the number explained for each sample (N), which keeps its gradient where one is recorded."""
    with MeasuredBytes() as measured:
        found = _resolve(model, batch, target, head, truths or {})
    score = exact(found.value)
    if not bool(torch.isfinite(score).all()):
        raise ModelError(
            f"the model gives {score.tolist()} for {found.description}: nothing to explain; {not_finite(model, batch)}"
        )
    check_gradients(score, found.description)
    return score, dataclasses.replace(found, value=score.detach(), made=measured.total / batch.numel())


def check_gradients(score: Tensor, explained: str) -> None:
    """Refuse a recorded score that an operation without a gradient made: what went through it would be left out.

    Raises:
        ModelError: There is one, as quantized modules run.
    """
    seen: set[Any] = set()
    waiting = [score.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        if "NotImplemented" in node.name():
            raise ModelError(
                f"{explained} comes out of an operation for which torch has no gradient, as quantized modules run; "
                "choose a method of removal (occlusion, rise), or explain the model as it was before that"
            )


def _resolve(
    model: nn.Module, batch: Tensor, target: TargetLike, first: str | None, truths: Mapping[str, Tensor]
) -> Target:
    samples = batch.shape[0]
    unit = _unit_of(model, target)
    if unit is not None:
        return _resolve_unit(model, batch, *unit)
    if samples > 1 and takes_one(model) and not callable(target):
        parts = [{name: one[at : at + 1] for name, one in truths.items()} for at in range(samples)]
        return join([_resolve(model, batch[at : at + 1], target, first, parts[at]) for at in range(samples)])
    output = model(batch.clone())
    if callable(target):
        value = _one_each(target(output), samples)
        name = getattr(target, "__name__", type(target).__name__)
        return Target(descriptions=(name,) * samples, value=value, function=target)
    outputs = by_head(model, output)
    heads = _heads(model, outputs, batch)
    if target is None and first is not None:
        heads = [one for one in heads if one.name == first]
    asked, times = _frames_asked(heads, target)
    head, spec_labels, choice = _choose(heads, asked)
    scores, folded = outputs[head], takes_one(model)
    if any(one.name == head and one.frames for one in heads):
        of_frames = _resolve_frames(scores, head, spec_labels, choice, times, times_of(batch))
        return dataclasses.replace(of_frames, folded=folded)
    if isinstance(choice, Region) and target is None:
        found = departures(model, batch, head, scores.detach(), truths.get(head))
        if found is not None:
            regions, against = found
            return Target(
                descriptions=tuple(said(head, bounds, scores.shape) for bounds in regions),
                value=_means(scores, regions),
                head=head,
                region=regions[0],
                regions=regions,
                against=against,
                folded=folded,
            )
    if isinstance(choice, Region):
        bounds = choice.bounds(scores.shape, head)
        text = said(head, bounds, scores.shape)
        return Target(
            descriptions=(text,) * samples, value=_mean(scores, bounds), head=head, region=bounds, folded=folded
        )
    if choice is _VALUE:
        value = scores.reshape(samples).clone()
        return Target(descriptions=(head,) * samples, value=value, head=head, folded=folded)
    classes = scores.argmax(dim=1) if choice is None else torch.full_like(scores[:, 0], choice, dtype=torch.long)
    labels = tuple(_label(spec_labels, int(index)) for index in classes)
    return Target(
        descriptions=tuple(f"{head} = {label}" for label in labels),
        value=scores.gather(1, classes[:, None])[:, 0],
        head=head,
        classes=classes,
        folded=folded,
    )


def _resolve_frames(
    scores: Tensor,
    head: str,
    labels: tuple[str, ...],
    choice: Any,
    times: Region | str | None,
    seconds: Sequence[float] | None,
) -> Target:
    """A target among N x T x K numbers, K for each frame; `seconds` says when frames are shown, if that is known."""
    samples, frames = scores.shape[:2]
    where, start, stop = ":max", 0, frames
    if times != _HIGHEST:
        start, stop = times.frames(frames, head) if isinstance(times, Region) else (0, frames)
        where = f"[{start if stop == start + 1 else ':' if (start, stop) == (0, frames) else f'{start}:{stop}'}]"
    among = exact(scores[:, start:stop])
    rows = among.amax(dim=1) if times == _HIGHEST else among.mean(dim=1)
    if choice is _VALUE:
        classes = torch.zeros_like(rows[:, 0], dtype=torch.long)
    else:
        classes = rows.argmax(dim=1) if choice is None else torch.full_like(rows[:, 0], choice, dtype=torch.long)
    named = ["" if choice is _VALUE else f" = {_label(labels, int(index))}" for index in classes]
    peaks = scores[torch.arange(samples), :, classes].argmax(dim=1) if times == _HIGHEST else None
    at = [""] * samples if peaks is None else [f" ({instant(int(peak), seconds)})" for peak in peaks]
    return Target(
        descriptions=tuple(f"{head}{where}{name}{frame}" for name, frame in zip(named, at, strict=True)),
        value=rows.gather(1, classes[:, None])[:, 0],
        head=head,
        classes=classes,
        times=None if times == _HIGHEST else (start, stop),
        peaks=peaks,
    )


def takes_one(model: nn.Module) -> bool:
    """Whether a model is a program of torch.export that was exported with a batch of one, and takes no other."""
    if not isinstance(model, torch.fx.GraphModule):
        return False
    given = [node.meta.get("val") for node in model.graph.nodes if node.op == "placeholder"]
    sizes = [value.shape[0] for value in given if isinstance(value, Tensor) and value.ndim > 1]
    return bool(sizes) and all(isinstance(size, int) and size == 1 for size in sizes)


def join(targets: Sequence[Target]) -> Target:
    """One target for several batches on end, each resolved from the same request."""
    first = targets[0]
    if len(targets) == 1:
        return first
    classes = [target.classes for target in targets if target.classes is not None]
    regions = tuple(bounds for target in targets for bounds in target.regions or ())
    positions = [target.positions for target in targets if target.positions is not None]
    peaks = [target.peaks for target in targets if target.peaks is not None]
    return dataclasses.replace(
        first,
        descriptions=tuple(text for target in targets for text in target.descriptions),
        value=torch.cat([target.value for target in targets]),
        classes=torch.cat(classes) if classes else None,
        regions=regions or None,
        positions=torch.cat(positions) if positions else None,
        peaks=torch.cat(peaks) if peaks else None,
        made=max(target.made for target in targets),
    )


def select(target: Target, samples: Tensor) -> Target:
    """The target of those samples (integers), in that order; a sample may be named more than once."""
    return dataclasses.replace(
        target,
        descriptions=tuple(target.descriptions[int(sample)] for sample in samples),
        value=target.value[samples],
        classes=None if target.classes is None else target.classes[samples],
        region=target.region if not target.regions or not len(samples) else target.regions[int(samples[0])],
        regions=None if target.regions is None else tuple(target.regions[int(sample)] for sample in samples),
        positions=None if target.positions is None else target.positions[samples],
        peaks=None if target.peaks is None else target.peaks[samples],
    )


class Score:
    """The number explained as a function of the input: what attribution methods differentiate and perturb.

    Called as `score(batch, samples)`: `batch` holds M samples as the model takes them, `samples` (M, integers) says
    which sample of the target's batch each of them stands for; gives M numbers. `done` counts the samples run so far.

    Args:
        model: The model.
        target: The target, resolved.
        progress: Called as `progress(done, total)` after every pass.
        total: Samples that will be run in all.
    """

    def __init__(
        self, model: nn.Module, target: Target, progress: Callable[[int, int], None] | None = None, total: int = 0
    ) -> None:
        self.model = model
        self.target = target
        self.progress = progress
        self.total = total
        self.done = 0

    def __call__(self, batch: Tensor, samples: Tensor) -> Tensor:
        """M numbers for M samples."""
        score = exact(self._score(batch, samples))
        if not self.done:
            check_gradients(score, self.target.description)
        self.advance(len(samples))
        return score

    def advance(self, samples: int) -> None:
        """Count so many samples as done."""
        self.done += samples
        if self.progress is not None and samples:
            self.progress(min(self.done, self.total), self.total)

    def _score(self, batch: Tensor, samples: Tensor) -> Tensor:
        target = self.target
        if target.folded and len(batch) > 1:
            return torch.cat([self._score(batch[k : k + 1], samples[k : k + 1]) for k in range(len(batch))])
        if target.unit is not None:
            name, unit = target.unit
            with Capture(self.model, name, stop_after=target.calls) as capture:
                capture.run(batch.clone())
            maps = capture.maps(len(batch))[:, unit]
            if target.positions is None:
                return maps.mean(dim=(1, 2, 3))
            time, row, column = target.positions[samples].unbind(dim=1)
            return maps[torch.arange(len(maps), device=maps.device), time, row, column]
        output = self.model(batch.clone())  # a copy: a model may begin with an in-place operation
        if target.function is not None:
            return _one_each(target.function(output), len(batch))
        return taken(target, by_head(self.model, output), samples)


def taken(target: Target, outputs: Mapping[str, Tensor], samples: Tensor) -> Tensor:
    """The number explained, M of them, of M samples' outputs; `samples` (M) says which of the target's each is.

    For targets that are outputs: a class, a value, or a region of a clip.
    """
    scores = outputs[target.head or ""]
    if target.regions is not None:
        return _means(scores, [target.regions[int(sample)] for sample in samples])
    if target.times is not None:
        scores = exact(scores[:, slice(*target.times)]).mean(dim=1)
    elif target.peaks is not None:
        scores = scores[torch.arange(len(samples), device=scores.device), target.peaks[samples]]
    if target.region is not None:
        return _mean(scores, target.region)
    if target.classes is None:
        return scores.reshape(len(samples))
    return scores.gather(1, target.classes[samples][:, None])[:, 0]


def part(clips: Tensor, bounds: Bounds) -> Tensor:
    """A region of output clips, N x C x T x H x W or, of one frame, N x C x H x W; the axes stay."""
    times, rows, columns = (slice(*limits) for limits in bounds)
    return (clips[:, :, times] if clips.ndim == 5 else clips)[..., rows, columns]


def _means(clips: Tensor, regions: Sequence[Bounds]) -> Tensor:
    """The mean of each sample's own region."""
    return torch.cat([_mean(clips[at : at + 1], bounds) for at, bounds in enumerate(regions)])


def _mean(clips: Tensor, bounds: Bounds) -> Tensor:
    return exact(part(clips, bounds)).flatten(1).mean(dim=1)


#: What follows the colon of a unit's target where its highest activation is meant, not its mean.
_HIGHEST = "max"

#: Stands for "the value itself" where a class index could stand.
_VALUE = object()


@dataclass(frozen=True, slots=True)
class _Head:
    """One output: what it is, and its number of columns."""

    name: str
    kind: str
    labels: tuple[str, ...]
    columns: int
    #: Frames that it has a row for; 0 where it has one row for the clip.
    frames: int = 0


#: The kind of an output whose shape says nothing: it is refused where it is asked for.
_UNKNOWN = "unknown"


def _heads(model: nn.Module, outputs: Mapping[str, Tensor], batch: Tensor) -> list[_Head]:
    """What each output is, the entry's first; one with four or five axes is a clip whatever the entry says."""
    heads = []
    for name, spec in output_specs(model, outputs, batch).items():
        shape = outputs[name].shape
        frames = int(shape[1]) if spec.per_frame and len(shape) == 3 else 0
        kind = spec.kind if len(shape) in {1, 2} or frames else "clip" if len(shape) in {4, 5} else _UNKNOWN
        columns = int(shape[-1]) if len(shape) == 2 or frames else 1
        if kind == "value" and columns != 1:
            raise ModelError(f"output {name!r} is said to be a value but has {columns} columns; give a callable target")
        if kind == _UNKNOWN:
            kind = f"{_UNKNOWN}, {' x '.join(map(str, shape)) or 'one number for the whole batch'}"
        heads.append(_Head(name, kind, spec.labels, columns, frames))
    return heads


def _frames_asked(heads: list[_Head], target: Any) -> tuple[Any, Region | str | None]:
    """A target without the frames that it asks of an output with a row for each, and these: a region, or "max"."""
    rows = {head.name: head for head in heads if head.frames}
    if not rows:
        return target, None
    if isinstance(target, Region):
        clips = any(head.kind == "clip" for head in heads)
        name = target.head or ("" if clips else next(iter(rows)))
        return (name, target) if name in rows else (target, None)
    if not isinstance(target, str) or target in {*rows, *(label for head in heads for label in head.labels)}:
        return target, None
    asked, times = target.removesuffix(f":{_HIGHEST}"), cast("Region | str | None", _HIGHEST)
    if asked == target:
        times = parse(target)
        asked = target[: target.rindex("[")] if times is not None else target
    if times is None:
        return target, None
    asked = asked or next(iter(rows))
    return (asked, times) if _choose(heads, asked)[0] in rows else (target, None)


def _choose(heads: list[_Head], target: Any) -> tuple[str, tuple[str, ...], Any]:
    """Output, its labels, and the class index, None (the predicted class), `_VALUE` or the region of a clip."""
    by_name = {head.name: head for head in heads}
    if target is None:
        return _whole(heads[0])
    if isinstance(target, Region):
        return _region_of(heads, target)
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise UsageError(f"a target is a class, a label, an output's name, a Region or a callable, not {target!r}")
    if isinstance(target, str):
        if target in by_name:
            return _whole(by_name[target])
        name, colon, wanted = target.partition(":")
        if colon and name in by_name:
            return _class_of(by_name[name], wanted)
        name, bracket, _ = target.partition("[")
        labelled = any(target in head.labels for head in heads)
        if bracket and not labelled and (name in by_name or any(head.kind == "clip" for head in heads)):
            asked = parse(target)
            if asked is not None:
                return _region_of(heads, asked)
    classed = [head for head in heads if head.kind == "classes"]
    if len(heads) == 1 and (classed or isinstance(target, int) or target.removeprefix("#") == "0"):
        return _class_of(heads[0], target)
    known = [*by_name, *(f"{head.name}:{label}" for head in classed for label in head.labels)]
    if len(heads) > 1 and (isinstance(target, int) or any(target in head.labels for head in classed)):
        having = [head.name for head in classed if isinstance(target, int) or target in head.labels]
        example = f"{(having or list(by_name))[0]}:{target}"
        raise UsageError(
            f"target {target!r} does not say which output is meant; the model gives {', '.join(by_name)}: "
            f"write {example!r}"
        )
    raise UnknownNameError("target", str(target), known, _hint(heads))


def _whole(head: _Head) -> tuple[str, tuple[str, ...], Any]:
    """An output by its name alone."""
    _check_known(head)
    if head.kind == "clip":
        return head.name, (), Region(head.name)
    return head.name, head.labels, _VALUE if head.kind == "value" else None


def _check_known(head: _Head) -> None:
    if head.kind.startswith(_UNKNOWN):
        raise UsageError(
            f"output {head.name!r} is {head.kind.removeprefix(_UNKNOWN + ', ')}, neither classes (N x K, or N x T x K "
            "with T the frames of the batch), nor a value, nor a clip; give a callable target, or say what it is with "
            "an `OutputSpec`"
        )


def _region_of(heads: list[_Head], region: Region) -> tuple[str, tuple[str, ...], Region]:
    """A region of the output that it names, or of the first clip.

    Raises:
        UnknownNameError: No such output.
        UsageError: That output is no clip, or none is.
    """
    by_name = {head.name: head for head in heads}
    if region.head is None:
        clips = [head for head in heads if head.kind == "clip"]
        if not clips:
            raise UsageError(f"no output of the model is a clip of which {region} could be a region; {_hint(heads)}")
        return clips[0].name, (), region
    head = by_name.get(region.head)
    if head is None:
        raise UnknownNameError("output", region.head, by_name, _hint(heads))
    _check_known(head)
    if head.kind != "clip":
        classes = f", or {head.name}:CLASS" if head.kind == "classes" else ""
        raise UsageError(
            f"output {head.name!r} is no clip ({head.kind}), so {region} is no part of it; its target is {head.name!r} "
            f"alone{classes}"
        )
    return head.name, (), region


def _class_of(head: _Head, wanted: int | str) -> tuple[str, tuple[str, ...], Any]:
    """One class of an output, by label or by index; the only column of a value may be called class 0."""
    _check_known(head)
    if head.kind == "clip":
        raise UsageError(
            f"output {head.name!r} is a clip and has no class {wanted!r}; its target is {head.name!r}, the mean of all "
            f"pixels, or a region of it: '{head.name}[3]' is frame 3, '{head.name}[3, 10:18, 4:12]' a part of that"
        )
    if head.kind == "value" and str(wanted).removeprefix("#") == "0":  # the only column
        return head.name, (), _VALUE
    if head.kind != "classes":
        raise UsageError(f"output {head.name!r} has no classes; its target is {head.name!r} alone")
    if isinstance(wanted, str) and wanted in head.labels:
        return head.name, head.labels, head.labels.index(wanted)
    digits = wanted.removeprefix("#") if isinstance(wanted, str) else str(wanted)
    if digits.isascii() and digits.isdecimal() and int(digits) < head.columns:
        return head.name, head.labels, int(digits)
    known = list(head.labels) or [str(index) for index in range(head.columns)]
    raise UnknownNameError(f"class of {head.name}", str(wanted), known, f"indices are 0 to {head.columns - 1}")


def _hint(heads: list[_Head]) -> str:
    regions = {head.name: f", of which '{head.name}[3]' is frame 3" for head in heads if head.kind == "clip"}
    return "the model gives " + ", ".join(f"{head.name} ({head.kind}{regions.get(head.name, '')})" for head in heads)


def _label(labels: tuple[str, ...], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)


def _unit_of(model: nn.Module, target: TargetLike) -> tuple[str, str, str] | None:
    """Layer, unit, and what of it, where the target names a unit: a layer before its last slash, or a number behind."""
    if not isinstance(target, str) or "/" not in target:
        return None
    layer, _, rest = target.rpartition("/")
    unit, colon, taken = rest.partition(":")
    known = layer_names(model)
    if layer in known:
        if colon and taken != _HIGHEST:
            raise UnknownNameError("part of a unit", taken, [_HIGHEST], f"{layer}/{unit} is its mean")
        return layer, unit, taken
    entry = entry_of(model)
    specs = entry.outputs if entry else ()
    outputs = {spec.name for spec in specs}
    labels = {label for spec in specs for label in spec.labels}
    if not unit.isdecimal() or target in labels or target.partition(":")[0] in outputs:
        return None  # a label may hold a slash
    raise UnknownNameError("layer", layer, known, "`explain fields MODEL --layers '*'` lists them")


def _resolve_unit(model: nn.Module, batch: Tensor, layer: str, unit: str, taken: str) -> Target:
    with Capture(model, layer) as capture:
        capture.run(batch.clone())
    folded = is_folded(capture.calls, len(batch))
    if folded and len(batch) > 1:
        return join([_resolve_unit(model, sample, layer, unit, taken) for sample in torch.split(batch, 1)])
    maps = capture.maps(len(batch))
    index = unit_index(layer, unit, maps.shape[1])
    name, own, positions = f"{layer}/{index}", maps[:, index], None
    if taken == _HIGHEST:
        name, positions = f"{name}:{taken}", _highest(own, name)
        own = own[torch.arange(len(own), device=own.device), *positions.unbind(dim=1)].view(-1, 1, 1, 1)
    return Target(
        descriptions=(name,) * len(batch),
        value=own.mean(dim=(1, 2, 3)),
        unit=(layer, index),
        positions=positions,
        calls=len(capture.calls),
        folded=folded,
    )


def _highest(maps: Tensor, name: str) -> Tensor:
    """Where each of N x T' x H' x W' maps is highest: N x 3.

    Raises:
        ModelError: One of several positions is the same everywhere, as where ReLU keeps a unit silent.
    """
    values = maps.flatten(1)
    even = values.amax(dim=1) == values.amin(dim=1)
    if values.shape[1] > 1 and bool(even.any()):
        same = values.detach()[even][0, 0]
        raise ModelError(
            f"unit {name} is {float(same):g} at each of its {values.shape[1]} positions: on this clip it "
            "has no highest activation; choose another unit, or the layer before its activation function"
        )
    return torch.stack(torch.unravel_index(values.argmax(dim=1), maps.shape[1:]), dim=1)


def unit_index(layer: str, unit: str | int, count: int) -> int:
    """The index of a unit among a layer's `count`.

    Raises:
        UnknownNameError: No such unit.
    """
    text = str(unit)
    if not (text.isascii() and text.isdecimal()) or int(text) >= count:
        raise UnknownNameError(f"unit of {layer}", text, map(str, range(count)), f"units are 0 to {count - 1}")
    return int(text)


def _one_each(value: Any, samples: int) -> Tensor:
    """A callable's result as N numbers."""
    if not isinstance(value, Tensor) or value.numel() != samples or value.shape[:1] != (samples,):
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"a callable target must give one number for each of the {samples} samples, not {got}")
    if value.is_complex():
        raise UsageError("a callable target gave complex numbers; give their magnitude or a part of them")
    # The index of a class, say: a number that no gradient has, but that changes.
    return value.reshape(samples).to(value.dtype if value.is_floating_point() else torch.get_default_dtype())
