"""Figures of units: synthesized clips, top-activating clips, and gradients in one frame."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from explain.attribution.maps import to_map
from explain.drawing import colours, figures, notebook, sprites
from explain.drawing.numbers import evenly
from explain.maximization import Maximization, TopClip, TopClips
from explain.maximization.unit_views import UnitView
from zoo.clips import instant, moment
from zoo.errors import UsageError
from zoo.names import short_name

#: Width of a figure, of its curves, and of its largest frame.
_WIDTH, _CURVE, _CELL = 900, 250, 160

#: Frames of each clip in a figure, and default number of clips.
_FRAMES, _CLIPS = 6, 6


def plot(result: Maximization, clips: Sequence[int] | None = None) -> Figure:
    """Plot some clips (`Maximization.plot`)."""
    count = len(result.clips)
    shown = list(range(min(count, _CLIPS))) if clips is None else [notebook.place("clip", at, count) for at in clips]
    pictures = [_frames(result, at) for at in shown]
    places = [evenly(len(frames), _FRAMES) for frames in pictures]
    across = max([1, *map(len, places)])
    rows, columns = pictures[0].shape[1:3] if pictures else (1, 1)
    cell = min(_CELL, (_WIDTH - _CURVE - 40) / across)
    tall = max(cell * rows / columns + 22, 120)
    with notebook.drawing(across * cell + _CURVE + 60, len(shown) * (tall + 30) + 70) as drawn:
        widths = [cell] * across + [_CURVE]
        grid = drawn.add_gridspec(max(1, len(shown)), across + 1, width_ratios=widths)
        for row, at in enumerate(shown):
            frames = [drawn.add_subplot(grid[row, place]) for place in range(len(places[row]))]
            for axes, frame in zip(frames, places[row], strict=True):
                notebook.image(axes, pictures[row][frame], f"frame {frame}" if len(pictures[row]) > 1 else "")
            _history(drawn.add_subplot(grid[row, across]), result, at)
        left = count - len(shown)
        below = f"{left} more clip{'s' * (left > 1)}: plot(clips=[...]) shows them;  " if left and clips is None else ""
        below += ";  ".join(f"{name} {value}" for name, value in notebook.said(result.settings))
        below += (
            "\nDashed: the finished clip. Curves: the clip as it was shifted or otherwise transformed at each step."
        )
        notebook.heading(drawn, f"Made to excite {result.layer or 'what it is named after'}", below)
    return drawn


def describe(result: Maximization) -> tuple[str, list[tuple[str, str]]]:
    """Return title and table for a notebook."""
    rose = [
        (name, f"from {float(first):.3g} to {float(last):.3g}")
        for name, first, last in zip(result.names, result.initial, result.activation, strict=True)
    ]
    return f"Made to excite {result.layer or ', '.join(result.names)}", [*rose, *notebook.said(result.settings)]


def _frames(result: Maximization, at: int) -> npt.NDArray[np.uint8]:
    """Return the frames of a clip; a single one for a still, whose frames are all equal."""
    frames = sprites.as_frames(result.clips[at])
    return frames[:1] if bool((frames == frames[:1]).all()) else frames


def _history(axes: Axes, result: Maximization, at: int) -> None:
    """Plot the activation at every step, and that of the final clip."""
    values = result.history[:, at].double().cpu().numpy()
    steps = range(1, len(values) + 1)
    axes.plot([0, *steps], [float(result.initial[at]), *values], color=figures.SERIES[0], linewidth=1.6)
    axes.axhline(float(result.activation[at]), color=figures.SERIES[1], linewidth=1.2, linestyle="--")
    axes.set(xlim=(0, len(values)), xlabel="step", ylabel="activation")
    axes.set_title(
        f"{result.names[at]}\n{float(result.initial[at]):.3g} → {float(result.activation[at]):.3g}", fontsize=10
    )
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))


#: Width of the widest image of top-activating clips, and height of the four lines above it.
_PICTURE, _LINES = 220, 66

#: Default number of units in a figure, and clips of each.
_UNITS, _BEST = 6, 5

#: Width of a letter above an image.
_LETTER = 6

#: Pixels per position of a map if the frame is unknown.
_ENLARGED = 8


def plot_clips(found: TopClips, units: Sequence[int] | None = None) -> Figure:
    """Plot some units (`TopClips.plot`)."""
    best = dict(zip(found.units, found.clips, strict=True))
    for unit in units or ():
        if unit not in best:
            raise UsageError(f"unit {unit} was not looked for: units are {', '.join(map(str, found.units))}")
    shown = list(found.units[:_UNITS]) if units is None else list(units)
    pictures = {unit: _overlaid(best[unit][:_BEST]) for unit in shown}
    across = max([1, *map(len, pictures.values())])
    cell = min(_PICTURE, _WIDTH / across - 12)
    tall = max([cell * one.shape[1] / one.shape[2] for several in pictures.values() for one in several], default=cell)
    with notebook.drawing(across * (cell + 12), len(shown) * (tall + _LINES) + 70) as drawn:
        grid = drawn.add_gridspec(max(1, len(shown)), across)
        for row, unit in enumerate(shown):
            for column, (clip, picture) in enumerate(zip(best[unit], pictures[unit], strict=False)):
                head = f"{found.layer}/{unit}" if column == 0 else ""
                name, label, active = _told(clip)
                most = int(cell / _LETTER)
                lines = (_end(head, most), _end(name, most), textwrap.shorten(label, most, placeholder="…"), active)
                notebook.image(drawn.add_subplot(grid[row, column]), picture[0], "\n".join(lines))
        notebook.heading(drawn, _title(found), _counted(found, len(found.units) - len(shown) if units is None else 0))
    return drawn


def describe_clips(found: TopClips) -> tuple[str, list[tuple[str, ...]]]:
    """Return title and table for a notebook."""
    rows: list[tuple[str, ...]] = [
        (f"{found.layer}/{unit}", *_told(clip))
        for unit, clips in zip(found.units, found.clips, strict=True)
        for clip in clips[:_BEST]
    ]
    return _title(found), rows


def _overlaid(clips: Sequence[TopClip]) -> list[npt.NDArray[np.uint8]]:
    """Return a frame (1 x H x W x 3) of each clip overlaid with the unit's map; all maps of a unit share a scale."""
    most = max((clip.highest for clip in clips), default=0.0)
    pictures = []
    for clip in clips:
        at = clip.map[clip.position[0]][None, None, None].float().cpu()
        if clip.picture is None:
            rows, columns = (_ENLARGED * side for side in at.shape[3:])
            frame = np.zeros((1, rows, columns, 1), dtype=np.uint8)
        else:
            frame = sprites.as_frames(clip.picture[:, None].float() / 255)
        heat = to_map(at, "positive", "NCTHW", (1, frame.shape[1], frame.shape[2]))[0].numpy()
        share = heat / most if most > 0 else np.zeros_like(heat)
        pictures.append(sprites.blended(frame, share, colours.magnitude()))
    return pictures


def _told(clip: TopClip) -> tuple[str, str, str]:
    """Describe a clip by name and label, and the unit's activation on it."""
    return (
        short_name(clip.source),
        clip.label or "",
        f"mean {clip.mean:.3g}, {clip.highest:.3g} {'in' if clip.seconds is None else 'at'} {clip.moment}",
    )


def _end(text: str, letters: int) -> str:
    """Truncate a long name to its end, where names differ."""
    return text if len(text) <= letters else f"…{text[1 - letters :]}"


def _title(found: TopClips) -> str:
    return f"Clips that excite {found.layer} most"


def _counted(found: TopClips, left: int) -> str:
    more = f"{left} more unit{'s' * (left > 1)}: plot(units=[...]) shows them;  " if left > 0 else ""
    out = f"; {len(found.problems)} left out" if found.problems else ""
    return (
        f"{more}{found.count} clips looked at{out};  of each the frame where the unit is highest, coloured by its "
        "activation there, on one scale for each unit"
    )


#: Width of a unit's figure, and height of its images and of the curve.
_ACROSS, _TALL, _COURSE = 720, 250, 120


def plot_unit(view: UnitView) -> Figure:
    """Plot a unit (`UnitView.plot`)."""
    several = len(view.time) > 1
    with notebook.drawing(_ACROSS, _TALL + _COURSE * several + 60) as drawn:
        grid = drawn.add_gridspec(1 + several, 3, height_ratios=[_TALL, _COURSE][: 1 + several])
        for place, (picture, title) in enumerate(_pictures(view)):
            notebook.image(drawn.add_subplot(grid[0, place]), picture[0], title)
        if several:
            time = view.time.double().cpu().numpy()
            notebook.course(
                drawn.add_subplot(grid[1, :]), time, [view.frame], "share of the gradient\nin frame", view.times
            )
        notebook.heading(drawn, f"{view.layer}/{view.unit}", _below(view))
    return drawn


def describe_unit(view: UnitView) -> tuple[str, list[tuple[str, str]]]:
    """Return title and table for a notebook."""
    shown = [("frame", moment(view.frame, len(view.time), view.times))] if len(view.time) > 1 else []
    return f"{view.layer}/{view.unit}: {_below(view)}", shown


def _pictures(view: UnitView) -> list[tuple[npt.NDArray[np.uint8], str]]:
    """Return single frames, and their descriptions."""
    frame = sprites.as_frames(view.picture[:, None])
    share, _, shades = colours.scaled(view.gradient[None].float().cpu().numpy())
    return [
        (frame, instant(view.frame, view.times)),
        (sprites.blended(frame, share, shades), "what it looks at there"),
        (sprites.as_frames(view.image[:, None]), "the image that excites it most"),
    ]


def _below(view: UnitView) -> str:
    time, row, column = view.position
    return (
        f"highest activation {view.activation:.3g} at time step {time}, row {row}, column {column} of the layer; mean "
        f"for the image {view.maximized:.3g}, for grey {view.initial:.3g}"
    )
