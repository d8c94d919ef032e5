"""Figures of receptive fields: measured over space and time, and the frames that a unit depends on, layer by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor

from explain.drawing import colours as colour
from explain.drawing import figures, notebook, sprites
from explain.drawing.numbers import evenly
from explain.fields.effective import EffectiveField
from explain.fields.theoretical import ReceptiveField, Trace
from zoo.errors import UnknownNameError, UsageError

#: Maximum number of layers drawn.
MOST = 6

#: CSS pixels: the side of an image, the text above it, the gap, and the width with a chart beside.
_SIDE, _WORDS, _GAP, _BESIDE = 190.0, 46.0, 22.0, 640.0

#: For images, which are side by side: number of columns, and distance from one to the next.
_COLUMNS, _STEP = 3, 250.0

#: Distinct from the page's own white, which a dark page replaces.
_WHITE = "#fffffe"


def draw_effective(
    fields: Sequence[EffectiveField], frames: npt.NDArray[np.uint8], name: str = "effective-fields"
) -> Markup:
    """Draw each layer as an image and, for clips, a chart over the frames, as inline SVG.

    The image is the frame with the largest gradients, overlaid with the gradients of all frames (colors by their square
    root); a solid outline marks the effective field, a dashed one the theoretical field.

    Args:
        fields: The layers, from the first to the last drawn.
        frames: The clip in display values, uint8, T x H x W x C.
        name: Unique on the page.
    """
    several = len(frames) > 1
    columns = 1 if several else min(_COLUMNS, len(fields))
    height = math.ceil(len(fields) / columns) * (_SIDE + _WORDS + _GAP)
    width = _BESIDE if several else columns * _STEP
    with figures.style():
        drawn = figures.figure(width, height)
        drawn.set_layout_engine("none")
        for place, field in enumerate(fields):
            left = (place % columns) * _STEP + 6
            top = (place // columns) * (_SIDE + _WORDS + _GAP) + _WORDS
            drawn.text(left / width, 1 - (top - 34) / height, field.layer, fontsize=12, va="center", fontweight="bold")
            drawn.text(left / width, 1 - (top - 14) / height, in_words(field), va="center", color=figures.SOFT)
            bottom = 1 - (top + _SIDE) / height
            picture(drawn.add_axes((left / width, bottom, _SIDE / width, _SIDE / height)), field, frames)
            if several:
                start, room = left + _SIDE + 56, 34
                size = ((width - start - 10) / width, (_SIDE - room - 20) / height)
                over_time(drawn.add_axes((start / width, bottom + room / height, *size)), field)
        label = "; ".join(f"{field.layer}: {in_words(field)}" for field in fields)
        return figures.svg(drawn, name, f"Effective receptive fields. {label}")


def in_words(field: EffectiveField) -> str:
    """Describe both extents: frames (for clips only), rows and columns."""
    if field.box is None:
        return "looks at nothing: its gradient is zero everywhere"
    skip = 1 if len(field.heat) == 1 else 0

    def product(extent: Sequence[int]) -> str:
        return " × ".join(str(size) for size in list(extent)[skip:])

    said = f"{100 * field.share:g} % within {product(field.extent)}"
    return said if field.theoretical is None else f"{said}; can see {product(field.theoretical)}"


def in_the_middle(field: EffectiveField) -> float | None:
    """Return the share of a unit's gradients in the middle half of the rows and columns of its field: 1/4 if uniform.

    None if they are all zero.
    """
    heat = field.heat.sum(dim=0)
    box = field.theoretical_box or field.box
    if box is None:
        return None
    rows, columns = (slice(max(first, 0), last + 1) for first, last in box[1:])
    return centre_share(heat[rows, columns])


def centre_share(sizes: Tensor) -> float | None:
    """Return the share of H x W magnitudes in the middle half of the rows and of the columns: 1/4 if uniform.

    Pixels on the boundary count in part. None if all are zero.
    """
    total = float(sizes.double().sum())
    if not total:
        return None
    inside = [_inside(length, sizes) for length in sizes.shape]
    return float(inside[0] @ sizes.double() @ inside[1]) / total


def _inside(length: int, like: Tensor) -> Tensor:
    """Return how much of each of `length` pixels is in the middle half."""
    edges = torch.arange(length + 1, device=like.device, dtype=torch.float64).clamp(length / 4, 3 * length / 4)
    return edges.diff()


def picture(axes: Axes, field: EffectiveField, frames: npt.NDArray[np.uint8]) -> None:
    """Draw the frame with the largest gradients, overlaid with the gradients of all frames, and both boxes."""
    heat = field.heat.cpu().numpy()
    at = int(heat.sum(axis=(1, 2)).argmax())
    summed = heat.sum(axis=0)
    colours = colour.magnitude()
    share = np.sqrt(summed / (summed.max() or 1.0))  # otherwise a few pixels would dominate
    axes.imshow(sprites.blended(frames[at], share, colours), interpolation="nearest")
    for box, dashed in ((field.theoretical_box, True), (field.box, False)):
        if box is not None:
            _outline(axes, box[1], box[2], dashed=dashed)
    height, width = summed.shape
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()


def _outline(axes: Axes, rows: Sequence[int], columns: Sequence[int], *, dashed: bool) -> None:
    """Draw a rectangle around whole pixels: white on black, visible on any image."""
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    size = (columns[1] - columns[0] + 1, rows[1] - rows[0] + 1)
    for ink, line, style in (("black", 3.2, "-"), (_WHITE, 1.5, (0, (4, 3)) if dashed else "-")):
        axes.add_patch(
            Rectangle(corner, *size, fill=False, edgecolor=ink, linewidth=line, linestyle=style, clip_on=False)
        )


def over_time(axes: Axes, field: EffectiveField) -> None:
    """Draw each frame's share of the gradients, and the ranges of both fields above."""
    shares = 100 * field.heat.sum(dim=(1, 2)).cpu().numpy()
    axes.bar(range(len(shares)), shares, width=0.8, color=figures.SERIES[0])
    top = max(float(shares.max()), 1e-9)
    for box, height, dashed in ((field.theoretical_box, 1.18, True), (field.box, 1.08, False)):
        if box is not None:
            first, last = box[0]
            axes.plot(
                [first - 0.5, last + 0.5],
                [height * top] * 2,
                color=figures.INK,
                linewidth=1.5,
                linestyle=(0, (4, 3)) if dashed else "-",
                marker="|",
                markersize=7,
            )
    axes.set_xlim(-0.7, len(shares) - 0.3)
    axes.set_ylim(0, 1.28 * top)
    axes.set_ylabel("% of gradients")
    axes.locator_params(axis="x", integer=True, nbins=8)
    figures.over_frames(axes, field.times)
    axes.locator_params(axis="y", nbins=4)


def write_effective(fields: Sequence[EffectiveField], frames: npt.NDArray[np.uint8]) -> str:
    """Write the drawing as a standalone file that follows a browser's light or dark scheme."""
    return figures.standalone(draw_effective(fields, frames))


#: Width and height of a figure, for a clip and for an image.
_CLIP, _IMAGE = (640, 220), (260, 240)

_BOXES = "Solid: the effective field; dashed: the theoretical one. Colours go by the square root of the gradients."


def plot(field: EffectiveField, clip: Tensor | None = None) -> Figure:
    """Plot the field of a unit (`EffectiveField.plot`)."""
    frames = _frames(field, clip)
    width, height = _size(field)
    with notebook.drawing(width, height + 90) as drawn:
        _paint_plot(drawn, field, frames)
        notebook.heading(drawn, _title(field), f"{in_words(field)}\n{_BOXES}")
    return drawn


def describe(field: EffectiveField) -> tuple[str, list[tuple[str, str]]]:
    """Return title and table for a notebook."""
    return f"{_title(field)}: {in_words(field)}", notebook.said(field.settings)


def _title(field: EffectiveField) -> str:
    return (
        f"{field.layer or 'the model'} at {', '.join(map(str, field.position))} of {notebook.extent(field.positions)}"
    )


def _size(field: EffectiveField) -> tuple[int, int]:
    return _CLIP if len(field.heat) > 1 else _IMAGE


def _paint_plot(drawn: Figure, field: EffectiveField, frames: npt.NDArray[np.uint8]) -> None:
    several = len(frames) > 1
    axes = drawn.subplots(1, 1 + several, squeeze=False, width_ratios=[1, 1.8][: 1 + several])[0]
    picture(axes[0], field, frames)
    if several:
        over_time(axes[1], field)


def _frames(field: EffectiveField, clip: Tensor | None) -> npt.NDArray[np.uint8]:
    """Return the clip as frames, or black ones."""
    extent = tuple(field.heat.shape)
    if clip is None:
        return np.zeros((*extent, 1), dtype=np.uint8)
    if clip.ndim != 4 or tuple(clip.shape[1:]) != extent:
        raise UsageError(
            f"the clip is {notebook.extent(clip.shape)}; expected channels and the field's {notebook.extent(extent)}"
        )
    return sprites.as_frames(clip)


#: Maximum number of layers drawn.
_MOST = 12

#: CSS pixels: from layer to layer, and up to the frames.
_ROW, _BASE = 44.0, 66.0

#: CSS pixels: the width of names and of fields beside the drawing, of all frames, and of a unit at most.
_NAMES, _FIELDS, _WIDTH, _UNIT = 170.0, 150.0, 640.0, 9.0

#: Maximum number of characters of a layer's name; the end is more informative than the beginning.
_LETTERS = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One layer of the drawing."""

    row: ReceptiveField
    #: The frame at which each unit is drawn.
    stand: list[int]
    #: Units that the chosen one depends on, including itself in its own layer.
    used: list[int]
    #: Direct inputs of units: units of the level below, frames at the lowest; for each used unit, for all if none is
    #: used.
    reads: dict[int, list[int]]

    @property
    def recurrent(self) -> bool:
        """Check whether units read the state of their neighbor."""
        return self.row.kind == "recurrence"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalField:
    """One unit and everything it depends on."""

    #: Layer and temporal position of the unit.
    layer: str
    position: int
    #: Frames of the clip, and those that the unit depends on.
    frames: int
    seen: list[int]
    #: Layers from the first to the last; those above the unit's have no used units.
    levels: list[Level]

    @property
    def data(self) -> dict[str, Any]:
        """Return every number drawn."""
        return {
            "layer": self.layer,
            "position": self.position,
            "frames": self.frames,
            "first_frame": self.seen[0] if self.seen else None,
            "last_frame": self.seen[-1] if self.seen else None,
            "layers": [
                {
                    "layer": level.row.layer,
                    "kind": level.row.kind,
                    "field": level.row.field[0],
                    "stride": level.row.stride[0],
                    "positions": len(level.stand),
                    "stands_at": level.stand,
                    "used": level.used,
                    "first_frame": level.stand[level.used[0]] if level.used else None,
                    "last_frame": level.stand[level.used[-1]] if level.used else None,
                }
                for level in self.levels
            ],
        }

    @property
    def sentence(self) -> str:
        """Describe the drawing in words."""
        what = "no frame"  # its window is entirely in the padding
        if self.seen:
            first, last = self.seen[0], self.seen[-1]
            what = f"frame {first}" if first == last else f"frames {first} to {last}"
        return f"Unit {self.position} of {self.layer} depends on {what} of {self.frames}."


def temporal_field(trace: Trace, layer: str | None = None, position: int | None = None) -> TemporalField | None:
    """Return the dependencies of one unit; None if no layer can be drawn: none sees time, or tracing it failed.

    Args:
        trace: The result of `explain.fields.theoretical.trace`.
        layer: Layer or block of the unit; None uses the deepest layer; if possible one below final recurrent layers,
            which see everything.
        position: Temporal position of the unit; None uses the last for a recurrence, else the middle.

    Raises:
        UnknownNameError: The layer was not traced.
        UsageError: It cannot be drawn, or the position does not exist.
    """
    rows = _drawable(trace)
    if layer is not None and layer not in {row.layer for row in rows}:
        rows = _with_block(trace, rows, layer)
    if not rows:
        return None
    before_recurrence = [row for row in rows if row.kind != "recurrence"] or rows
    chosen = before_recurrence[-1] if layer is None else next(row for row in rows if row.layer == layer)
    rows = _chosen(rows, chosen)
    count = len(trace.stand(chosen))
    if position is None:
        position = count - 1 if chosen.kind == "recurrence" else count // 2
    if not 0 <= position < count:
        raise UsageError(f"{chosen.layer} has positions 0 to {count - 1} in time, not {position}")
    levels: list[Level] = []
    for place, row in enumerate(rows):
        below = rows[place - 1] if place else None
        used = _itself(trace, row, position) if row is chosen else trace.used(chosen, position, row)
        drawn = used or range(len(trace.stand(row)))
        reads = {at: _reads(trace, row, at, below) for at in drawn}
        levels.append(Level(row=row, stand=trace.stand(row), used=used, reads=reads))
    return TemporalField(
        layer=chosen.layer,
        position=position,
        frames=trace.frames,
        seen=trace.seen(chosen, position),
        levels=levels,
    )


def _drawable(trace: Trace) -> list[ReceptiveField]:
    """Return layers with a temporal or spatial extent; those inside a recurrence are part of it."""
    loops = [row.layer for row in trace.followed if row.kind == "recurrence"]
    found: list[ReceptiveField] = []
    for row in trace.followed:
        part = row.kind != "recurrence" and any(row.layer == loop or row.layer.startswith(f"{loop}.") for loop in loops)
        pools = row.kind.endswith("pooling") and row.kernel[0] == 1
        if len(trace.stand(row)) > 1 and max(row.kernel) > 1 and row.kind != "block" and not part and not pools:
            found.append(row)
    return found


def _with_block(trace: Trace, rows: list[ReceptiveField], name: str) -> list[ReceptiveField]:
    """Return the rows, and the block of that name if it runs; other blocks are represented by their layers."""
    named = [row for row in trace.rows if row.layer == name]
    known = [row.layer for row in rows]
    if not named:
        raise UnknownNameError("layer with a field in time", name, known)
    blocks = [row for row in named if row.kind == "block" and row in trace.followed and len(trace.stand(row)) > 1]
    if blocks and max(blocks[0].kernel) > 1:
        return [row for row in trace.rows if row in rows or row is blocks[0]]
    followed = [row for row in named if row in trace.followed]
    if not followed:
        why = "what it sees of time could not be followed"
    elif all(len(trace.stand(row)) == 1 for row in followed):
        why = "it has one position in time only"
    else:
        why = "it is part of a recurrence, pools single frames, or looks at one position alone"
    can = f"these layers can: {', '.join(known)}" if known else "nor can any other layer"
    raise UsageError(f"{name} cannot be drawn: {why}; {can}")


def _chosen(rows: list[ReceptiveField], chosen: ReceptiveField) -> list[ReceptiveField]:
    """Select few enough rows: if there are too many, those that change the temporal field, then some of these."""
    if len(rows) <= _MOST:
        return rows
    others = [row for row in rows if row is not chosen]
    others = [row for row in others if row.kernel[0] > 1] or others
    kept = [others[at] for at in evenly(len(others), _MOST - 1)]
    return [row for row in rows if row is chosen or row in kept]


def _itself(trace: Trace, row: ReceptiveField, position: int) -> list[int]:
    """Return the unit, with the units of its own layer whose state it reads."""
    if row.kind != "recurrence":
        return [position]
    seen = set(trace.seen(row, position))
    return [at for at in range(len(trace.stand(row))) if at == position or set(trace.seen(row, at)) <= seen]


def _reads(trace: Trace, row: ReceptiveField, position: int, below: ReceptiveField | None) -> list[int]:
    """Return the inputs of a unit in the level below, not through a neighbor's state."""

    def all_of(at: int) -> list[int]:
        return trace.seen(row, at) if below is None else trace.used(row, at, below)

    found = all_of(position)
    if row.kind == "recurrence":
        before = set(all_of(position - 1)) if position else set[int]()
        stand = list(range(trace.frames)) if below is None else trace.stand(below)
        here = trace.stand(row)[position]
        found = [at for at in found if at not in before] or [at for at in found if stand[at] == here]
    if below is not None and below.kind == "recurrence":
        found = found[-1:]
    return found


def draw_temporal(field: TemporalField, name: str = "temporal-field") -> Markup:
    """Draw inline SVG for a page (`explain.drawing.figures`): time to the right, layers upwards."""
    height = _BASE + _ROW * len(field.levels) + 24
    with figures.style():
        drawn = figures.figure(_NAMES + _WIDTH + _FIELDS, height)
        drawn.set_layout_engine("none")
        axes = drawn.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, _NAMES + _WIDTH + _FIELDS)
        axes.set_ylim(0, height)
        _paint(axes, field)
        return figures.svg(drawn, name, field.sentence)


def write_temporal(field: TemporalField) -> str:
    """Write the drawing as a standalone file that follows a browser's light or dark scheme."""
    return figures.standalone(draw_temporal(field))


def _paint(axes: Axes, field: TemporalField) -> None:
    pitch = _WIDTH / field.frames
    size = min(_UNIT, 0.55 * pitch)

    def across(frames: Iterable[int]) -> list[float]:
        return [_NAMES + (frame + 0.5) * pitch for frame in frames]

    heights = [_BASE + _ROW * (place + 1) for place in range(len(field.levels))]
    below, below_height = list(range(field.frames)), _BASE
    for level, height in zip(field.levels, heights, strict=True):
        at = across(level.stand)
        under = across(below)
        lines = [
            ((at[unit], height), (under[read], below_height)) for unit, reads in level.reads.items() for read in reads
        ]
        if level.used or len(lines) <= 3 * len(at):
            _lines(axes, lines, figures.SERIES[0] if level.used else figures.SOFT, 0.55)
        if level.recurrent:
            _states(axes, level, at, height, size)
        below, below_height = level.stand, height
    everything = range(field.frames)
    unseen = [frame for frame in everything if frame not in set(field.seen)]
    _marks(axes, across(unseen), _BASE, "s", size, figures.CARD, figures.SOFT)
    _marks(axes, across(field.seen), _BASE, "s", size, figures.SERIES[4], figures.SERIES[4])
    for level, height in zip(field.levels, heights, strict=True):
        own = {field.position} if level.row.layer == field.layer else set[int]()
        used = set(level.used) - own
        at = across(level.stand)
        idle = [place for unit, place in enumerate(at) if unit not in used | own]
        _marks(axes, idle, height, "o", size, figures.CARD, figures.SOFT)
        _marks(axes, [at[unit] for unit in sorted(used)], height, "o", size, figures.SERIES[0], figures.SERIES[0])
        _marks(axes, [at[unit] for unit in own], height, "D", size + 1, figures.SERIES[1], figures.SERIES[1])
        label = level.row.layer if len(level.row.layer) <= _LETTERS else f"…{level.row.layer[1 - _LETTERS :]}"
        axes.text(_NAMES - 10, height, label, ha="right", va="center")
        axes.text(_NAMES + _WIDTH + 10, height, _seen(level), ha="left", va="center", color=figures.SOFT)
    axes.text(_NAMES - 10, _BASE, "frames of the clip", ha="right", va="center")
    _ticks(axes, field.frames, across, _BASE - size)
    _legend(axes, size)


def _lines(axes: Axes, lines: list[tuple[tuple[float, float], tuple[float, float]]], shade: str, alpha: float) -> None:
    """Draw many lines as one path."""
    if lines:
        path = Path(np.array(lines).reshape(-1, 2), [Path.MOVETO, Path.LINETO] * len(lines))
        axes.add_patch(PathPatch(path, fill=False, edgecolor=shade, linewidth=0.8, alpha=alpha, zorder=1))


def _states(axes: Axes, level: Level, at: list[float], height: float, size: float) -> None:
    """Draw the states that a recurrence passes from unit to unit."""
    wing = min(size * 0.3, 2.5)
    for shade, wanted in ((figures.SOFT, False), (figures.SERIES[0], True)):
        lines, heads = [], []
        for unit, (one, two) in enumerate(itertools.pairwise(at)):
            if ({unit, unit + 1} <= set(level.used)) == wanted:
                tip = (one + two) / 2 + wing
                lines.append(((one, height), (two, height)))
                heads += [
                    (tip, height),
                    (tip - 2 * wing, height - wing),
                    (tip - 2 * wing, height + wing),
                    (tip, height),
                ]
        _lines(axes, lines, shade, 1.0)
        if heads:
            corners = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(lines)
            axes.add_patch(PathPatch(Path(heads, corners), facecolor=shade, linewidth=0, zorder=1))


def _marks(axes: Axes, at: list[float], height: float, mark: str, size: float, face: str, edge: str) -> None:
    axes.plot(
        at,
        [height] * len(at),
        linestyle="none",
        marker=mark,
        markersize=size,
        markerfacecolor=face,
        markeredgecolor=edge,
        markeredgewidth=0.8,
        zorder=2,
    )


def _seen(level: Level) -> str:
    """Describe the temporal field in words."""
    row = level.row
    frames = "all frames" if row.whole[0] else f"{row.field[0]} frame{'s' if row.field[0] > 1 else ''}"
    if row.whole[0] and row.frames and row.frames[0] and row.frames[0][1] < row.frames[-1][1]:  # type: ignore[index]
        frames = "all frames so far"
    return frames if row.stride[0] == 1 else f"{frames}, every {row.stride[0]:g}"


def _ticks(axes: Axes, frames: int, across: Any, height: float) -> None:
    step = next(step for step in (1, 2, 4, 5, 8, 10, 16, 20, 25, 50, 100, 1000, frames) if frames / step <= 16)
    for frame in range(0, frames, step):
        axes.text(across([frame])[0], height - 4, str(frame), ha="center", va="top", color=figures.SOFT)


def _legend(axes: Axes, size: float) -> None:
    size = max(size, 7.0)
    at = _NAMES
    for mark, face, edge, text in (
        ("D", figures.SERIES[1], figures.SERIES[1], "the unit"),
        ("o", figures.SERIES[0], figures.SERIES[0], "units it depends on"),
        ("s", figures.SERIES[4], figures.SERIES[4], "frames it depends on"),
        ("o", figures.CARD, figures.SOFT, "the rest"),
    ):
        _marks(axes, [at + 5], 14, mark, size, face, edge)
        axes.text(at + 15, 14, text, ha="left", va="center", color=figures.SOFT)
        at += 45 + 6.2 * len(text)
