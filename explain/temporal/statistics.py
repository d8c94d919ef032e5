"""Means and standard deviations of how far motions are from standing still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from explain.temporal.parameters import LayerParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Mean and standard deviation (of the population) of deviations from identity; nan where there are none."""

    #: Of the deviation with its sign.
    mean: float
    std: float
    #: Of its absolute value.
    absolute_mean: float
    absolute_std: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """How far the filters of a layer, or of all layers of a model, are from standing still.

    Every step of every filter counts once, where it sees data (`LayerParameters.seen`); of fits, those whose motion is
    identified.

    The paper's Tables 2 and 4 (arXiv 2006.15983) do not say of what they give mean and deviation. All 32 of their means
    are positive, px and py alike, which signed deviations would not be: the mean is read as `absolute_mean`. For the
    standard deviation, `absolute_std` and `std` both fit what is printed (0.97 to 1.9 times the mean); it is read as
    `absolute_std`. All four parameters are read as the layer stores them: r in degrees would ask for 0.2e-3 radians
    where s moved by 28e-3, although Adam moves every parameter about as far; by the same argument px and py are not
    multiplied by the size of a frame.
    """

    #: Number of filters.
    filters: int
    #: Number of filters that have a step that sees data.
    filters_seen: int
    #: Number of motions that see data: steps times filters, over layers.
    motions: int
    #: Number of motions that see none at the clip length asked for.
    unseen: int
    #: Share of the motions that are identified; 0 where none sees data.
    identified: float
    #: Median R² of all fits, identified or not; None where nothing was fitted.
    r2: float | None
    #: Median of the R² of slices left where they are; None as well.
    r2_still: float | None
    #: The deviations of `scale` (s - 1), `rotation` (radians), `translate_x` and `translate_y` as layers store them.
    parameters: Mapping[str, Spread]
    #: The deviations of what the pattern does: `scale` (factor - 1), `rotation` (degrees, positive = clockwise),
    #: `x_pixels` (positive = right) and `y_pixels` (positive = down).
    pattern: Mapping[str, Spread]


def statistics(layers: Iterable[LayerParameters]) -> Statistics:
    """Those of several layers, all their motions pooled."""
    layers = list(layers)
    raw: dict[str, list[Tensor]] = {"scale": [], "rotation": [], "translate_x": [], "translate_y": []}
    seen: dict[str, list[Tensor]] = {"scale": [], "rotation": [], "x_pixels": [], "y_pixels": []}
    for layer in layers:
        pattern, known = layer.pattern(), layer.identified & layer.counted()
        for kept, source in ((raw, layer), (seen, pattern)):
            for name, values in kept.items():
                values.append(getattr(source, name)[known] - (1.0 if name == "scale" else 0.0))
    counted = [layer.counted() for layer in layers]
    known = torch.cat([layer.identified[seen] for layer, seen in zip(layers, counted, strict=True)])
    return Statistics(
        filters=sum(layer.scale.shape[1] for layer in layers),
        filters_seen=sum(int(seen.any(dim=0).sum()) for seen in counted),
        motions=known.numel(),
        unseen=sum(int((~seen).sum()) for seen in counted),
        identified=float(known.double().mean()) if known.numel() else 0.0,
        r2=_median([layer.r2[seen] for layer, seen in zip(layers, counted, strict=True) if layer.r2 is not None]),
        r2_still=_median(
            [layer.r2_still[seen] for layer, seen in zip(layers, counted, strict=True) if layer.r2_still is not None]
        ),
        parameters={name: spread(torch.cat(values)) for name, values in raw.items()},
        pattern={name: spread(torch.cat(values)) for name, values in seen.items()},
    )


def filters_counted(found: Statistics) -> str:
    """How many filters count, and of how many where some do not."""
    seen, every = f"{found.filters_seen:,}", f"{found.filters:,}"
    return every if seen == every else f"{seen} of {every}"


def spread(deviations: Tensor) -> Spread:
    """Those of some deviations."""
    absolute = deviations.abs()
    return Spread(
        mean=float(deviations.mean()),
        std=_deviation(deviations),
        absolute_mean=float(absolute.mean()),
        absolute_std=_deviation(absolute),
    )


def _median(given: list[Tensor]) -> float | None:
    """Return the median of all values; None without any."""
    values = torch.cat(given) if given else torch.empty(0)
    return float(values.quantile(0.5)) if len(values) else None


def _deviation(values: Tensor) -> float:
    """Standard deviation of the population."""
    return float((values - values.mean()).square().mean().sqrt())
