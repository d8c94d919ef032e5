"""Which units and which frames one unit depends on, layer by layer, along time: drawn from a model's own fields."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from explain.drawing import figures
from explain.drawing.numbers import evenly
from zoo.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markupsafe import Markup
    from matplotlib.axes import Axes

    from explain.fields.theoretical import ReceptiveField, Trace

#: Layers drawn, at most.
_MOST = 12

#: CSS pixels: from layer to layer, and up to the frames.
_ROW, _BASE = 44.0, 66.0

#: CSS pixels: the room for names and fields beside, that of all frames, and a unit at most.
_NAMES, _FIELDS, _WIDTH, _UNIT = 170.0, 150.0, 640.0, 9.0

#: Characters of a layer's name, at most; the end tells more than the beginning.
_LETTERS = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One layer of the drawing."""

    row: ReceptiveField
    #: The frame at which each unit stands.
    stand: list[int]
    #: Units that the chosen one depends on, itself among them in its own layer.
    used: list[int]
    #: What units read directly, units of the level below, frames at the lowest: for each used, for all where none is.
    reads: dict[int, list[int]]

    @property
    def recurrent(self) -> bool:
        """Whether units read the state of their neighbour."""
        return self.row.kind == "recurrence"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalField:
    """One unit and all that it depends on."""

    #: Layer and position in time of the unit.
    layer: str
    position: int
    #: Frames of the clip, and those that the unit depends on.
    frames: int
    seen: list[int]
    #: Layers from the first to the last; those above the unit's use nothing.
    levels: list[Level]

    @property
    def data(self) -> dict[str, Any]:
        """Every number drawn."""
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
        """What the drawing shows, in words."""
        what = "no frame"  # its window lies in the padding
        if self.seen:
            first, last = self.seen[0], self.seen[-1]
            what = f"frame {first}" if first == last else f"frames {first} to {last}"
        return f"Unit {self.position} of {self.layer} depends on {what} of {self.frames}."


def temporal_field(trace: Trace, layer: str | None = None, position: int | None = None) -> TemporalField | None:
    """What one unit depends on; None where no layer can be drawn: none sees time, or time could not be followed.

    Args:
        trace: What `explain.fields.theoretical.trace` found.
        layer: Layer or block of the unit; None takes the deepest layer, below recurrent ones at the end where there are
            others, since these see everything.
        position: Position of the unit in time; None takes the last one of a recurrence and else the middle one.

    Raises:
        UnknownNameError: No such layer was traced.
        UsageError: It cannot be drawn, or has no such position.
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
    """Layers that look along time, rows or columns; those inside a recurrence are part of it."""
    loops = [row.layer for row in trace.followed if row.kind == "recurrence"]
    found: list[ReceptiveField] = []
    for row in trace.followed:
        part = row.kind != "recurrence" and any(row.layer == loop or row.layer.startswith(f"{loop}.") for loop in loops)
        pools = row.kind.endswith("pooling") and row.kernel[0] == 1
        if len(trace.stand(row)) > 1 and max(row.kernel) > 1 and row.kind != "block" and not part and not pools:
            found.append(row)
    return found


def _with_block(trace: Trace, rows: list[ReceptiveField], name: str) -> list[ReceptiveField]:
    """The rows, and the block of that name where it runs; of other blocks only their layers are drawn."""
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
    """Few enough rows: where there are too many, those that change what is seen of time, then some of these."""
    if len(rows) <= _MOST:
        return rows
    others = [row for row in rows if row is not chosen]
    others = [row for row in others if row.kernel[0] > 1] or others
    kept = [others[at] for at in evenly(len(others), _MOST - 1)]
    return [row for row in rows if row is chosen or row in kept]


def _itself(trace: Trace, row: ReceptiveField, position: int) -> list[int]:
    """The unit, with the units of its own layer whose state it reads."""
    if row.kind != "recurrence":
        return [position]
    seen = set(trace.seen(row, position))
    return [at for at in range(len(trace.stand(row))) if at == position or set(trace.seen(row, at)) <= seen]


def _reads(trace: Trace, row: ReceptiveField, position: int, below: ReceptiveField | None) -> list[int]:
    """What a unit reads of the level below, not by way of a neighbour's state."""

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


def draw(field: TemporalField, name: str = "temporal-field") -> Markup:
    """The drawing as inline SVG for a page (`explain.drawing.figures`): time to the right, layers upwards."""
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


def write(field: TemporalField) -> str:
    """The drawing as a file of its own: light, and dark where a browser's user prefers that."""
    return figures.standalone(draw(field))


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


def _lines(axes: Axes, lines: list[tuple[tuple[float, float], tuple[float, float]]], colour: str, alpha: float) -> None:
    """Many lines as one path."""
    if lines:
        path = Path(np.array(lines).reshape(-1, 2), [Path.MOVETO, Path.LINETO] * len(lines))
        axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=0.8, alpha=alpha, zorder=1))


def _states(axes: Axes, level: Level, at: list[float], height: float, size: float) -> None:
    """The states that a recurrence hands from unit to unit."""
    wing = min(size * 0.3, 2.5)
    for colour, wanted in ((figures.SOFT, False), (figures.SERIES[0], True)):
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
        _lines(axes, lines, colour, 1.0)
        if heads:
            corners = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(lines)
            axes.add_patch(PathPatch(Path(heads, corners), facecolor=colour, linewidth=0, zorder=1))


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
    """The field in time, in words."""
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
