"""What `check_faithfulness` returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from explain.faithfulness.measures import all_tests
from explain.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: How a verdict, or a part of it, ends.
Word = Literal["passes", "inconclusive", "flagged"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Shares of the unchanged output (`explain.faithfulness.curves`) as the clip is taken away and given back."""

    #: "spatial": a pixel in all frames; "temporal": a frame; "both": a pixel of one frame.
    kind: str
    #: Share of the clip that is gone at each point of a deletion curve, from 0 to 1.
    removed: Tensor
    #: Share of the clip that is there at each point of an insertion curve, from 0 to 1.
    shown: Tensor
    #: N x points: in the order of the map.
    deletion: Tensor
    insertion: Tensor
    #: Draws x N x points: in random order.
    random_deletion: Tensor
    random_insertion: Tensor
    #: N x points: the middle first.
    centre_deletion: Tensor
    centre_insertion: Tensor

    def area(self, curves: Tensor) -> Tensor:
        """Areas under deletion curves (... x points): the mean share on the way, by trapezoids."""
        return torch.trapezoid(curves, self.removed)

    def inserted_area(self, curves: Tensor) -> Tensor:
        """Areas under insertion curves."""
        return torch.trapezoid(curves, self.shown)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Randomized:
    """The map of a model whose last layers were given random weights."""

    #: The layer that was randomised last, and how many were, counted from the model's end.
    layer: str
    depth: int
    #: N: Spearman's rank correlation with the map of the model as it is, the mean over draws of random weights; NaN
    #: where there is none.
    correlation: Tensor
    #: Draws x N: the same for each draw; None in results of earlier versions, which drew once.
    draws: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a map can be trusted, in words: the rules are in `explain.faithfulness.verdicts`."""

    #: "flagged" if any part is, else "inconclusive" if any part is, else "passes".
    word: Word
    #: Each part by name ("model", "deletion", "frames", "stability"): its word, and a sentence that says why.
    parts: Mapping[str, tuple[Word, str]]

    def __post_init__(self) -> None:
        """Read what 0.1 called "unsure"."""
        renamed = {"unsure": "inconclusive"}
        object.__setattr__(self, "word", renamed.get(self.word, self.word))
        parts = {name: (renamed.get(word, word), sentence) for name, (word, sentence) in self.parts.items()}
        object.__setattr__(self, "parts", parts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of all parts."""
        return tuple(sentence for _, sentence in self.parts.values())

    def __str__(self) -> str:
        return f"{self.word}: {' '.join(self.reasons)}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Faithfulness(Saved):
    """How far one method's map of one batch can be trusted. Numbers are 64-bit, on the CPU."""

    #: Name of the method, and what it explained.
    method: str
    target: str
    #: N: the number explained for the clip, and for the baseline that stands for "nothing there".
    value: Tensor
    empty: Tensor
    #: By kind; the last one judges the map as it is. Kinds that do not apply are in `missing`.
    curves: Mapping[str, Curves]
    #: By name (`explain.faithfulness.measures`), N each; those that could not be measured are in `missing`.
    measures: Mapping[str, Tensor]
    #: Depth after depth, from the model's end; empty where no map could be made again.
    randomization: tuple[Randomized, ...]
    verdict: Verdict
    #: What was left out, and why: "temporal" -> "the clip has one frame".
    missing: Mapping[str, str] = field(default_factory=dict)
    #: Steps, draws, baseline and the like, as used.
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def restored(cls, fields: dict[str, Any]) -> Self:
        """Read what 0.1 kept, which had a field for each measure."""
        former = {name: fields.pop(name) for name in ("infidelity", "sensitivity") if name in fields}
        kept = {name: values for name, values in former.items() if values is not None}
        return cls(**{**fields, "measures": {**kept, **fields.get("measures", {})}})

    @property
    def infidelity(self) -> Tensor | None:
        """N: share of the squared changes of the output, as boxes of the clip are removed, that the map leaves open.

        At its best scale: 0 accounts for all of them, 1 for none. NaN where the output never changes.
        """
        return self.measures.get("infidelity")

    @property
    def sensitivity(self) -> Tensor | None:
        """N: largest change of the map under small noise, relative to the map (Frobenius norms)."""
        return self.measures.get("sensitivity")

    @property
    def main(self) -> Curves:
        """The curves that judge the map as it is: pixels of frames, or pixels of an image."""
        return list(self.curves.values())[-1]

    @property
    def deletion(self) -> Tensor:
        """N: area under the deletion curve, as a share of the unchanged output; the lower, the better the map."""
        return self.main.area(self.main.deletion)

    @property
    def insertion(self) -> Tensor:
        """N: area under the insertion curve, as a share of the unchanged output; the higher, the better the map."""
        return self.main.inserted_area(self.main.insertion)

    def record(self) -> dict[str, Any]:
        """Give every number as plain data, means over samples, None where there is no number."""
        verdict = self.verdict
        names = dict.fromkeys([*(test.name for test in all_tests()), *self.measures])
        return {
            "method": self.method,
            "target": self.target,
            "verdict": verdict.word,
            "reasons": {name: {"verdict": word, "text": text} for name, (word, text) in verdict.parts.items()},
            "value": _mean(self.value),
            "empty": _mean(self.empty),
            "curves": {kind: _curves(curves) for kind, curves in self.curves.items()},
            **{name: _mean(self.measures.get(name)) for name in names},
            "randomization": [
                {
                    "layer": one.layer,
                    "depth": one.depth,
                    "correlation": _mean(one.correlation),
                    "draws": None
                    if one.draws is None
                    else [_number(value) for value in one.draws.nanmean(dim=1).tolist()],
                }
                for one in self.randomization
            ],
            "missing": dict(self.missing),
            "settings": dict(self.settings),
        }

    def plot(self, sample: int | None = None) -> Figure:
        """Draw the curves with their controls, and the correlations with maps of randomised models.

        Args:
            sample: Which sample of the batch; None draws means over all.

        Raises:
            UsageError: There is no such sample.
        """
        return self._plot(sample)


def _curves(curves: Curves) -> dict[str, Any]:
    random = (
        curves.area(curves.random_deletion).nanmean(dim=1),
        curves.inserted_area(curves.random_insertion).nanmean(dim=1),
    )
    return {
        "removed": curves.removed.tolist(),
        "shown": curves.shown.tolist(),
        "deletion": _one(curves.deletion, curves.area(curves.deletion)),
        "insertion": _one(curves.insertion, curves.inserted_area(curves.insertion)),
        "random_deletion": {
            **_one(curves.random_deletion.flatten(0, 1), random[0]),
            **_sampling(curves),
        },
        "random_insertion": {
            **_one(curves.random_insertion.flatten(0, 1), random[1]),
            "spread": _mean(random[1].std(correction=1)),
        },
        "centre_deletion": _one(curves.centre_deletion, curves.area(curves.centre_deletion)),
        "centre_insertion": _one(curves.centre_insertion, curves.inserted_area(curves.centre_insertion)),
    }


def _sampling(curves: Curves) -> dict[str, Any]:
    """The spread of random orders, and where 90 % of them lie."""
    from explain.faithfulness.verdicts import chance

    random = chance(curves)
    found = {"spread": random.spread, "low": random.low, "high": random.high}
    return {name: _number(value) for name, value in found.items()} | {"draws": random.draws}


def _one(curves: Tensor, areas: Tensor) -> dict[str, Any]:
    """A mean curve, and the mean area."""
    return {"curve": [_number(value) for value in curves.nanmean(dim=0).tolist()], "area": _mean(areas)}


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else _number(float(values.nanmean()))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
