"""Robustness: what each perturbation does to the output, stronger and stronger."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explain.reporting import figures
from explain.reporting.perturbed import charts_of, level_text, paint, summary
from explain.saving import packed
from explain.showing import paper

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from explain.robustness.results import Robustness

#: Perturbations beside each other, their width, and the height of one chart and of what stands around those of one.
_ACROSS, _WIDTH, _CHART, _AROUND = 3, 320, 120, 60


def plot(result: Robustness) -> Figure:
    """The figure of all perturbations (`Robustness.plot`)."""
    width, height = _size(result)
    with paper.drawing(width, height + 70) as drawn:
        _paint(drawn, result)
        paper.heading(drawn, _title(result), summary(result))
    return drawn


def html(result: Robustness) -> str:
    """The view of all perturbations."""
    drawn = paper.svg(
        lambda figure: _paint(figure, result),
        *_size(result),
        f"Output under {', '.join(curve.title for curve in result.curves.values())}; the numbers stand in the table",
        packed(result),
    )
    shares = result.shares
    rows = [
        (
            curve.title,
            curve.level,
            *(
                f"{level_text(curve.first_change(one.name))} / {level_text(curve.half_lost(one.name))}"
                for one in shares
            ),
        )
        for curve in result.curves.values()
    ]
    return paper.view(
        "robustness.html",
        title=_title(result),
        summary=summary(result),
        drawn=drawn,
        shares=[one.name for one in shares],
        curves=rows,
        rows=[*((f"left out: {name}", why) for name, why in result.missing.items()), *paper.said(result.settings)],
    )


def _title(result: Robustness) -> str:
    return f"Robustness on {result.samples} clip{'s' * (result.samples != 1)}"


def _size(result: Robustness) -> tuple[int, int]:
    rows = math.ceil(len(result.curves) / _ACROSS)
    across = min(_ACROSS, max(2, len(result.curves)))
    return across * _WIDTH, max(1, rows) * (_CHART * max(1, len(charts_of(result))) + _AROUND)


def _paint(drawn: Figure, result: Robustness) -> None:
    groups = charts_of(result)
    across = min(_ACROSS, max(2, len(result.curves)))
    grid = drawn.add_gridspec(max(1, math.ceil(len(result.curves) / across)), across)
    for place, curve in enumerate(result.curves.values()):
        inner = grid[place // across, place % across].subgridspec(len(groups), 1)
        for row, group in enumerate(groups):
            axes = drawn.add_subplot(inner[row, 0])
            paint(axes, curve, group)
            if not row:
                axes.set_title(curve.title, loc="left", fontsize=12, pad=22)
            if row == len(groups) - 1:
                axes.set_xlabel(curve.level)
            else:
                axes.tick_params(labelbottom=False)
    if not result.curves:
        drawn.text(0.5, 0.5, "no perturbation applies", ha="center", color=figures.SOFT)
