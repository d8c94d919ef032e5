"""Collection of results over many clips, cached clip by clip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from explain.drawing.numbers import number_text
from explain.faithfulness.measures import all_tests
from explain.model.layouts import entry_of
from explain.reporting import pages
from explain.reporting.many import aggregation as collections
from explain.reporting.many.aggregation import Collection
from explain.reporting.many.examining import context_of, examine
from explain.reporting.many.resumption import Work, fingerprint
from explain.reporting.reading import compared_with
from explain.reporting.sections import Section
from explain.sources import Source
from zoo import clips, devices
from zoo.errors import ClipError, ModelError, UnknownNameError
from zoo.models.heads import output_specs

#: Maximum number of skipped clips that a page and a command list by name.
_NAMED = 10


def settings(collected: Collection) -> dict[str, Any]:
    """Return everything besides the clip that its numbers depend on."""
    entry = entry_of(collected.model)
    return {
        "format": 4,
        "model": fingerprint(collected.model),
        "input": repr(entry.input) if entry else "",
        "outputs": repr(entry.outputs) if entry else "",
        "target": repr(collected.asked),
        "methods": list(collected.asked_methods),
        "options": repr(collected.options),
        "part": list(collected.part),
        "tests": [test.name for test in all_tests()] if collected.tests else [],
        "seed": collected.seed,
        "device": devices.like(collected.model).device.type,
        "versions": pages.versions(),
    }


def sections_of_plugins(collected: Collection, sources: Sequence[Source]) -> list[tuple[str, Section]]:
    """Collect plugins' sections on many clips, using the first readable clip; each preceded by its plugin's key."""
    for source in sources:
        try:
            context = context_of(collected, _decoded(collected, source), collected.progress)
        except (ClipError, ModelError, UnknownNameError, OSError):
            continue  # reported when it is examined
        return pages.of_plugins("clips", "explain_sections", context=context)
    return []


def _decoded(collected: Collection, source: Source) -> clips.Clip:
    entry = entry_of(collected.model)
    start, end = collected.part
    return clips.decode(source.path, start=start, end=end, spec=entry.input if entry else None)


def collect(collected: Collection, sources: Sequence[Source], work: Work) -> None:
    """Examine every clip that is not cached.

    Raises:
        ClipError: None of the clips can be used.
        ModelError: A requested method does not apply to this model.
    """
    names = {source.path: work.name(source) for source in sources}
    told = _Told(collected.progress, len(sources), sum(not work.holds(name) for name in names.values()))
    try:
        for source in sources:
            _take(collected, source, names, work, told)
    except BaseException as error:
        if collected.entries:
            error.add_note(
                f"{len(collected.entries)} of {len(sources)} clips are done and kept in {work.folder}; run the same "
                "again to go on from there"
            )
        raise
    if not collected.entries:
        first = collected.failed[0]
        raise ClipError(
            f"none of the {len(sources)} clips of {collected.place} can be used; the first, {first['clip']}: "
            f"{first['reason']}"
        )
    best, worst = collected.extremes()
    for one in [*best, *worst] if collected.maps else []:
        kept = work.load(_views(names[one.source.path]))
        if kept is None:  # labels, and with them the order, have changed since
            again = _examined(collected, one.source, told)
            kept = None if again is None else ({}, again.views)
        if kept is not None:
            collected.views[one.source.name] = kept[1]


def _take(collected: Collection, source: Source, names: dict[str, str], work: Work, told: _Told) -> None:
    """Return one clip from the cache, or examine and cache it."""
    name = names[source.path]
    kept = work.load(name)
    fresh = None
    if kept is None:
        fresh = _examined(collected, source, told)
        if fresh is None:
            return
        kept = (fresh.record, fresh.tensors)
    else:
        told.kept()
    record, tensors = kept
    if not collected.classes:
        collected.classes.update(_classes(collected.model, tensors))
    before = collected.candidates()
    collected.add(collections.entry(source, record, tensors, collected.classes), tensors)
    candidates = collected.candidates()
    if fresh is not None:
        if source.path in candidates and collected.maps:
            work.save(_views(name), {}, fresh.views)
        work.save(name, record, tensors)
    for path in before - candidates:
        work.drop(_views(names[path]))


def _examined(collected: Collection, source: Source, told: _Told) -> Any:
    """Read and examine a clip; None if that fails, which is recorded."""
    told.start(source)
    try:
        clip = _decoded(collected, source)
    except (ClipError, UnknownNameError, OSError) as error:
        collected.failed.append({"clip": source.name, "reason": str(error)})
        return None
    try:
        examined = examine(collected, clip, told.inside)
    except (ClipError, ModelError) as error:
        collected.failed.append({"clip": source.name, "reason": str(error)})
        return None
    refused = examined.record["refused"]
    if refused and not collected.entries and collected.options.methods is not None:
        # Raise immediately rather than after hours: a method's refusal nearly always concerns the model.
        raise ModelError("; ".join(refused.values()))
    for step, seconds in examined.record["seconds"].items():
        if step:
            collected.seconds[step] = collected.seconds.get(step, 0.0) + seconds
    return examined


def _views(name: str) -> str:
    return f"{name}-views"


def _classes(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, list[str]]:
    """Return every class of every classification head, numbered if unnamed."""
    heads = {
        key.removeprefix("probabilities/"): value[None]
        for key, value in tensors.items()
        if key.startswith("probabilities/")
    }
    specs = output_specs(model, heads)
    order = [spec.name for spec in specs.values()]
    named = {}
    for head in sorted(heads, key=order.index):
        labels = dict(enumerate(specs[head].labels))
        named[head] = [labels.get(index, str(index)) for index in range(heads[head].shape[1])]
    return named


class _Told:
    """Progress over clips, with the remaining time."""

    def __init__(self, progress: Callable[[str, int, int], None], total: int, waiting: int) -> None:
        self.progress, self.total, self.waiting = progress, total, waiting
        self.done = self.examined = 0
        #: Start time of the second examined clip: the first includes imports.
        self.began = 0.0
        self.step = ""
        self.steps: list[str] = []
        self.expected = 0

    def kept(self) -> None:
        """Count a cached clip."""
        self.done += 1
        self.progress("clips kept from an earlier run", self.done, self.total)

    def start(self, source: Source) -> None:
        """Begin the next clip."""
        left = ""
        if self.examined:
            self.expected = max(self.expected, len(self.steps))
        if self.examined == 1:
            self.began = time.perf_counter()
        elif self.examined > 1:
            each = (time.perf_counter() - self.began) / (self.examined - 1)
            left = f", {_duration(each * max(self.waiting - self.examined, 0))} left"
        self.steps = []
        self.done += 1
        self.examined += 1
        self.step = f"clip {self.done} of {self.total}{left}: {source.name}"
        self.progress(self.step, 0, 1)

    def inside(self, step: str, _done: int, _total: int) -> None:
        """Report progress within a clip, as steps done relative to the previous clip's."""
        if step not in self.steps:
            self.steps.append(step)
        if self.expected:
            self.progress(self.step, min(len(self.steps) - 1, self.expected - 1), self.expected)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def sentence(collected: Collection) -> str:
    """Summarize the predictions for all clips in one sentence."""
    known, head = collected.known, collected.head
    what = "images" if all(one.record["frames"] == 1 for one in collected.entries) else "clips"
    if known and head is not None:
        right = sum(bool(one.right) for one in known)
        return f"It is right on {right} of {len(known)} {what}{_of(collected, head)}: {100 * right / len(known):.0f} %."
    if head is None:
        return _far(collected)
    if len(collected.entries) == 1:
        return f"It was asked about one {what.removesuffix('s')}; its true class is not known."
    return f"It was asked about {len(collected.entries)} {what}; their true classes are not known."


def _far(collected: Collection) -> str:
    """Describe the mean error of output clips; empty if there is none."""
    entries = [one for one in collected.entries if one.error is not None]
    if not entries:
        return ""
    heads = entries[0].record["heads"]
    name = next(name for name, said in heads.items() if said["kind"] == "clip" and collections.measured(said))
    said = f"Its mean squared error from {compared_with(heads[name])} is {_mean(one.error for one in entries)}"
    again = [one.record["heads"][name].get("last_frame_again") for one in entries]
    if None not in again:
        said += f", that of the last frame again {_mean(again)}"
    return f"{said}, on average over {len(entries)} {'clip' if len(entries) == 1 else 'clips'}."


def _mean(values: Iterable[float | None]) -> str:
    return number_text(fmean(one for one in values if one is not None))


def _of(collected: Collection, head: str) -> str:
    return f" ({head})" if len(collected.classes) > 1 else ""


def notices(collected: Collection) -> list[str]:
    """Return the notices for the reader."""
    said = [f"{one['clip']} is left out: {one['reason']}" for one in collected.failed[:_NAMED]]
    if collected.failed[_NAMED:]:
        said.append(f"{len(collected.failed) - _NAMED} more clips are left out; the table of all clips names them.")
    labelled = [one for one in collected.entries if one.label]
    unknown = list(dict.fromkeys(one.label for one in labelled if not one.truth))
    if unknown and collected.classes:
        shown = ", ".join(repr(label) for label in unknown[:3]) + (", ..." if unknown[3:] else "")
        what = (
            "None of the labels is" if len(unknown) == len({one.label for one in labelled}) else "Some labels are not"
        )
        said.append(f"{what} a class of this model ({shown}): those clips are neither right nor wrong.")
    refused: dict[str, list[str]] = {}
    for one in collected.entries:
        for method, reason in one.record["refused"].items():
            refused.setdefault(method, []).append(reason)
    for method, reasons in refused.items():
        some = "" if len(reasons) == len(collected.entries) else f" of {len(reasons)} clips"
        said.append(f"{method} is left out{some}: {reasons[0]}")
    return said
