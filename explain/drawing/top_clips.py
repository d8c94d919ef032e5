"""The clips that activate units most: of each the frame where the unit is highest, and where in it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from explain.attribution.maps import to_map
from explain.drawing import colours, notebook, sprites
from zoo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from explain.maximization import TopClip, TopClips

#: Width of a figure, its widest picture, and the room for the four lines above one.
_WIDTH, _CELL, _LINES = 900, 220, 66

#: Units of a figure and of a view where none are named, and clips of each.
_UNITS, _FILMS, _CLIPS = 6, 3, 5

#: Width of a letter above a picture.
_LETTER = 6

#: Pixels for each of a map's positions where the frame is not known.
_ENLARGED = 8


def plot(found: TopClips, units: Sequence[int] | None = None) -> Figure:
    """The figure of some units (`TopClips.plot`)."""
    best = dict(zip(found.units, found.clips, strict=True))
    for unit in units or ():
        if unit not in best:
            raise UsageError(f"unit {unit} was not looked for: units are {', '.join(map(str, found.units))}")
    shown = list(found.units[:_UNITS]) if units is None else list(units)
    pictures = {unit: _pictures(best[unit][:_CLIPS]) for unit in shown}
    across = max([1, *map(len, pictures.values())])
    cell = min(_CELL, _WIDTH / across - 12)
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
        notebook.heading(drawn, _title(found), _below(found, len(found.units) - len(shown) if units is None else 0))
    return drawn


def html(found: TopClips) -> str:
    """The view of the first units."""
    films = []
    for unit, clips in list(zip(found.units, found.clips, strict=True))[:_FILMS]:
        for clip, picture in zip(clips[:_CLIPS], _pictures(clips[:_CLIPS]), strict=True):
            told = f"{found.layer}/{unit}: {', '.join(filter(None, _told(clip)))}"
            films.append((notebook.film(picture, f"A frame that excites {told}", told), None))
    left = len(found.units) - _FILMS
    rows = [("more", f"{left} units: .plot(units=[...]) shows them")] if left > 0 else []
    return notebook.view(
        "maximization.html", title=_title(found), what=_below(found, 0), shown=films, more=0, rows=rows
    )


def _pictures(clips: Sequence[TopClip]) -> list[npt.NDArray[np.uint8]]:
    """Of each clip a frame (1 x H x W x 3) with the unit's map over it; all maps of a unit share a scale."""
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
    """A clip's name and label, and how active the unit is on it."""
    name = clip.source if clip.source.startswith("sample:") else Path(clip.source).name
    return (
        name,
        clip.label or "",
        f"mean {clip.mean:.3g}, {clip.highest:.3g} {'in' if clip.seconds is None else 'at'} {clip.moment}",
    )


def _end(text: str, letters: int) -> str:
    """The end of a name that is too long: names differ there."""
    return text if len(text) <= letters else f"…{text[1 - letters :]}"


def _title(found: TopClips) -> str:
    return f"Clips that excite {found.layer} most"


def _below(found: TopClips, left: int) -> str:
    more = f"{left} more unit{'s' * (left > 1)}: plot(units=[...]) shows them;  " if left > 0 else ""
    out = f"; {len(found.problems)} left out" if found.problems else ""
    return (
        f"{more}{found.count} clips looked at{out};  of each the frame where the unit is highest, coloured by its "
        "activation there, on one scale for each unit"
    )
