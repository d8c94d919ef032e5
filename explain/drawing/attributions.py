"""Attributions: the map over frames, and its course over time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.ticker import MaxNLocator

from explain.attribution.methods import find_method
from explain.attribution.results import TOLERATED
from explain.drawing import colours as colour
from explain.drawing import figures, notebook, sprites
from zoo.clips import instant, moment
from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from explain.attribution import Attribution
    from explain.drawing.colours import ColourMap
    from explain.drawing.notebook import Film

#: Width of a figure, its widest frame, and the height of the curve.
_WIDTH, _CELL, _CURVE = 900, 240, 130

#: Frames of a figure where none are named, and samples of a view.
_FRAMES, _SAMPLES = 8, 4

#: What lies beneath the colours of the scale: they are transparent where there is nothing.
_STAGE = "#0b0c0e"

#: What one unit of a map is (`explain.attribution.maps`).
_UNITS: Mapping[str, str] = {
    "sum": "output",
    "mean": "output",
    "magnitude": "output per unit of input",
    "positive": "no unit",
}

#: What a frame's number is (`Attribution.time_unit`).
_TIMES: Mapping[str, str] = {
    "change": "change of the output\nwith the frame changed",
    "sum": "sum over the frame\n(output)",
    "mean": "mean over the frame\n(output)",
    "share": "share of the map\nin frame",
}


def plot(attribution: Attribution, sample: int = 0, frames: Sequence[int] | None = None) -> Figure:
    """The figure of one sample (`Attribution.plot`)."""
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


def html(attribution: Attribution) -> str:
    """The view of the first samples."""
    shown: list[tuple[Film, tuple[list[float], str] | None]] = []
    for sample in range(min(_SAMPLES, len(attribution.map))):
        clip, share, _, colours = _layers(attribution, sample)
        time = attribution.time[sample].float().cpu()
        peak = int(attribution.peak[sample])
        what = attribution.target.descriptions[sample]
        over = sprites.blended(clip, share, colours)
        label = f"{attribution.method} over the clip, explaining {what}"
        if len(time) == 1:
            shown.append((notebook.film(over, label, what), None))
            continue
        said = _TIMES[attribution.time_unit].replace("\n", " ")
        largest = moment(peak, len(time), attribution.times)
        curve = time.tolist(), f"{said[0].upper()}{said[1:]}, over {len(time)} frames; largest {largest}"
        shown.append((notebook.film(over, label, what), curve))
        shown.append(
            (notebook.film(over[peak : peak + 1], f"{label}: {largest}", f"The map is largest {largest}"), None)
        )
    rows = [("layer", attribution.layer)] if attribution.layer else []
    if attribution.delta is not None:
        rows.append(("missing of its sum", ", ".join(f"{float(one):.3g}" for one in attribution.delta[:_SAMPLES])))
    return notebook.view(
        "attribution.html",
        title=attribution.method,
        target=str(attribution.target),
        shown=shown,
        more=len(attribution.map) - _SAMPLES,
        rows=[*rows, *notebook.said(attribution.settings)],
        unit=_unit(attribution),
        note=attribution.note,
    )


def _layers(
    attribution: Attribution, sample: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.floating], float, ColourMap]:
    """Frames T x H x W x 1 or 3 (black where they are not known), the map in shares of its scale, that, and colours."""
    values = np.nan_to_num(attribution.map[sample].detach().float().cpu().numpy())
    share, scale, colours = colour.scaled(values)
    if attribution.clip is None:
        return np.zeros((*values.shape, 1), dtype=np.uint8), share, scale, colours
    return sprites.as_frames(attribution.clip[sample].float() / 255), share, scale, colours


def _strongest(attribution: Attribution, sample: int) -> list[int]:
    """The frames of a figure: of each eighth of the clip that where the map is largest."""
    time = abs(np.nan_to_num(attribution.time[sample].detach().double().cpu().numpy()))
    edges = np.linspace(0, len(time), min(_FRAMES, len(time)) + 1).astype(int)
    return [int(start + time[start:end].argmax()) for start, end in pairwise(edges)]


def _curve(axes: Axes, attribution: Attribution, sample: int, shown: Sequence[int]) -> None:
    """What every frame has of the map; the frames above are marked."""
    time = attribution.time[sample].detach().double().cpu().numpy()
    notebook.course(axes, time, shown, _TIMES[attribution.time_unit], attribution.times)


def _scale(drawn: Figure, axes: list[Axes], scale: float, colours: ColourMap, unit: str) -> None:
    """What the colours of the map mean; the largest hundredth of its numbers takes the last one."""
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
    """What a map's numbers are counted in; empty where nobody knows the method."""
    try:
        method = find_method(attribution.settings.get("smooth") or attribution.method)
    except UnknownNameError:
        return ""
    return _UNITS[method.reduction]


def _below(attribution: Attribution, sample: int) -> str:
    """Where it looked, and with what."""
    parts = [f"sample {sample} of {len(attribution.map)}"] if len(attribution.map) > 1 else []
    parts += [f"layer {attribution.layer}"] if attribution.layer else []
    parts += [f"{name} {value}" for name, value in notebook.said(attribution.settings)]
    if not bool(attribution.map[sample].any()):
        parts.append("the map is zero everywhere")
    elif float(attribution.missed[sample]) > TOLERATED:
        parts.append(f"its sum misses {100 * float(attribution.missed[sample]):.0f} % of the output's change")
    return ";  ".join(parts)
