"""Figures of motion in filters: parameters over time, distributions, a file per drawing, and the plot of a result."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from torch import Tensor

from explain.drawing import figures, notebook
from explain.drawing import kernels as slices
from explain.temporal import TemporalParameters, tables
from explain.temporal.motions import Motion, most_moving

#: Number of filters drawn for each model.
_FILTERS = 8

#: CSS pixels: the width of a figure, and the height of one filter.
_WIDTH, _ROW = 1000, 205


def drawings(
    models: Mapping[str, TemporalParameters], kernels: Mapping[str, Mapping[str, Tensor]] | None = None
) -> dict[str, bytes]:
    """Return every drawing of some models as a file, by name.

    `distributions.svg` contains all models, stacked, on the same axes, `NAME.filters.svg` the parameters over time and
    the trajectory of the filters that move most (`explain.temporal.motions`), `NAME.LAYER.webp` the filters of the
    first layer, slice after slice. SVG files follow a browser's light or dark scheme. The output is deterministic.
    Unidentified motions are omitted: if all are, so is the first file, and if no filter moves the second.

    Args:
        models: Name to parameters, in the order drawn.
        kernels: Name to the filters of layers (filters x channels x D x rows x columns); only those of the first layer
            in `models` are drawn, and those of the filters that move most. None, or a model or layer that is missing,
            draws none.
    """
    files: dict[str, bytes] = {}
    told = {name: spreads(parameters) for name, parameters in models.items()}
    told = {name: values for name, values in told.items() if len(values.size)}
    if told:
        every = {name: parameters.statistics().motions for name, parameters in models.items()}
        files["distributions.svg"] = _distributions(told, every).encode()
    for name, parameters in models.items():
        stem, known = file_stem(name), (kernels or {}).get(name, {})
        moving = most_moving(parameters.layers.values(), _FILTERS)
        if moving:
            files[f"{stem}.filters.svg"] = _filters(name, moving, known).encode()
        first = next(iter(parameters.layers))
        if first in known:
            files[f"{stem}.{first or 'model'}.webp"] = slices.animated(slices.pictures(known[first][: slices.MOST]))
    return files


def file_stem(name: str) -> str:
    """Return the prefix of a model's file names."""
    return re.sub(r"[^\w.-]+", "_", name)


def _distributions(models: Mapping[str, Spreads], every: Mapping[str, int]) -> str:
    """Draw distributions of the identified motions, with their number out of `every`."""
    shared: Limits = limits(models.values())
    with figures.style():
        drawn = figures.figure(_WIDTH, 290 * len(models) + 70)
        rows = drawn.subplots(len(models), len(PAINTERS), squeeze=False)
        for row, (name, values) in zip(rows, models.items(), strict=True):
            for axes, paint in zip(row, PAINTERS.values(), strict=True):
                paint(axes, values, shared)
            row[0].set_title(f"{name}\n{counted(len(values.size), every[name])}", loc="left")
        handles, labels = rows[0, 2].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper right", ncols=4, title="shifts: share of all steps")
        drawn.supxlabel(
            "Axes are the same for all models; what lies further out is in the outermost bars and squares.\n"
            f"Drawn is {CONVENTION}.",
            fontsize=11,
            color=figures.SOFT,
        )
        label = f"Distributions of the motions of {', '.join(models)}: size, turn and shift a step"
        return figures.standalone(figures.svg(drawn, "distributions", label))


def _filters(name: str, moving: list[Motion], kernels: Mapping[str, Tensor]) -> str:
    """Draw one row per filter."""
    height = _ROW * len(moving) + 70
    with figures.style():
        drawn = figures.figure(_WIDTH, height)
        drawn.text(0.01, 1 - 18 / height, f"The filters of {name} that move most", fontsize=14, va="center")
        _rows_of(drawn, height, moving, 40, kernels)
        label = f"Motion of the {len(moving)} filters of {name} that move most, step by step, and the way of each"
        return figures.standalone(figures.svg(drawn, "filters", label))


def _placed(drawn: Figure, height: float, left: float, top: float, across: float, down: float) -> Axes:
    """Add axes at fixed positions, since automatic layout of many axes is slow."""
    drawn.set_layout_engine("none")
    return drawn.add_axes((left / _WIDTH, 1 - (top + down) / height, across / _WIDTH, down / height))


def _rows_of(drawn: Figure, height: float, moving: list[Motion], begin: float, kernels: Mapping[str, Tensor]) -> None:
    """Draw each filter's parameters over time, its trajectory and, if its kernel is known, its slices."""
    for row, one in enumerate(moving):
        top = begin + row * _ROW
        layer = one.layer if len(one.layer) <= _NAME else f"…{one.layer[-_NAME:]}"
        told = f"{layer or 'the model'}, channel {one.channel}. {one.sentence()}"
        drawn.text(0.01, 1 - (top + 10) / height, told, fontsize=12, va="center")
        paint_curves([_placed(drawn, height, left, top + 48, 165, 112) for left in (60, 290, 520)], one)
        paint_trajectory(_placed(drawn, height, 745, top + 48, 112, 112), one)
        if one.layer in kernels:
            images = slices.pictures(kernels[one.layer][one.channel : one.channel + 1])[0]
            _film(_placed(drawn, height, 880, top + 48, 112, 112), images)
    drawn.text(0.5, 14 / height, f"Drawn is {CONVENTION}", color=figures.SOFT, ha="center", va="center")


def _film(axes: Axes, images: npt.NDArray[np.uint8]) -> None:
    """Draw the slices of one filter in reading order."""
    sheet = slices.mosaic(images[:, None])[0]
    opaque = 255 - slices.mosaic(np.zeros_like(images[:, None, ..., :1]))[0]  # transparent between slices
    axes.set_axis_off()
    colours = np.broadcast_to(sheet, (*sheet.shape[:2], 3))
    axes.imshow(np.concatenate([colours, opaque], axis=2), interpolation="nearest")
    axes.set_title("slices, in order", fontsize=11)


#: Heights of the title and of the distributions.
_TITLE, _SPREADS = 40, 280

#: Letters of a layer's name that fit beside the description of its filter.
_NAME = 30

#: Layers in the table of a notebook.
_ROWS = 12


def plot(parameters: TemporalParameters, filters: int = 4) -> Figure:
    """Plot all layers, with so many filters (`TemporalParameters.plot`)."""
    moving, values = most_moving(parameters.layers.values(), filters), spreads(parameters)
    height = _TITLE + _SPREADS + _ROW * len(moving) + 30
    with notebook.drawing(_WIDTH, height) as drawn:
        drawn.text(0.01, 1 - 20 / height, _title(parameters), fontsize=14, va="center")
        if len(values.size):
            shared = limits([values])
            for left, paint in zip((70, 385, 690), PAINTERS.values(), strict=True):
                axes = _placed(drawn, height, left, _TITLE + 15, 225 if left < 690 else 200, 200)
                paint(axes, values, shared)
            axes.legend(
                loc="upper left", bbox_to_anchor=(1, 1.02), fontsize=9, title="share", title_fontsize=9, handlelength=1
            )
        else:
            drawn.text(0.5, 1 - (_TITLE + 110) / height, "no motion can be told", ha="center", color=figures.SOFT)
        _rows_of(drawn, height, moving, _TITLE + _SPREADS, {})
    return drawn


def describe(parameters: TemporalParameters) -> tuple[str, list[tuple[str, ...]]]:
    """Return title and table for a notebook."""
    header, table = tables.signed_table(parameters)
    rows: list[tuple[str, ...]] = [tuple(header), *(tuple(str(one) for one in row) for row in table[: _ROWS + 1])]
    more, out = len(table) - _ROWS - 1, len(parameters.left_out)
    rows += [("more", f"{more} layers: .layers holds each")] if more > 0 else []
    rows += [("left out", f"{out} convolution{'s' * (out > 1)} that cannot move: .left_out says why")] if out else []
    return f"{_title(parameters)}. {tables.SIGNED}", rows


def _title(parameters: TemporalParameters) -> str:
    layers = len(parameters.layers)
    told, every = len(spreads(parameters).size), parameters.statistics().motions
    return f"Motion in the filters of {layers} layer{'s' * (layers > 1)}: {counted(told, every)}"


#: Convention stated in every caption.
CONVENTION = (
    "what a filter's pattern does from one slice to the next: to the right, down, clockwise and growing are positive"
)

#: Minimum half height of a curve's axis, so that negligible motion looks flat: factor, degrees, pixels.
_LEAST_SIZE, _LEAST_TURN, _LEAST_SHIFT = 0.05, 2.0, 0.25

#: Bars and cells of a distribution along one axis; odd, so that no motion is at the center of one.
_BARS, _CELLS = 41, 33

#: Share of the values that the axes of distributions cover; the outermost bars include the rest.
_COVERED = 0.995

#: Opacities of shares of values from 0, 0.1%, 1% and 10% up.
_LEVELS = ((0.0, 0.22, "under 0.1 %"), (0.001, 0.45, "0.1 to 1 %"), (0.01, 0.7, "1 to 10 %"), (0.1, 1.0, "over 10 %"))


def curves(motion: Motion, name: str) -> Markup:
    """Draw scale, rotation and shift of one filter at every step, as inline SVG.

    Args:
        motion: The filter.
        name: Unique on the page.
    """
    with figures.style():
        drawn = figures.figure(270, 330)
        paint_curves(drawn.subplots(3, 1, sharex=True), motion)
        shown = "; ".join(
            f"step {step}: size {size:.3g}, {turn:.2g} degrees clockwise, {right:.2g} pixels right, {down:.2g} down"
            for step, (size, turn, right, down) in enumerate(
                zip(motion.size, motion.rotation, motion.right, motion.down, strict=True), start=1
            )
        )
        return figures.svg(drawn, name, f"Motion of channel {motion.channel} of {motion.layer}, {shown}")


def trajectory(motion: Motion, name: str) -> Markup:
    """Draw the trajectory of a point from the kernel's center, blue start to red end, as inline SVG.

    Args:
        motion: The filter.
        name: Unique on the page.
    """
    with figures.style():
        drawn = figures.figure(230, 230)
        paint_trajectory(drawn.subplots(), motion)
        right, down = motion.positions[-1]
        label = (
            f"Way of the pattern of channel {motion.channel} of {motion.layer}: from the centre to {right:.2g} pixels "
            f"right and {down:.2g} pixels down"
        )
        return figures.svg(drawn, name, label)


def paint_curves(axes: Sequence[Axes], motion: Motion) -> None:
    """Plot scale, rotation and shift of a filter at every step, on three axes."""
    steps = list(range(1, len(motion.size) + 1))
    mark: dict[str, Any] = {"markersize": 5, "linewidth": 1.6}
    size, turn, shift = axes
    size.plot(steps, motion.size, "o-", color=figures.SERIES[2], **mark)
    turn.plot(steps, motion.rotation, "o-", color=figures.SERIES[4], **mark)
    shift.plot(steps, motion.right, "o-", color=figures.SERIES[0], label="right", **mark)
    shift.plot(steps, motion.down, "s--", color=figures.SERIES[1], label="down", **mark)
    shift.legend(loc="lower center", bbox_to_anchor=(0.5, 0.96), ncols=2, borderaxespad=0.0, handlelength=2.4)
    rows = ((size, 1.0, _LEAST_SIZE, "size (factor)"), (turn, 0.0, _LEAST_TURN, "turn (°)"))
    for part, still, least, label in (*rows, (shift, 0.0, _LEAST_SHIFT, "shift (px)")):
        part.axhline(still, color=figures.SOFT, linewidth=0.8, zorder=0)
        part.update_datalim([(1, still - least), (1, still + least)])
        part.autoscale_view(scalex=False)
        part.set_ylabel(label)
        _ticks(part.yaxis, 4)
        part.set_xlim(0.7, steps[-1] + 0.3)
        part.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        place = part.get_subplotspec()
        if place is None or place.is_last_row():
            part.set_xlabel("step from slice to slice")


def paint_trajectory(axes: Axes, motion: Motion) -> None:
    """Plot the trajectory of a point from the kernel's center, with the y axis pointing down."""
    right, down = zip(*motion.positions, strict=True)
    reach = 1.25 * max(_LEAST_SHIFT, *(abs(at) for at in right + down))
    axes.axhline(0, color=figures.LINE, linewidth=0.8, zorder=0)
    axes.axvline(0, color=figures.LINE, linewidth=0.8, zorder=0)
    axes.plot(right, down, ".-", color=figures.SOFT, linewidth=1.4, markersize=6, zorder=1)
    axes.plot(right[:1], down[:1], "o", color=figures.SERIES[0], markersize=9, label="start", zorder=2)
    axes.plot(right[-1:], down[-1:], "D", color=figures.SERIES[7], markersize=8, label="end", zorder=3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, borderaxespad=0.2)
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach), xlabel="right (px)", ylabel="down (px)")
    axes.set_aspect("equal")
    _ticks(axes.xaxis, 4)
    _ticks(axes.yaxis, 4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spreads:
    """All identified motions of one model that see data: motion of the pattern at each step.

    Flat arrays of the same length.
    """

    size: npt.NDArray[np.float64]
    #: Degrees, clockwise.
    rotation: npt.NDArray[np.float64]
    #: Pixels of a layer's input.
    right: npt.NDArray[np.float64]
    down: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Axis limits shared by the distributions of several models: distance from no motion, on both sides."""

    size: float
    rotation: float
    shift: float
    #: The smallest nonzero share of values in any of them.
    least: float


def spreads(parameters: TemporalParameters) -> Spreads:
    """Return the motions of all layers of a model."""
    found: list[npt.NDArray[np.float64]] = []
    for layer in parameters.layers.values():
        pattern = layer.pattern()
        values = (pattern.scale, pattern.rotation, pattern.x_pixels, pattern.y_pixels)
        known = layer.identified & layer.counted()
        found.append(np.stack([value[known].cpu().numpy() for value in values]))
    size, rotation, right, down = np.concatenate(found, axis=1)
    return Spreads(size=size, rotation=rotation, right=right, down=down)


def counted(told: int, every: int) -> str:
    """Describe how many steps a distribution shows, and whether others are omitted."""
    return f"{every:,} steps of filters" if told == every else f"{told:,} of {every:,} steps of filters can be told"


def limits(models: Iterable[Spreads]) -> Limits:
    """Return axis limits for comparing the distributions of all these models."""
    models = list(models)

    def reach(least: float, values: list[npt.NDArray[np.float64]]) -> float:
        return max([least, *(1.05 * float(np.quantile(np.abs(one), _COVERED)) for one in values if len(one))])

    return Limits(
        size=reach(_LEAST_SIZE, [one.size - 1 for one in models]),
        rotation=reach(_LEAST_TURN, [one.rotation for one in models]),
        shift=reach(_LEAST_SHIFT, [np.concatenate([one.right, one.down]) for one in models]),
        least=1 / max([10, *(len(one.size) for one in models)]),
    )


def distributions(model: str, values: Spreads, shared: Limits, name: str) -> tuple[Markup, Markup, Markup]:
    """Draw distributions of scale, rotation, and both shifts as inline SVG (Figures 4 and 5 of arXiv 2006.15983).

    Args:
        model: The model's name on the page.
        values: Its motions, at least one.
        shared: Axis limits, shared by all models shown together.
        name: Unique on the page.
    """
    made = []
    for (which, paint), what, spread in zip(
        PAINTERS.items(),
        ("size factors", "turns in degrees clockwise", "shifts in pixels, right against down"),
        (values.size, values.rotation, np.hypot(values.right, values.down)),
        strict=True,
    ):
        with figures.style():
            drawn = figures.figure(290, 250 if which == "shift" else 282)  # a legend is added on top
            axes = drawn.subplots()
            paint(axes, values, shared)
            figures.legend(drawn, axes)
            length = " of the length" if which == "shift" else ""
            label = (
                f"Distribution of the {what}, of {len(spread):,} steps of filters of {model}: mean{length} "
                f"{spread.mean():.3g}, standard deviation {spread.std():.2g}"
            )
            made.append(figures.svg(drawn, f"{name}-{which}", label))
    return made[0], made[1], made[2]


def _sizes(axes: Axes, values: Spreads, shared: Limits) -> None:
    _bars(axes, values.size - 1, shared.size, shared.least, figures.SERIES[2])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(1 + value)))
    axes.set_xlabel("size (factor a step)")


def _turns(axes: Axes, values: Spreads, shared: Limits) -> None:
    _bars(axes, values.rotation, shared.rotation, shared.least, figures.SERIES[4])
    axes.set_xlabel("turn (° a step, clockwise)")


def _bars(axes: Axes, deviations: npt.NDArray[np.float64], reach: float, least: float, colour: str) -> None:
    """Plot shares of values as bars on a logarithmic axis: most filters hardly move."""
    edges = np.linspace(-reach, reach, _BARS + 1)
    counts, _ = np.histogram(deviations.clip(-reach, reach), edges)
    shares = counts / max(1, len(deviations))
    bottom = least / 2  # gives a single value some height
    filled = shares > 0
    axes.bar(
        (edges[:-1] + edges[1:])[filled] / 2, shares[filled] - bottom, np.diff(edges)[filled], bottom, color=colour
    )
    axes.axvline(0, color=figures.SOFT, linewidth=0.8)
    axes.set_yscale("log")
    axes.set(xlim=(-reach, reach), ylim=(bottom, 1.5), ylabel="share of all steps")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    _ticks(axes.xaxis, 5)


def _shifts(axes: Axes, values: Spreads, shared: Limits) -> None:
    """Plot shares of both shifts in cells: one path per level, so that a page stays small."""
    reach = shared.shift
    edges = np.linspace(-reach, reach, _CELLS + 1)
    counts, _, _ = np.histogram2d(values.right.clip(-reach, reach), values.down.clip(-reach, reach), [edges, edges])
    shares = counts / max(1, len(values.right))
    axes.axhline(0, color=figures.LINE, linewidth=0.8, zorder=0)
    axes.axvline(0, color=figures.LINE, linewidth=0.8, zorder=0)
    width = edges[1] - edges[0]
    bounds = [*(level[0] for level in _LEVELS[1:]), np.inf]
    for (low, opacity, label), high in zip(_LEVELS, bounds, strict=True):
        corners: list[tuple[float, float]] = []
        for across, along in zip(*np.nonzero((shares > low) & (shares <= high)), strict=True):
            left, top = edges[across], edges[along]
            corners += [
                (left, top),
                (left + width, top),
                (left + width, top + width),
                (left, top + width),
                (left, top),
            ]
        codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 5)
        path = Path(corners or [(0, 0)], codes or [Path.MOVETO])
        axes.add_patch(PathPatch(path, facecolor=figures.SERIES[0], alpha=opacity, linewidth=0, label=label))
    axes.set(xlim=(-reach, reach), ylim=(reach, -reach), xlabel="right (px a step)", ylabel="down (px a step)")
    axes.set_aspect("equal")
    _ticks(axes.xaxis, 5)
    _ticks(axes.yaxis, 5)


#: Functions that draw each of the three distributions.
PAINTERS: dict[str, Callable[[Axes, Spreads, Limits], None]] = {"size": _sizes, "turn": _turns, "shift": _shifts}


def _ticks(axis: Axis, count: int) -> None:
    """Place at most so many intervals, at round numbers."""
    axis.set_major_locator(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_plain))


def _plain(value: float, _: int | None = None) -> str:
    """Format a tick without trailing zeros, and with a real minus sign."""
    return f"{round(value, 6):g}".replace("-", "\N{MINUS SIGN}")
