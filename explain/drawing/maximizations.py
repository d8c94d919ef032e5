"""Maximisations: frames of every clip, and how the activation rose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from explain.drawing import figures, notebook, sprites
from explain.drawing.numbers import evenly

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from explain.maximization import Maximization

#: Width of a figure, of its curves, and of its largest frame.
_WIDTH, _CURVE, _CELL = 900, 250, 160

#: Frames of each clip in a figure, and clips of a figure and of a view where none are named.
_FRAMES, _CLIPS, _FILMS = 6, 6, 12


def plot(result: Maximization, clips: Sequence[int] | None = None) -> Figure:
    """The figure of some clips (`Maximization.plot`)."""
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


def html(result: Maximization) -> str:
    """The view of the first clips."""
    films = []
    for at in range(min(_FILMS, len(result.clips))):
        rose = f"from {float(result.initial[at]):.3g} to {float(result.activation[at]):.3g}"
        film = notebook.film(
            _frames(result, at), f"A clip made to excite {result.names[at]}", f"{result.names[at]}: {rose}"
        )
        curve = result.history[:, at].float().tolist(), f"Activation over {len(result.history)} steps, {rose}"
        films.append((film, curve))
    return notebook.view(
        "maximization.html",
        title="Made to excite",
        what=result.layer or ", ".join(result.names[: len(films)]),
        shown=films,
        more=len(result.clips) - len(films),
        rows=notebook.said(result.settings),
    )


def _frames(result: Maximization, at: int) -> npt.NDArray[np.uint8]:
    """The frames of a clip; of a still, whose frames are all equal, the one."""
    frames = sprites.as_frames(result.clips[at])
    return frames[:1] if bool((frames == frames[:1]).all()) else frames


def _history(axes: Axes, result: Maximization, at: int) -> None:
    """The activation at every step, and of the clip that was made."""
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
