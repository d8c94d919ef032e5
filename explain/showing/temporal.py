"""Temporal parameters: how motions are spread, and the filters that move most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.reporting import figures, motion
from explain.saving import packed
from explain.showing import paper
from explain.temporal import tables
from explain.temporal.motions import most_moving

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from explain.temporal import TemporalParameters
    from explain.temporal.motions import Motion

#: Width of a figure; heights of its title, the distributions, and one filter.
_WIDTH, _TITLE, _SPREADS, _ROW = 1000, 40, 280, 205
#: Letters of a layer's name that fit beside what its filter does.
_NAME = 30
#: Filters of a view, and rows of its table.
_SHOWN, _ROWS = 2, 12


def plot(parameters: TemporalParameters, filters: int = 4) -> Figure:
    """The figure of all layers, with so many filters (`TemporalParameters.plot`)."""
    moving = most_moving(parameters.layers.values(), filters)
    height = _height(moving) + _TITLE
    with paper.drawing(_WIDTH, height) as drawn:
        _paint(drawn, parameters, moving, _TITLE)
        drawn.text(0.01, 1 - 20 / height, _title(parameters), fontsize=14, va="center")
    return drawn


def html(parameters: TemporalParameters) -> str:
    """The view of all layers."""
    moving = most_moving(parameters.layers.values(), _SHOWN)
    drawn = paper.svg(
        lambda figure: _paint(figure, parameters, moving, 0),
        _WIDTH,
        _height(moving),
        f"Distributions of size, turn and shift a step, and the {len(moving)} filters that move most",
        packed(parameters),
    )
    header, rows = tables.signed_table(parameters)
    return paper.view(
        "temporal.html",
        title=_title(parameters),
        drawn=drawn,
        header=header,
        caption=tables.SIGNED,
        rows=rows[: _ROWS + 1],
        more=max(0, len(rows) - _ROWS - 1),
        left_out=parameters.left_out,
    )


def _title(parameters: TemporalParameters) -> str:
    layers = len(parameters.layers)
    told, every = len(motion.spreads(parameters).size), parameters.statistics().motions
    return f"Motion in the filters of {layers} layer{'s' * (layers > 1)}: {motion.counted(told, every)}"


def _height(moving: list[Motion]) -> int:
    return _SPREADS + _ROW * len(moving) + 30


def _paint(drawn: Figure, parameters: TemporalParameters, moving: list[Motion], begin: int) -> None:
    """Distributions, then one row a filter. Places are fixed: a layout of so many axes would take its seconds."""
    height = _height(moving) + begin
    drawn.set_layout_engine("none")

    def place(left: float, top: float, across: float, down: float) -> Axes:
        return drawn.add_axes((left / _WIDTH, 1 - (top + down) / height, across / _WIDTH, down / height))

    values = motion.spreads(parameters)
    if len(values.size):
        shared = motion.limits([values])
        for left, paint in zip((70, 385, 690), motion.PAINTERS.values(), strict=True):
            axes = place(left, begin + 15, 225 if left < 700 else 200, 200)
            paint(axes, values, shared)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=9, title="share", title_fontsize=9, handlelength=1.0
        )
    else:
        drawn.text(0.5, 1 - (begin + 110) / height, "no motion can be told", ha="center", color=figures.SOFT)
    for row, one in enumerate(moving):
        top = begin + _SPREADS + row * _ROW
        layer = one.layer if len(one.layer) <= _NAME else f"…{one.layer[-_NAME:]}"
        told = f"{layer or 'the model'}, channel {one.channel}. {one.sentence()}"
        drawn.text(0.01, 1 - (top + 10) / height, told, fontsize=12, va="center")
        motion.paint_curves([place(left, top + 48, 185, 112) for left in (70, 330, 590)], one)
        motion.paint_trajectory(place(860, top + 48, 112, 112), one)
    drawn.text(0.5, 12 / height, f"Drawn is {motion.CONVENTION}", color=figures.SOFT, ha="center", va="center")
