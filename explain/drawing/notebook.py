"""Common parts of figures of results, and their display in notebooks."""

from __future__ import annotations

import base64
import io
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from explain.drawing import figures
from explain.drawing.templates import render
from zoo.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

#: Dots per inch of a figure; lengths in this package are 72nds of an inch, as font sizes are.
_DPI = 110

_INCH = 72

#: Letters of small text per inch.
_LETTERS = 12.5


class Drawing(Figure):
    """A figure that notebooks show whether or not pyplot was imported. It is independent of pyplot's global state."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # letters that the font lacks are drawn as boxes
            self.savefig(file, format="png")
        return file.getvalue()


@contextmanager
def drawing(width: float, height: float) -> Iterator[Drawing]:
    """Yield an empty figure to draw on, in the page's style; afterwards it gets the light colors."""
    with figures.style():
        drawn = Drawing(figsize=(width / _INCH, height / _INCH), dpi=_DPI, layout="constrained")
        yield drawn
        figures.on_paper(drawn)


def heading(drawn: Figure, title: str, below: str = "") -> None:
    """Draw a left-aligned title, with further text beneath it."""
    drawn.suptitle(title, x=0.01, ha="left", fontsize=14, color=figures.INK)
    if below:
        wide = int(drawn.get_figwidth() * _LETTERS)
        below = "\n".join(part for line in below.splitlines() for part in textwrap.wrap(line, wide))
        drawn.supxlabel(below, x=0.01, ha="left", fontsize=10, color=figures.SOFT)


def place(what: str, wanted: int, count: int) -> int:
    """Normalize an index among so many items; negative ones count from the end.

    Raises:
        UsageError: The index is out of range.
    """
    if not -count <= wanted < count:
        raise UsageError(f"{what} {wanted} is not there: {what}s are 0 to {count - 1}")
    return wanted % count


def image(axes: Axes, picture: npt.NDArray[np.uint8], title: str = "") -> None:
    """Draw an H x W x 1 or 3 image without axes; single pixels of small ones stay visible."""
    axes.imshow(picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])  # hidden ticks would take time, too
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10, color=figures.SOFT)


def course(
    axes: Axes,
    values: npt.NDArray[np.floating],
    marked: Sequence[int],
    label: str,
    times: Sequence[float] | None = None,
) -> None:
    """Plot a value per frame as a curve; some frames are marked. `times` are the times of frames, if known."""
    frames = range(len(values))
    axes.fill_between(frames, values, color=figures.SERIES[0], alpha=0.15, linewidth=0)
    axes.plot(frames, values, color=figures.SERIES[0], linewidth=1.6)
    axes.plot(marked, values[list(marked)], "o", color=figures.SERIES[0], markersize=5)
    axes.set(xlim=(-0.5, len(values) - 0.5), ylabel=label)
    known = [value for value in values.tolist() if math.isfinite(value)]
    axes.set_ylim(bottom=min([0.0, *known]))
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
    figures.over_frames(axes, times)
    axes.yaxis.set_major_locator(MaxNLocator(4))


def extent(sizes: Iterable[int]) -> str:
    """Format sizes along axes: "3 x 7 x 7", with real multiplication signs."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, sizes))


def share(value: float) -> str:
    """Format a number between about 0 and 1, or a dash if undefined."""
    return f"{value:.2f}" if math.isfinite(value) else "\N{EN DASH}"


def said(settings: Any) -> list[tuple[str, str]]:
    """Return settings as rows of a table."""
    return [(str(name).replace("_", " "), _text(value)) for name, value in dict(settings).items() if value != {}]


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return extent(value) if all(isinstance(one, int) for one in value) else (", ".join(map(_text, value)))
    return "zeros" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def card(title: str, drawn: Drawing, rows: Sequence[Sequence[str]]) -> str:
    """Render a result for a notebook: the figure that `plot()` draws, and a table."""
    data = base64.b64encode(drawn._repr_png_()).decode("ascii")
    width = round(drawn.get_figwidth() * _INCH)
    return str(render("notebook.html", title=title, data=data, width=width, rows=[list(map(str, row)) for row in rows]))
