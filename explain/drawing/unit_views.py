"""A unit in single frames: the frame that excites it, what it looks at there, the image that it would like best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.drawing import colours as colour
from explain.drawing import notebook, sprites
from zoo.clips import instant

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from explain.maximization.unit_views import UnitView

#: Width of a figure, and height of its pictures and of the curve.
_WIDTH, _TALL, _CURVE = 720, 250, 120


def plot(view: UnitView) -> Figure:
    """The figure of a unit (`UnitView.plot`)."""
    several = len(view.time) > 1
    with notebook.drawing(_WIDTH, _TALL + _CURVE * several + 60) as drawn:
        grid = drawn.add_gridspec(1 + several, 3, height_ratios=[_TALL, _CURVE][: 1 + several])
        for place, (picture, title) in enumerate(_pictures(view)):
            notebook.image(drawn.add_subplot(grid[0, place]), picture[0], title)
        if several:
            time = view.time.double().cpu().numpy()
            notebook.course(
                drawn.add_subplot(grid[1, :]), time, [view.frame], "share of the gradient\nin frame", view.times
            )
        notebook.heading(drawn, f"{view.layer}/{view.unit}", _below(view))
    return drawn


def html(view: UnitView) -> str:
    """The view of a unit."""
    films = [
        (notebook.film(picture, f"{view.layer}/{view.unit}: {title}", title), None)
        for picture, title in _pictures(view)
    ]
    return notebook.view(
        "maximization.html", title=f"{view.layer}/{view.unit}", what=_below(view), shown=films, more=0, rows=[]
    )


def _pictures(view: UnitView) -> list[tuple[npt.NDArray[np.uint8], str]]:
    """One frame each, and what it is."""
    frame = sprites.as_frames(view.picture[:, None])
    share, _, colours = colour.scaled(view.gradient[None].float().cpu().numpy())
    return [
        (frame, instant(view.frame, view.times)),
        (sprites.blended(frame, share, colours), "what it looks at there"),
        (sprites.as_frames(view.image[:, None]), "the image that it would like best"),
    ]


def _below(view: UnitView) -> str:
    time, row, column = view.position
    return (
        f"highest activation {view.activation:.3g} at time step {time}, row {row}, column {column} of the layer; mean "
        f"for the image {view.maximized:.3g}, for grey {view.initial:.3g}"
    )
