"""What all figures of results have in common, and how a notebook shows them."""

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

#: Dots for each inch of a figure; lengths in this package are 72nds of an inch, as letters' are.
_DPI = 110

_INCH = 72

#: Letters of small text on an inch.
_LETTERS = 12.5


class Drawing(Figure):
    """A figure that notebooks show whether pyplot was imported or not. It takes no part in pyplot's global state."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # a box stands for a letter that the font lacks
            self.savefig(file, format="png")
        return file.getvalue()


@contextmanager
def drawing(width: float, height: float) -> Iterator[Drawing]:
    """An empty figure to be drawn on within, in the page's style and, afterwards, its light colours."""
    with figures.style():
        drawn = Drawing(figsize=(width / _INCH, height / _INCH), dpi=_DPI, layout="constrained")
        yield drawn
        figures.on_paper(drawn)


def heading(drawn: Figure, title: str, below: str = "") -> None:
    """A title at the left, and what else is to be said beneath it."""
    drawn.suptitle(title, x=0.01, ha="left", fontsize=14, color=figures.INK)
    if below:
        wide = int(drawn.get_figwidth() * _LETTERS)
        below = "\n".join(part for line in below.splitlines() for part in textwrap.wrap(line, wide))
        drawn.supxlabel(below, x=0.01, ha="left", fontsize=10, color=figures.SOFT)


def place(what: str, wanted: int, count: int) -> int:
    """A place among so many, negative ones counted from the end.

    Raises:
        UsageError: It is not there.
    """
    if not -count <= wanted < count:
        raise UsageError(f"{what} {wanted} is not there: {what}s are 0 to {count - 1}")
    return wanted % count


def image(axes: Axes, picture: npt.NDArray[np.uint8], title: str = "") -> None:
    """An H x W x 1 or 3 picture without axes; single pixels of small ones stay visible."""
    axes.imshow(picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture, interpolation="nearest")
    axes.set(xticks=[], yticks=[])  # those that are not shown would take their time, too
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
    """A number in every frame as a curve; some frames are marked. `times` says when frames are shown, if known."""
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
    """Sizes along axes: "3 x 7 x 7", with real multiplication signs."""
    return " \N{MULTIPLICATION SIGN} ".join(map(str, sizes))


def share(value: float) -> str:
    """A number between about 0 and 1, or a dash where there is none."""
    return f"{value:.2f}" if math.isfinite(value) else "\N{EN DASH}"


def said(settings: Any) -> list[tuple[str, str]]:
    """Settings as rows of a table."""
    return [(str(name).replace("_", " "), _text(value)) for name, value in dict(settings).items() if value != {}]


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return extent(value) if all(isinstance(one, int) for one in value) else (", ".join(map(_text, value)))
    return "zeros" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def card(title: str, drawn: Drawing, rows: Sequence[Sequence[str]]) -> str:
    """Show a result in a notebook: the figure that `plot()` draws, and one table of what else there is to say."""
    data = base64.b64encode(drawn._repr_png_()).decode("ascii")
    width = round(drawn.get_figwidth() * _INCH)
    return str(render("notebook.html", title=title, data=data, width=width, rows=[list(map(str, row)) for row in rows]))
