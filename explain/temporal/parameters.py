"""Temporal parameters of layers, and their statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from explain.results import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: "3tconv": the layer has these parameters; "fit": they were fitted to its slices.
Kind = Literal["3tconv", "fit"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pattern:
    """What the pattern in a filter does from each slice to the next, as one sees it; all steps x filters, float64.

    It turns and grows about the kernel's centre, then it shifts. x points right and y down.
    """

    #: Factor by which it grows; below 1 it shrinks.
    scale: Tensor
    #: Degrees by which it turns, positive = clockwise on screen.
    rotation: Tensor
    #: Pixels of the kernel by which it shifts, positive = right and down. A dilated layer sees a pixel of its input
    #: every `dilation`.
    x_pixels: Tensor
    y_pixels: Tensor
    #: The same in widths and heights of the kernel.
    x_widths: Tensor
    y_widths: Tensor

    def path(self) -> Tensor:
        """Where the point that began in the centre is after each step: (steps + 1) x filters x 2 (x, y), in pixels.

        Turning and growing about the centre moves a point that has left it, so this is no plain sum of shifts.
        """
        angle = torch.deg2rad(self.rotation)
        at = self.scale.new_zeros(self.scale.shape[1], 2)
        places = [at]
        for step in range(len(self.scale)):
            cosine, sine = angle[step].cos(), angle[step].sin()
            x, y = at.unbind(1)
            turned = torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=1)
            shift = torch.stack([self.x_pixels[step], self.y_pixels[step]], dim=1)
            at = self.scale[step].unsqueeze(1) * turned + shift
            places.append(at)
        return torch.stack(places)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerParameters:
    """How the slices of one layer's filters come from one another; tensors are steps x filters, float64, on the CPU.

    The convention is that of 3TConv: `scale` s, `rotation` r (radians) and translation t map a place p of slice i+1 to
    the place s R(r) (p + t) of slice i where its value is read (arXiv 2006.15983, equation 3), with x right and y down
    from the kernel's centre, in units in which the centres of the outermost pixels are at -1 and 1. So what the eye
    sees is the inverse: `pattern` says it.
    """

    #: Name of the layer, as `explain.model.layers.layer_names` lists it.
    name: str
    kind: Kind
    #: D x kh x kw.
    kernel_size: tuple[int, int, int]
    scale: Tensor
    rotation: Tensor
    translate_x: Tensor
    translate_y: Tensor
    #: Whether the motion can be told at all (bool). Where it cannot, the fit's parameters mean nothing; the parameters
    #: of a "3tconv" are always known.
    identified: Tensor
    #: Whether each step leads between two slices that both read frames at the clip length asked for (bool, steps); None
    #: where that is not known. A slice that reads nothing but the padding of its layer changes no output, so that its
    #: step counts in no statistics.
    seen: Tensor | None = None
    #: For a "fit", the share of the energy (sum of squares) of slice i+1 that the moved slice i explains; else None.
    r2: Tensor | None = None
    #: For a "fit", the same of slice i left where it is; a filter that repeats its slice has 1 in both. Else None.
    r2_still: Tensor | None = None
    #: For a "fit", the factor, at least 0, by which the moved slice is taken; else None.
    gain: Tensor | None = None

    @property
    def steps_seen(self) -> int | None:
        """How many steps lead between slices that read frames; None where that is not known."""
        return None if self.seen is None else int(self.seen.sum())

    def counted(self) -> Tensor:
        """Return which steps of which filters count: those that see data (bool, steps x filters)."""
        if self.seen is None:
            return torch.ones_like(self.identified)
        return self.seen.unsqueeze(1).expand_as(self.identified)

    def pattern(self) -> Pattern:
        """The same motions as one sees them."""
        _, height, width = self.kernel_size
        # subtracted from 0, so that no zero comes out negative
        x, y = (0 - self.translate_x) * (width - 1) / 2, (0 - self.translate_y) * (height - 1) / 2
        return Pattern(
            scale=1 / self.scale,
            rotation=(0 - self.rotation) * (180 / math.pi),
            x_pixels=x,
            y_pixels=y,
            x_widths=x / width,
            y_widths=y / height,
        )

    def statistics(self) -> Statistics:
        """Means and standard deviations over all its motions."""
        return statistics([self])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TemporalParameters(Saved):
    """How the filters of a model move."""

    #: By name, in the order of `named_modules`.
    layers: Mapping[str, LayerParameters]
    #: Convolutions that are not among them, by name, and why.
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps_seen(self) -> dict[str, int | None]:
        """By layer, how many of its steps see data at this clip length (`LayerParameters.steps_seen`)."""
        return {name: layer.steps_seen for name, layer in self.layers.items()}

    def statistics(self) -> Statistics:
        """Means and standard deviations over the motions of all layers."""
        return statistics(self.layers.values())

    def plot(self, filters: int = 4) -> Figure:
        """Draw how size, turn and shift of all motions are spread, and the filters that move most, step by step.

        Args:
            filters: How many of them.
        """
        return self._plot(filters)


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
