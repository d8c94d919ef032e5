"""What checking robustness gives: curves over the strength of each perturbation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from explain.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: "share": a mean of zeros and ones, 1 is best; "probability": in [0, 1]; "error": 0 is best; "number": anything.
Kind = Literal["share", "probability", "error", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number that is read off a model's output for each sample."""

    #: Unique in a result: "digit unchanged", "speed change".
    name: str
    kind: Kind
    #: What it is, in words.
    summary: str
    unit: str = ""
    #: Further lines to compare with, by what they are: the error of a blank picture.
    lines: Mapping[str, float] = field(default_factory=dict)

    @property
    def bounded(self) -> bool:
        """Whether it lies within 0 and 1."""
        return self.kind in {"share", "probability"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One perturbation, stronger and stronger. Numbers are 64-bit, on the CPU."""

    #: Name, heading, and what a level is.
    perturbation: str
    title: str
    level: str
    #: L + 1 levels, ascending; at the first one nothing is changed.
    levels: Tensor
    #: By measure: L + 1 means over samples and draws.
    mean: Mapping[str, Tensor]
    #: By measure: L + 1 standard errors of the mean, over samples (each the mean of its draws) where there are several,
    #: else over draws; NaN where there is one of both.
    error: Mapping[str, Tensor]
    #: By measure: L + 1 x draws x N; empty where a recipe's evaluation gave the means alone.
    values: Mapping[str, Tensor] = field(default_factory=dict)

    def first_change(self, measure: str) -> float | None:
        """The lowest level at which a share is below that of the unchanged clips; None where it never is."""
        return self._first(self.mean[measure] < self.mean[measure][0])

    def half_lost(self, measure: str) -> float | None:
        """The lowest level at which half or less is left of a share; None where more is left at every level."""
        share = self.mean[measure]
        return self._first((share <= share[0] / 2) & (share < share[0]))

    def beyond(self, measure: str, value: float) -> float | None:
        """The lowest level at which a measure is above a value, such as a line's; None where it never is."""
        return self._first(self.mean[measure] > value)

    def _first(self, where: Tensor) -> float | None:
        found = where.nonzero().flatten().tolist()
        return float(self.levels[found[0]]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Robustness(Saved):
    """What perturbations of growing strength do to a model's output."""

    #: What is measured, by name, in the order shown.
    measures: Mapping[str, Measure]
    #: By perturbation, in the order shown.
    curves: Mapping[str, Curve]
    #: How many clips were perturbed.
    samples: int
    #: Perturbations that do not apply, and why.
    missing: Mapping[str, str] = field(default_factory=dict)
    #: Levels, draws, fill, seed and the like, as used.
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shares(self) -> list[Measure]:
        """The measures whose levels of first change and half loss can be told."""
        return [measure for measure in self.measures.values() if measure.kind == "share"]

    @property
    def lined(self) -> list[Measure]:
        """The errors that have lines to compare with."""
        return [measure for measure in self.measures.values() if measure.kind == "error" and measure.lines]

    def record(self) -> dict[str, Any]:
        """Every number but those of single samples, as plain data; None where there is no number."""
        return {
            "samples": self.samples,
            "measures": {
                one.name: {"kind": one.kind, "summary": one.summary, "unit": one.unit, "lines": dict(one.lines)}
                for one in self.measures.values()
            },
            "curves": {
                name: {
                    "title": curve.title,
                    "level": curve.level,
                    "levels": curve.levels.tolist(),
                    "mean": {measure: _numbers(values) for measure, values in curve.mean.items()},
                    "standard_error": {measure: _numbers(values) for measure, values in curve.error.items()},
                    "first_change": {one.name: curve.first_change(one.name) for one in self.shares},
                    "half_lost": {one.name: curve.half_lost(one.name) for one in self.shares},
                    "beyond": {
                        one.name: {what: curve.beyond(one.name, value) for what, value in one.lines.items()}
                        for one in self.lined
                    },
                }
                for name, curve in self.curves.items()
            },
            "missing": dict(self.missing),
            "settings": dict(self.settings),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Levels, and single numbers or, where there are none, means: "PERTURBATION/levels", "PERTURBATION/NAME"."""
        found = {}
        for name, curve in self.curves.items():
            found[f"{name}/levels"] = curve.levels
            found |= {f"{name}/{measure}": values for measure, values in (curve.values or curve.mean).items()}
        return found

    def plot(self) -> Figure:
        """Draw what each perturbation does to the output, level by level, with standard errors."""
        return self._plot()


def _numbers(values: Tensor) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
