"""Results of robustness checks: curves over the strength of each perturbation."""

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
    """A number computed from a model's output for each sample."""

    #: Unique in a result: "digit unchanged", "speed change".
    name: str
    kind: Kind
    #: Description of the measure.
    summary: str
    unit: str = ""
    #: Reference lines by description, such as the error of a blank image.
    lines: Mapping[str, float] = field(default_factory=dict)

    @property
    def bounded(self) -> bool:
        """Check whether values are between 0 and 1."""
        return self.kind in {"share", "probability"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One perturbation at increasing levels. Numbers are 64-bit, on the CPU."""

    #: Name, heading, and description of a level.
    perturbation: str
    title: str
    level: str
    #: L + 1 levels, ascending; at the first, the clip is unchanged.
    levels: Tensor
    #: By measure: L + 1 means over samples and draws.
    mean: Mapping[str, Tensor]
    #: By measure: L + 1 standard errors of the mean, over samples (each the mean of its draws) if there are several,
    #: else over draws; NaN for a single sample and draw.
    error: Mapping[str, Tensor]
    #: By measure: L + 1 x draws x N; empty if a recipe's evaluation returned only means.
    values: Mapping[str, Tensor] = field(default_factory=dict)

    def first_change(self, measure: str) -> float | None:
        """Return the lowest level at which a share is below that of the unchanged clips; None if there is none."""
        return self._first(self.mean[measure] < self.mean[measure][0])

    def half_lost(self, measure: str) -> float | None:
        """Return the lowest level at which half or less is left of a share; None if there is none."""
        share = self.mean[measure]
        return self._first((share <= share[0] / 2) & (share < share[0]))

    def beyond(self, measure: str, value: float) -> float | None:
        """Return the lowest level at which a measure exceeds a value, such as a line's; None if there is none."""
        return self._first(self.mean[measure] > value)

    def _first(self, where: Tensor) -> float | None:
        found = where.nonzero().flatten().tolist()
        return float(self.levels[found[0]]) if found else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Robustness(Saved):
    """Effect of perturbations of growing strength on a model's output."""

    #: Measures by name, in display order.
    measures: Mapping[str, Measure]
    #: Curves by perturbation, in display order.
    curves: Mapping[str, Curve]
    #: Number of perturbed clips.
    samples: int
    #: Perturbations that do not apply, with the reason.
    missing: Mapping[str, str] = field(default_factory=dict)
    #: Levels, draws, fill, seed and the like, as used.
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shares(self) -> list[Measure]:
        """Return the measures for which levels of first change and half loss are defined."""
        return [measure for measure in self.measures.values() if measure.kind == "share"]

    @property
    def lined(self) -> list[Measure]:
        """Return the errors that have reference lines."""
        return [measure for measure in self.measures.values() if measure.kind == "error" and measure.lines]

    def record(self) -> dict[str, Any]:
        """Return every number except those of single samples, as plain data; None where undefined."""
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
        """Return levels, and values per sample or else means: "PERTURBATION/levels", "PERTURBATION/NAME"."""
        found = {}
        for name, curve in self.curves.items():
            found[f"{name}/levels"] = curve.levels
            found |= {f"{name}/{measure}": values for measure, values in (curve.values or curve.mean).items()}
        return found

    def plot(self) -> Figure:
        """Plot the output under each perturbation, level by level, with standard errors."""
        return self._plot()


def _numbers(values: Tensor) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
