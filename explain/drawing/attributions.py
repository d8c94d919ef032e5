"""Figures of attributions: the map over frames, and its time curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from explain.attribution import Attribution
from explain.attribution.methods import find_method
from explain.attribution.results import TOLERATED
from explain.drawing import colours as colour
from explain.drawing import figures, notebook, sprites
from explain.drawing.colours import ColourMap
from zoo.clips import instant, moment
from zoo.errors import UnknownNameError

#: Width of a figure, of its largest frame, and height of the curve.
_WIDTH, _CELL, _CURVE = 900, 240, 130

#: Default number of frames in a figure, and of samples whose sums a table compares.
_FRAMES, _SAMPLES = 8, 4

#: Background of the color scale, whose colors are transparent at zero.
_STAGE = "#0b0c0e"

#: Unit of a map (`explain.attribution.maps`).
_UNITS: Mapping[str, str] = {
    "sum": "output",
    "mean": "output",
    "magnitude": "output per unit of input",
    "positive": "no unit",
}

#: Meaning of a frame's value (`Attribution.time_unit`).
_TIMES: Mapping[str, str] = {
    "change": "change of the output\nwith the frame changed",
    "sum": "sum over the frame\n(output)",
    "mean": "mean over the frame\n(output)",
    "share": "share of the map\nin frame",
}


def plot(attribution: Attribution, sample: int = 0, frames: Sequence[int] | None = None) -> Figure:
    """Plot one sample (`Attribution.plot`)."""
    sample = notebook.place("sample", sample, len(attribution.map))
    clip, share, scale, colours = _layers(attribution, sample)
    count, rows, columns = share.shape
    shown = _strongest(attribution, sample) if frames is None else [notebook.place("frame", at, count) for at in frames]
    over = sprites.blended(clip, share, colours)
    known, times = attribution.clip is not None, attribution.times
    across = len(shown) if count > 1 else 1 + known
    cell = min(_CELL, (_WIDTH - 130) / across)
    tall = cell * rows / columns + 20
    heights = [tall, tall - 20][: 1 + known] if count > 1 else [max(tall, 220.0)]
    with notebook.drawing(
        _WIDTH if count > 1 else 2 * max(cell, 240) + 150, sum(heights) + 75 + _CURVE * (count > 1)
    ) as drawn:
        grid = drawn.add_gridspec(len(heights) + (count > 1), across, height_ratios=[*heights, *[_CURVE] * (count > 1)])
        if count > 1:
            for place, frame in enumerate(shown):
                if known:
                    notebook.image(drawn.add_subplot(grid[0, place]), clip[frame], instant(frame, times))
            maps = [drawn.add_subplot(grid[len(heights) - 1, place]) for place in range(across)]
            for axes, frame in zip(maps, shown, strict=True):
                notebook.image(axes, over[frame], "" if known else instant(frame, times))
            _curve(drawn.add_subplot(grid[-1, :]), attribution, sample, shown)
        else:
            if known:
                notebook.image(drawn.add_subplot(grid[0, 0]), clip[0])
            maps = [drawn.add_subplot(grid[0, -1])]
            notebook.image(maps[0], over[0])
        if scale:
            _scale(drawn, maps, scale, colours, _unit(attribution))
        notebook.heading(
            drawn, f"{attribution.method}: {attribution.target.descriptions[sample]}", _below(attribution, sample)
        )
    return drawn


def describe(attribution: Attribution) -> tuple[str, list[tuple[str, str]]]:
    """Return title and table for a notebook."""
    rows = [("layer", attribution.layer)] if attribution.layer else []
    if attribution.delta is not None:
        rows.append(("missing of its sum", ", ".join(f"{float(one):.3g}" for one in attribution.delta[:_SAMPLES])))
    rows += [("unit of the map", unit)] if (unit := _unit(attribution)) else []
    rows += [("note", attribution.note)] if attribution.note else []
    if attribution.map.shape[1] > 1:
        largest = moment(int(attribution.peak[0]), attribution.map.shape[1], attribution.times)
        rows.append(("largest", f"{largest}, {_TIMES[attribution.time_unit]}".replace("\n", " ")))
    more = len(attribution.map) - 1
    rows += [("more", f"{more} sample{'s' * (more > 1)}: .plot(sample) shows each")] if more else []
    return f"{attribution.method}: {attribution.target}", [*rows, *notebook.said(attribution.settings)]


def _layers(
    attribution: Attribution, sample: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.floating], float, ColourMap]:
    """Return frames T x H x W x 1 or 3 (black if unknown), the map relative to its scale, the scale, and colors."""
    values = np.nan_to_num(attribution.map[sample].detach().float().cpu().numpy())
    share, scale, colours = colour.scaled(values)
    if attribution.clip is None:
        return np.zeros((*values.shape, 1), dtype=np.uint8), share, scale, colours
    return sprites.as_frames(attribution.clip[sample].float() / 255), share, scale, colours


def _strongest(attribution: Attribution, sample: int) -> list[int]:
    """Select the frames of a figure: from each eighth of the clip that with the largest map."""
    time = abs(np.nan_to_num(attribution.time[sample].detach().double().cpu().numpy()))
    edges = np.linspace(0, len(time), min(_FRAMES, len(time)) + 1).astype(int)
    return [int(start + time[start:end].argmax()) for start, end in pairwise(edges)]


def _curve(axes: Axes, attribution: Attribution, sample: int, shown: Sequence[int]) -> None:
    """Plot the time curve of the map; the frames shown above are marked."""
    time = attribution.time[sample].detach().double().cpu().numpy()
    notebook.course(axes, time, shown, _TIMES[attribution.time_unit], attribution.times)


def _scale(drawn: Figure, axes: list[Axes], scale: float, colours: ColourMap, unit: str) -> None:
    """Draw the color scale of the map; the largest hundredth of its values is clipped."""
    mapping = ScalarMappable(
        Normalize(colours.low * scale, colours.high * scale), ListedColormap(colours.palette / 255.0)
    )
    bar = drawn.colorbar(
        mapping, ax=axes, fraction=0.05, pad=0.01, aspect=14, extend="both" if colours.low < 0 else "max"
    )
    bar.ax.set_facecolor(_STAGE)
    bar.set_label(unit, color=figures.SOFT)
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))


def _unit(attribution: Attribution) -> str:
    """Return the unit of a map; empty if the method is unknown."""
    try:
        method = find_method(attribution.method)
        inner = attribution.settings.get("smooth") or attribution.settings.get("attribution_method")
        method = find_method(inner) if inner else method
    except UnknownNameError:
        return ""
    return _UNITS[method.reduction]


def _below(attribution: Attribution, sample: int) -> str:
    """Describe the layer and settings."""
    parts = [f"sample {sample} of {len(attribution.map)}"] if len(attribution.map) > 1 else []
    parts += [f"layer {attribution.layer}"] if attribution.layer else []
    parts += [f"{name} {value}" for name, value in notebook.said(attribution.settings)]
    if not bool(attribution.map[sample].any()):
        parts.append("the map is zero everywhere")
    elif float(attribution.missed[sample]) > TOLERATED:
        parts.append(f"its sum misses {100 * float(attribution.missed[sample]):.0f} % of the output's change")
    return ";  ".join(parts)
