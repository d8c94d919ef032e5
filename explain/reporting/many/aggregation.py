"""Aggregation over many clips: entries, groups and their means."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from explain.model.layouts import entry_of
from explain.reporting.context import Subject
from explain.reporting.reading import compared_with
from explain.sources import Source, shown, truths
from zoo.names import natural

#: Default methods: a gradient, its product with the input, its path integral, and a late layer's activation.
DEFAULT = ("saliency", "input_x_gradient", "integrated_gradients", "grad_cam_per_frame")

#: Default methods for images, for which both Grad-CAMs coincide.
DEFAULT_ON_IMAGES = (*DEFAULT[:-1], "grad_cam")


#: Number of best and of worst clips shown.
SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One clip that could be read."""

    source: Source
    #: See `examining.Examined`.
    record: Mapping[str, Any]
    #: Classification head by which the clip is judged; None if the model has none.
    head: str | None
    #: True class of each head that its label names.
    truth: Mapping[str, int]
    #: Predicted class of each classification head.
    said: Mapping[str, int]
    #: Probability of the true class, or of the predicted class if the truth is unknown; without classes the explained
    #: output.
    score: float
    #: Mean squared error of the first output clip that has one; None if a classification head is used, or none has one.
    error: float | None
    #: Method -> each frame's share of the map.
    time: Mapping[str, Tensor]
    thumbnail: Tensor

    @property
    def right(self) -> bool | None:
        """Check whether the predicted class is the true one; None if the truth is unknown."""
        if self.head is None or self.head not in self.truth:
            return None
        return self.truth[self.head] == self.said[self.head]

    @property
    def worth(self) -> float:
        """Return a value that is higher for better clips: the score, or the negative error."""
        return self.score if self.error is None else -self.error

    @property
    def order(self) -> tuple[bool, bool, float, str]:
        """Return the sort key, best first: right before wrong, then by worth; clips without an error come last."""
        return (self.right is False, self.error is None, -self.worth, self.source.name)

    @property
    def label(self) -> str | None:
        """Return the label from the folder, list or clip."""
        return self.source.label or self.record["shown"]


def entry(
    source: Source, record: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Mapping[str, Sequence[str]]
) -> Entry:
    """Create the entry of a clip from its label and results.

    Args:
        source: The clip's source.
        record: As in `examining.Examined`.
        tensors: As in `examining.Examined`.
        classes: Labels of every classification head, in order.
    """
    head = record["head"] if record["head"] in classes else next(iter(classes), None)
    truth = truths(source.label or record["shown"], classes)
    if source.label is None:
        truth |= shown(record["classes"], classes)
    probabilities = {name: tensors[f"probabilities/{name}"] for name in classes}
    said = {name: int(values.argmax()) for name, values in probabilities.items()}
    score = float(record["value"])
    if head is not None:
        score = float(probabilities[head][truth.get(head, said[head])])
    errors = [found[0] for one in record["heads"].values() if one["kind"] == "clip" and (found := measured(one))]
    time = {key.removeprefix("time/"): value for key, value in tensors.items() if key.startswith("time/")}
    return Entry(
        source=source,
        record=record,
        head=head,
        truth=truth,
        said=said,
        score=score,
        error=errors[0] if errors and head is None else None,
        time=time,
        thumbnail=tensors["thumbnail"],
    )


def measured(said: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the number that represents a head's output for a clip, and its unit; None if there is none.

    For values the value, for output clips the mean squared error to the clip of the same shape, or to the predicted
    frames.
    """
    if said["kind"] == "value":
        return said["value"], said["unit"]
    if said["kind"] == "clip" and said["squared_error"] is not None:
        return said["squared_error"], f"mean squared error from {compared_with(said)}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of clips."""

    name: str
    entries: Sequence[Entry]

    @property
    def worth(self) -> float:
        """Return the mean worth; of clips with an error if any has one."""
        judged = [one for one in self.entries if one.error is not None] or self.entries
        return fmean(one.worth for one in judged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Subject):
    """One model on many clips; passed to the `clips` function of every section."""

    model: nn.Module
    device: str
    #: The requested folder, list or wildcard.
    place: str
    #: The requested target; each clip has its own.
    asked: Any = None
    #: Temporal range of each clip in seconds, `start` and `end`.
    part: tuple[float, float | None] = (0.0, None)
    #: Whether maps are computed, and whether they are tested.
    maps: bool = True
    tests: bool = True
    #: Entries in the order found.
    entries: list[Entry] = field(default_factory=list)
    #: Entries, best first.
    ranked: list[Entry] = field(default_factory=list)
    #: Skipped clips: `clip` and `reason`.
    failed: list[dict[str, str]] = field(default_factory=list)
    #: Head -> its classes.
    classes: dict[str, list[str]] = field(default_factory=dict)
    #: Method -> sum of all clips' shares by row and column, and the number of clips.
    places: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    #: Images of the best and the worst clips: name -> `examining.Examined.views`.
    views: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def add(self, one: Entry, tensors: Mapping[str, Tensor]) -> None:
        """Add a clip; maps are summed, not stored."""
        self.entries.append(one)
        bisect.insort(self.ranked, one, key=lambda other: other.order)
        for method in one.time:
            share = tensors[f"space/{method}"].double()
            if bool(share.any()):
                before, count = self.places.get(method, (torch.zeros_like(share), 0))
                self.places[method] = (before + share, count + 1)

    @property
    def asked_methods(self) -> tuple[str, ...]:
        """Return the attribution methods that are run, in display order."""
        entry = entry_of(self.model)
        usual = DEFAULT_ON_IMAGES if entry is not None and entry.input.frames == 1 else DEFAULT
        return (self.options.methods or usual) if self.maps else ()

    @property
    def methods(self) -> list[str]:
        """Return the methods with a map for any clip, in order."""
        found = {method for one in self.entries for method in one.time}
        return [method for method in self.asked_methods if method in found]

    @property
    def head(self) -> str | None:
        """Return the classification head by which clips are judged."""
        return self.entries[0].head

    @property
    def known(self) -> list[Entry]:
        """Return the clips whose true class is known."""
        return [one for one in self.entries if one.right is not None]

    @property
    def judged(self) -> list[Entry]:
        """Return the clips that can be ranked, best first: those with an error if any has one, else all."""
        return [one for one in self.ranked if one.error is not None] or self.ranked

    def extremes(self) -> tuple[list[Entry], list[Entry]]:
        """Return the best clips, best first, and the worst, worst first, without overlap."""
        judged = self.judged
        half = (len(judged) + 1) // 2
        return judged[: min(SHOWN, half)], judged[half:][::-1][:SHOWN]

    def candidates(self) -> set[str]:
        """Return clips that may be among the extremes, whatever clips follow."""
        judged = self.judged
        return {one.source.path for one in [*judged[:SHOWN], *judged[-SHOWN:]]}

    def groups(self) -> tuple[str, list[Group]]:
        """Return the grouping criterion in words, and the groups: largest first, ties by difficulty.

        By true class if labels name classes, by label if several clips share one, else by predicted class.
        """
        head = self.head
        if head is not None and self.known:
            by, names = "true class", [self._true(one, head) for one in self.entries]
        elif any(one.label for one in self.entries) and len({one.label for one in self.entries}) < len(self.entries):
            by, names = "label", [one.label or "no label" for one in self.entries]
        elif head is not None:
            by, names = "predicted class", [self.class_name(head, one.said[head]) for one in self.entries]
        else:
            by, names = "", ["all clips"] * len(self.entries)
        members: dict[str, list[Entry]] = {}
        for one, name in zip(self.entries, names, strict=True):
            members.setdefault(name, []).append(one)
        groups = [Group(name=name, entries=entries) for name, entries in members.items()]
        return by, sorted(groups, key=lambda group: (-len(group.entries), group.worth, natural(group.name)))

    def class_name(self, head: str, index: int) -> str:
        """Return the name of a class, with its head if there are several."""
        label = self.classes[head][index]
        return f"{head} {label}" if len(self.classes) > 1 else label

    def true_class(self, one: Entry) -> str | None:
        """Return the true class of the head by which clips are judged, if known."""
        if one.head is None or one.head not in one.truth:
            return None
        return self.classes[one.head][one.truth[one.head]]

    def _true(self, one: Entry, head: str) -> str:
        return self.class_name(head, one.truth[head]) if head in one.truth else "not known"
