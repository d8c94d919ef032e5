"""Results of `check_faithfulness`."""

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

#: Outcome of a verdict, or of one of its parts.
Word = Literal["passes", "inconclusive", "flagged"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Shares of the unchanged output (`explain.faithfulness.curves`) as the clip is removed and restored."""

    #: "spatial": a pixel in all frames; "temporal": a frame; "both": a pixel of one frame.
    kind: str
    #: Share of the clip that is removed at each point of a deletion curve, from 0 to 1.
    removed: Tensor
    #: Share of the clip that is present at each point of an insertion curve, from 0 to 1.
    shown: Tensor
    #: N x points: in the order of the map.
    deletion: Tensor
    insertion: Tensor
    #: Draws x N x points: in random order.
    random_deletion: Tensor
    random_insertion: Tensor
    #: N x points: in center-first order.
    centre_deletion: Tensor
    centre_insertion: Tensor

    def area(self, curves: Tensor) -> Tensor:
        """Return areas under deletion curves (... x points): the mean share, by the trapezoidal rule."""
        return torch.trapezoid(curves, self.removed)

    def inserted_area(self, curves: Tensor) -> Tensor:
        """Return areas under insertion curves."""
        return torch.trapezoid(curves, self.shown)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Randomized:
    """Comparison with the map of a model whose last layers are randomized."""

    #: The deepest randomized layer, and the number of randomized layers, counted from the model's end.
    layer: str
    depth: int
    #: N: Spearman's rank correlation with the map of the original model, the mean over draws of random weights; NaN
    #: where undefined.
    correlation: Tensor
    #: Draws x N: the same for each draw; None in results of earlier versions, which drew once.
    draws: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict on the faithfulness of a map; the rules are in `explain.faithfulness.verdicts`."""

    #: "flagged" if any part is, else "inconclusive" if any part is, else "passes".
    word: Word
    #: Each part by name ("model", "deletion", "frames", "stability"): its outcome, and a sentence with the reason.
    parts: Mapping[str, tuple[Word, str]]

    def __post_init__(self) -> None:
        """Convert the value "unsure" of version 0.1."""
        renamed = {"unsure": "inconclusive"}
        object.__setattr__(self, "word", renamed.get(self.word, self.word))
        parts = {name: (renamed.get(word, word), sentence) for name, (word, sentence) in self.parts.items()}
        object.__setattr__(self, "parts", parts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Return the sentences of all parts."""
        return tuple(sentence for _, sentence in self.parts.values())

    def __str__(self) -> str:
        return f"{self.word}: {' '.join(self.reasons)}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Faithfulness(Saved):
    """Faithfulness of one method's map of one batch. Numbers are 64-bit, on the CPU."""

    #: Name of the method, and its target.
    method: str
    target: str
    #: N: the explained output for the clip, and for the baseline.
    value: Tensor
    empty: Tensor
    #: Curves by kind; the last one tests the map at full detail. Kinds that do not apply are in `missing`.
    curves: Mapping[str, Curves]
    #: Measures by name (`explain.faithfulness.measures`), N each; those that could not be measured are in `missing`.
    measures: Mapping[str, Tensor]
    #: Results by depth, from the model's end; empty if no map could be recomputed.
    randomization: tuple[Randomized, ...]
    verdict: Verdict
    #: Omitted tests and the reasons: "temporal" -> "the clip has one frame".
    missing: Mapping[str, str] = field(default_factory=dict)
    #: Steps, draws, baseline and the like, as used.
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def restored(cls, fields: dict[str, Any]) -> Self:
        """Read the format of version 0.1, which had a field for each measure."""
        former = {name: fields.pop(name) for name in ("infidelity", "sensitivity") if name in fields}
        kept = {name: values for name, values in former.items() if values is not None}
        return cls(**{**fields, "measures": {**kept, **fields.get("measures", {})}})

    @property
    def infidelity(self) -> Tensor | None:
        """Return the share of the output's squared changes, as boxes are removed, that the map does not explain: N.

        At its best scale: 0 explains all of them, 1 none. NaN where the output never changes.
        """
        return self.measures.get("infidelity")

    @property
    def sensitivity(self) -> Tensor | None:
        """Return the largest change of the map under small noise, relative to the map (Frobenius norms): N."""
        return self.measures.get("sensitivity")

    @property
    def main(self) -> Curves:
        """Return the curves that test the map at full detail: pixels of frames, or pixels of an image."""
        return list(self.curves.values())[-1]

    @property
    def deletion(self) -> Tensor:
        """Return the area under the deletion curve, as a share of the unchanged output: N; lower is better."""
        return self.main.area(self.main.deletion)

    @property
    def insertion(self) -> Tensor:
        """Return the area under the insertion curve, as a share of the unchanged output: N; higher is better."""
        return self.main.inserted_area(self.main.insertion)

    def record(self) -> dict[str, Any]:
        """Return every number as plain data, means over samples, None where undefined."""
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
        """Plot the curves with their controls, and the correlations with maps of randomized models.

        Args:
            sample: Sample of the batch; None plots means over all.

        Raises:
            UsageError: The sample does not exist.
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
    """Return the spread of random orders, and the interval of 90% of them."""
    from explain.faithfulness.verdicts import chance

    random = chance(curves)
    found = {"spread": random.spread, "low": random.low, "high": random.high}
    return {name: _number(value) for name, value in found.items()} | {"draws": random.draws}


def _one(curves: Tensor, areas: Tensor) -> dict[str, Any]:
    """Return a mean curve, and the mean area."""
    return {"curve": [_number(value) for value in curves.nanmean(dim=0).tolist()], "area": _mean(areas)}


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else _number(float(values.nanmean()))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
