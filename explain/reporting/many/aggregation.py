"""What is known of many clips together: entries, groups and their means."""

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

#: Methods where none were asked for: a gradient, what it adds up to, its path integral, and what late layers hold.
DEFAULT = ("saliency", "input_x_gradient", "integrated_gradients", "grad_cam_per_frame")

#: The same for images, whose two Grad-CAMs are one.
DEFAULT_ON_IMAGES = (*DEFAULT[:-1], "grad_cam")


#: Clips shown of either end.
SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One clip that could be read."""

    source: Source
    #: As `examining.Examined`.
    record: Mapping[str, Any]
    #: Output of classes that the clip is judged by; None where the model has none.
    head: str | None
    #: True class of each output that its label names.
    truth: Mapping[str, int]
    #: Likeliest class of each output of classes.
    said: Mapping[str, int]
    #: Probability of the true class, of the likeliest one where the truth is not known; without classes the number
    #: explained.
    score: float
    #: Mean squared error of the first output clip that has one; None where an output of classes judges, or none has.
    error: float | None
    #: Method -> each frame's share of the map.
    time: Mapping[str, Tensor]
    thumbnail: Tensor

    @property
    def right(self) -> bool | None:
        """Whether the likeliest class is the true one; None where the truth is not known."""
        if self.head is None or self.head not in self.truth:
            return None
        return self.truth[self.head] == self.said[self.head]

    @property
    def worth(self) -> float:
        """Higher is better: the score, or less error."""
        return self.score if self.error is None else -self.error

    @property
    def order(self) -> tuple[bool, bool, float, str]:
        """Sorts the best first: what is right before what is wrong, then by worth; last come those without an error."""
        return (self.right is False, self.error is None, -self.worth, self.source.name)

    @property
    def label(self) -> str | None:
        """What the clip shows, as a folder, a list or the clip itself says."""
        return self.source.label or self.record["shown"]


def entry(
    source: Source, record: Mapping[str, Any], tensors: Mapping[str, Tensor], classes: Mapping[str, Sequence[str]]
) -> Entry:
    """A clip with what its label says about it.

    Args:
        source: Where it is from.
        record: As `examining.Examined`.
        tensors: The same.
        classes: Labels of every output of classes, in the order of the outputs.
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
    """The number that tells what an output says of a clip, and its unit; None where no number does.

    A value's own, and an output clip's mean squared error from the clip that it has the shape of, or that it predicts.
    """
    if said["kind"] == "value":
        return said["value"], said["unit"]
    if said["kind"] == "clip" and said["squared_error"] is not None:
        return said["squared_error"], f"mean squared error from {compared_with(said)}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Clips that have something in common."""

    name: str
    entries: Sequence[Entry]

    @property
    def worth(self) -> float:
        """The mean of theirs; of those with an error where any has one."""
        judged = [one for one in self.entries if one.error is not None] or self.entries
        return fmean(one.worth for one in judged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection(Subject):
    """One model on many clips; given to every section's `clips`."""

    model: nn.Module
    device: str
    #: What was asked for: a folder, a list, a wildcard.
    place: str
    #: The target, as it was asked for; each clip has its own.
    asked: Any = None
    #: Seconds of each clip between which it is cut, `start` and `end`.
    part: tuple[float, float | None] = (0.0, None)
    #: Whether maps are made, and whether they are tested.
    maps: bool = True
    tests: bool = True
    #: In the order found.
    entries: list[Entry] = field(default_factory=list)
    #: The same, the best first.
    ranked: list[Entry] = field(default_factory=list)
    #: Those left out: `clip` and `reason`.
    failed: list[dict[str, str]] = field(default_factory=list)
    #: Output -> its classes.
    classes: dict[str, list[str]] = field(default_factory=dict)
    #: Method -> sum of all clips' shares by row and column, and of how many clips.
    places: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    #: What is shown of the best and the worst clips: name -> `examining.Examined.views`.
    views: dict[str, Mapping[str, Tensor]] = field(default_factory=dict)

    def add(self, one: Entry, tensors: Mapping[str, Tensor]) -> None:
        """Take in one more clip; maps are added up, not kept."""
        self.entries.append(one)
        bisect.insort(self.ranked, one, key=lambda other: other.order)
        for method in one.time:
            share = tensors[f"space/{method}"].double()
            if bool(share.any()):
                before, count = self.places.get(method, (torch.zeros_like(share), 0))
                self.places[method] = (before + share, count + 1)

    @property
    def asked_methods(self) -> tuple[str, ...]:
        """The attribution methods that are run, in the order shown."""
        entry = entry_of(self.model)
        usual = DEFAULT_ON_IMAGES if entry is not None and entry.input.frames == 1 else DEFAULT
        return (self.options.methods or usual) if self.maps else ()

    @property
    def methods(self) -> list[str]:
        """Methods that gave a map of any clip, in their order."""
        found = {method for one in self.entries for method in one.time}
        return [method for method in self.asked_methods if method in found]

    @property
    def head(self) -> str | None:
        """The output of classes that clips are judged by."""
        return self.entries[0].head

    @property
    def known(self) -> list[Entry]:
        """Clips whose true class is known."""
        return [one for one in self.entries if one.right is not None]

    @property
    def judged(self) -> list[Entry]:
        """The clips that can be told good or bad, the best first: those with an error where any has one, else all."""
        return [one for one in self.ranked if one.error is not None] or self.ranked

    def extremes(self) -> tuple[list[Entry], list[Entry]]:
        """The best clips, best first, and the worst, worst first; none is in both."""
        judged = self.judged
        half = (len(judged) + 1) // 2
        return judged[: min(SHOWN, half)], judged[half:][::-1][:SHOWN]

    def candidates(self) -> set[str]:
        """Clips that may be among the extremes, whatever the clips to come are."""
        judged = self.judged
        return {one.source.path for one in [*judged[:SHOWN], *judged[-SHOWN:]]}

    def groups(self) -> tuple[str, list[Group]]:
        """What clips are grouped by, in words, and the groups: largest first, of equals the hardest.

        By true class where labels name classes, by label where several clips share one, else by predicted class.
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
        """A class in words; with its output where there are several."""
        label = self.classes[head][index]
        return f"{head} {label}" if len(self.classes) > 1 else label

    def true_class(self, one: Entry) -> str | None:
        """The true class of the output that clips are judged by, where it is known."""
        if one.head is None or one.head not in one.truth:
            return None
        return self.classes[one.head][one.truth[one.head]]

    def _true(self, one: Entry, head: str) -> str:
        return self.class_name(head, one.truth[head]) if head in one.truth else "not known"
