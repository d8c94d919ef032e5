"""Figures of faithfulness: curves with their controls, correlations after randomization, and the verdict."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from explain.drawing import figures, notebook
from explain.faithfulness import Faithfulness
from explain.faithfulness.measures import all_tests
from explain.faithfulness.results import Curves
from explain.faithfulness.verdicts import DEPENDS, INDEPENDENT

#: Width and height of one panel.
_ACROSS, _TALL = 300, 230

#: Removed parts, by kind.
_PARTS = {"spatial": "pixels, in all frames", "temporal": "whole frames", "both": "pixels of single frames"}

#: Maximum number of depths for which layer names fit beneath an axis.
_NAMED = 6


def plot(result: Faithfulness, sample: int | None = None) -> Figure:
    """Plot one sample, or the mean over all (`Faithfulness.plot`)."""
    rows, columns = _shape(result)
    sample = None if sample is None else notebook.place("sample", sample, len(result.value))
    with notebook.drawing(columns * _ACROSS, rows * _TALL + 100) as drawn:
        _paint(drawn, result, sample)
        notebook.heading(drawn, _title(result, sample), "\n".join(result.verdict.reasons))
    return drawn


def describe(result: Faithfulness) -> tuple[str, list[tuple[str, ...]]]:
    """Return title and table for a notebook."""
    rows: list[tuple[str, ...]] = [("verdict", result.verdict.word)]
    if result.curves:
        rows.append(("mean share of the output", "this map", "random orders", "the middle first"))
    rows += [
        (
            f"{verb} {_PARTS.get(kind, kind)}",
            *(
                notebook.share(float(area(getattr(curves, f"{order}{name}")).nanmean()))
                for order in ("", "random_", "centre_")
            ),
        )
        for kind, curves in result.curves.items()
        for verb, name, area in (("removing", "deletion", curves.area), ("showing", "insertion", curves.inserted_area))
    ]
    titles = {test.name: test.title for test in all_tests()}
    rows += [
        (titles.get(name, name), notebook.share(float(values.nanmean()))) for name, values in result.measures.items()
    ]
    rows += [(f"not tested: {name}", reason) for name, reason in result.missing.items()]
    return _title(result, None), [*rows, *notebook.said(result.settings)]


def _shape(result: Faithfulness) -> tuple[int, int]:
    """Return rows and columns of a figure: curves in two rows, then the other tests."""
    return 2 * bool(result.curves) + bool(result.randomization) or 1, max(2, len(result.curves))


def _title(result: Faithfulness, sample: int | None) -> str:
    which = "" if sample is None else f", sample {sample}"
    return f"{result.method}: {result.target}{which} \N{EN DASH} {result.verdict.word}"


def _paint(drawn: Figure, result: Faithfulness, sample: int | None) -> None:
    rows, columns = _shape(result)
    heights = [1.0, 1.0] * bool(result.curves) + [0.8] * (rows % 2)
    grid = drawn.add_gridspec(rows, columns, height_ratios=heights)
    for column, (kind, curves) in enumerate(result.curves.items()):
        for row, name in enumerate(("deletion", "insertion")):
            axes = drawn.add_subplot(grid[row, column])
            _curves(axes, curves, name, sample)
            axes.set_title(f"{name}: {_PARTS.get(kind, kind)}", fontsize=11)
            if not row and not column:
                handles, labels = axes.get_legend_handles_labels()
                drawn.legend(handles, labels, loc="outside upper right", ncols=3)
    if result.randomization:
        _randomization(drawn.add_subplot(grid[-1, :]), result, sample)
    if not result.curves and not result.randomization:
        drawn.text(0.5, 0.5, "nothing could be tested", ha="center", color=figures.SOFT)


def _curves(axes: Axes, curves: Curves, name: str, sample: int | None) -> None:
    """Plot one kind of curve: in the map's order, in random orders, and center-first."""
    at = (curves.removed if name == "deletion" else curves.shown).cpu().numpy()
    drawn = _of(getattr(curves, f"random_{name}"), sample)  # draws x points
    axes.axhline(1, color=figures.LINE, linewidth=0.8, zorder=0)
    axes.axhline(0, color=figures.LINE, linewidth=0.8, zorder=0)
    axes.fill_between(at, drawn.min(axis=0), drawn.max(axis=0), color=figures.SERIES[6], alpha=0.2, linewidth=0)
    axes.plot(at, drawn.mean(axis=0), "--", color=figures.SERIES[6], linewidth=1.4, label="random orders")
    centre = _of(getattr(curves, f"centre_{name}"), sample)
    axes.plot(at, centre, ":", color=figures.SERIES[2], linewidth=1.8, label="the middle first")
    axes.plot(at, _of(getattr(curves, name), sample), color=figures.SERIES[1], linewidth=2.0, label="this map")
    axes.set(xlim=(0, 1), xlabel="share removed" if name == "deletion" else "share shown", ylabel="share of the output")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _randomization(axes: Axes, result: Faithfulness, sample: int | None) -> None:
    """Plot the rank correlation with the map of the randomized model, by depth, and the threshold of dependence."""
    depths = [one.depth for one in result.randomization]
    values = [float(_of(one.correlation, sample)) for one in result.randomization]
    axes.axhspan(INDEPENDENT, 1, color=figures.SERIES[7], alpha=0.1, linewidth=0)
    axes.axhspan(-1, DEPENDS, color=figures.SERIES[2], alpha=0.1, linewidth=0)
    axes.plot(depths, values, "o-", color=figures.SERIES[0], linewidth=1.6, markersize=5)
    axes.annotate(
        "does not depend on the model",
        (1, 0.97),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="top",
        fontsize=10,
        color=figures.SOFT,
    )
    axes.annotate(
        "depends on the model",
        (1, DEPENDS - 0.04),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="top",
        fontsize=10,
        color=figures.SOFT,
    )
    low = min(-0.1, *(value for value in values if np.isfinite(value))) if np.isfinite(values).any() else -0.1
    axes.set(xlim=(min(depths) - 0.5, max(depths) + 0.5), ylim=(low - 0.05, 1), ylabel="rank correlation")
    axes.set_title("with the map of a model whose last layers are random", fontsize=11)
    if len(depths) <= _NAMED:
        names = [f"{one.depth}: {one.layer or 'the model'}" for one in result.randomization]
        # Every other name is lower, so that long ones do not overlap.
        axes.set_xticks(depths, ["\n" * (place % 2) + name for place, name in enumerate(names)])
        axes.tick_params(axis="x", labelsize=9)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set_xlabel("layers randomised, from the model's end")


def _of(values: Tensor, sample: int | None) -> npt.NDArray[np.float64]:
    """Return curves (... x N x points, or N) of one sample, or their mean."""
    axis = values.ndim - 2 if values.ndim > 1 else 0
    chosen = values.nanmean(dim=axis) if sample is None else values.select(axis, sample)
    numbers: npt.NDArray[np.float64] = chosen.cpu().numpy()
    return numbers
