"""Figures of robustness: curves over the strength of a perturbation, and the plot of a result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from explain.drawing import figures, notebook

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from explain.robustness.results import Curve, Measure, Robustness

#: Perturbations per row, their width, and the height of one chart and of the margins of a perturbation.
_ACROSS, _PLOT_WIDTH, _PLOT_HEIGHT, _AROUND = 3, 320, 120, 60


def plot(result: Robustness) -> Figure:
    """Plot all perturbations (`Robustness.plot`)."""
    width, height = _size(result)
    with notebook.drawing(width, height + 70) as drawn:
        _paint(drawn, result)
        notebook.heading(drawn, _title(result), summary(result))
    return drawn


def describe(result: Robustness) -> tuple[str, list[tuple[str, ...]]]:
    """Return title and table for a notebook."""
    rows: list[tuple[str, ...]] = []
    if result.shares:
        rows.append(("first change / half lost at", "level", *(one.name for one in result.shares)))
        rows += [
            (
                curve.title,
                curve.level,
                *(
                    f"{level_text(curve.first_change(one.name))} / {level_text(curve.half_lost(one.name))}"
                    for one in result.shares
                ),
            )
            for curve in result.curves.values()
        ]
    rows += [(f"left out: {name}", why) for name, why in result.missing.items()]
    return _title(result), [*rows, *notebook.said(result.settings)]


def _title(result: Robustness) -> str:
    return f"Robustness on {result.samples} clip{'s' * (result.samples != 1)}"


def _size(result: Robustness) -> tuple[int, int]:
    rows = math.ceil(len(result.curves) / _ACROSS)
    across = min(_ACROSS, max(2, len(result.curves)))
    return across * _PLOT_WIDTH, max(1, rows) * (_PLOT_HEIGHT * max(1, len(charts_of(result))) + _AROUND)


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


#: CSS pixels of a drawing: its width, the margins left and right of charts, and their height.
_WIDTH, _LEFT, _RIGHT, _CHART = 340.0, 62.0, 8.0, 84.0

#: CSS pixels of a row of names above a chart, of the gap between charts, and of the text beneath the last.
_NAMES, _BETWEEN, _BENEATH = 17.0, 12.0, 27.0


def level_text(value: float | None) -> str:
    """Format a level for a page."""
    return "never" if value is None else f"{value:.3g}"


def _told(result: Robustness) -> list[Measure]:
    """Return the shares to describe: accuracies if the truth is known, else unchanged predictions."""
    known = {measure.name.removesuffix(" accuracy") for measure in result.shares if measure.name.endswith(" accuracy")}
    return [
        measure
        for measure in result.shares
        if not (measure.name.endswith(" unchanged") and measure.name.removesuffix(" unchanged") in known)
    ]


def charts_of(result: Robustness) -> list[list[Measure]]:
    """Group the measures into charts: shares or, for one clip, probabilities; then each unit separately."""
    told = _told(result)
    if result.samples == 1:
        told = [one for one in result.measures.values() if one.kind == "probability"] or told
    groups = [told] if told else []
    errors = [one for one in result.measures.values() if one.kind == "error"]
    # A logit adds nothing to its probability; any other number has its own chart.
    rest = errors if told or errors else [one for one in result.measures.values() if not one.bounded]
    alike = dict.fromkeys((one.unit, bool(one.lines)) for one in rest)
    return groups + [[one for one in rest if (one.unit, bool(one.lines)) == kind] for kind in alike]


def summary(result: Robustness) -> str:
    """Summarize which perturbations change the predictions and which do not, by the first measured share.

    Without shares, summarize which raise the first error with a reference line above that line.
    """
    if not _told(result):
        return _outdone(result)
    share = _told(result)[0]
    lost = {_within(curve.title): curve.half_lost(share.name) for curve in result.curves.values()}
    broken = [f"{title} ({level_text(level)})" for title, level in lost.items() if level is not None]
    borne = [title for title, level in lost.items() if level is None]
    what = share.name.removesuffix(" unchanged")
    if result.samples == 1 and share.name.endswith(" unchanged"):
        said = (f"The answer for {what} does not survive {_listed(broken)}.", f"It survives {_listed(borne)}.")
    else:
        verb = "of the answers for " + what + " is lost" if what != share.name else f"of the {what} is lost"
        said = (f"Half {verb} under {_listed(broken)}.", f"Less is lost under {_listed(borne)}.")
    return " ".join(text for text, which in zip(said, (broken, borne), strict=True) if which)


def _outdone(result: Robustness) -> str:
    """Return which perturbations raise the first error with a reference line above that line, and which do not."""
    if not result.lined:
        return ""
    measure = result.lined[0]
    what, value = next(iter(measure.lines.items()))
    beyond = {_within(curve.title): curve.beyond(measure.name, value) for curve in result.curves.values()}
    if all(float(curve.mean[measure.name][0]) > value for curve in result.curves.values()):
        return f"{measure.name} is above that of {what} even unchanged."
    above = [f"{title} ({level_text(level)})" for title, level in beyond.items() if level is not None]
    below = [title for title, level in beyond.items() if level is None]
    said = (
        f"{measure.name} rises above that of {what} under {_listed(above)}.",
        f"It stays below under {_listed(below)}." if above else f"{measure.name} stays below that of {what}.",
    )
    return " ".join(text for text, which in zip(said, (above, below), strict=True) if which)


def _within(title: str) -> str:
    """Lower a title's initial for use within a sentence, except in people's names."""
    return title if title.startswith(("Gaussian", "Poisson")) else title.lower()


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def draw(curve: Curve, groups: Sequence[Sequence[Measure]], name: str) -> Markup:
    """Draw the curves of a perturbation as inline SVG, one chart per group of measures, stacked."""
    above = [_NAMES * math.ceil(len(group) / 2) for group in groups]
    height = sum(above) + len(groups) * (_CHART + _BETWEEN) + _BENEATH
    with figures.style():
        drawn = figures.figure(_WIDTH, height)
        drawn.set_layout_engine("none")  # automatic layout takes longer than everything else
        top = 0.0
        for place, (names, group) in enumerate(zip(above, groups, strict=True)):
            top += names
            bottom = 1 - (top + _CHART) / height
            size = ((_WIDTH - _LEFT - _RIGHT) / _WIDTH, _CHART / height)
            axes = drawn.add_axes((_LEFT / _WIDTH, bottom, *size))
            top += _CHART + _BETWEEN
            paint(axes, curve, group)
            if place == len(groups) - 1:
                axes.set_xlabel(curve.level)
            else:
                axes.tick_params(labelbottom=False)
        return figures.svg(drawn, name, f"{curve.title}: {_in_words(curve, groups)}")


def paint(axes: Axes, curve: Curve, group: Sequence[Measure]) -> None:
    """Plot the curves of some measures, each with a band of plus and minus one standard error."""
    levels = curve.levels.tolist()
    for place, measure in enumerate(group):
        colour, (marker, line) = figures.series(place)
        mean, error = curve.mean[measure.name], curve.error[measure.name].nan_to_num()
        few = len(levels) <= 12
        axes.plot(
            levels,
            mean.tolist(),
            color=colour,
            linestyle=line,
            marker=marker if few else "",
            markersize=4,
            label=measure.name,
        )
        if _has_band(curve, measure):
            low, high = mean - error, mean + error
            if measure.bounded:
                low, high = low.clamp(0, 1), high.clamp(0, 1)
            axes.fill_between(levels, low.tolist(), high.tolist(), color=colour, alpha=0.16, linewidth=0)
        for what, value in measure.lines.items():
            # with several measures each has its own line, in its color, labeled where there is room
            shade, left = (figures.SOFT, True) if len(group) == 1 else (colour, place % 2 == 0)
            over = value < float(mean.max())  # the legend is above a line that is higher than all curves
            axes.axhline(value, color=shade, linewidth=1, linestyle=":")
            axes.annotate(
                what,
                (0 if left else 1, value),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2 if over else -2),
                textcoords="offset points",
                ha="left" if left else "right",
                va="bottom" if over else "top",
                color=shade,
                fontsize=9,
                zorder=1.9,  # above the grid, beneath the curves
                bbox={"facecolor": figures.CARD, "edgecolor": "none", "pad": 0.5},
            )
    if group[0].bounded:
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    elif all(measure.kind == "error" for measure in group):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    if all(level == int(level) for level in levels):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.02)
    axes.grid(axis="y", linewidth=0.7)
    axes.set_ylabel(group[0].unit.replace(" per ", "\nper "))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=1.8, columnspacing=1.2)


def _has_band(curve: Curve, measure: Measure) -> bool:
    """Check whether any standard error is known and nonzero."""
    return bool(curve.error[measure.name].nan_to_num().any())


def _in_words(curve: Curve, groups: Sequence[Sequence[Measure]]) -> str:
    parts = []
    for measure in (one for group in groups for one in group):
        first, last = (float(curve.mean[measure.name][at]) for at in (0, -1))
        if math.isfinite(first) and math.isfinite(last):
            parts.append(f"{measure.name} from {first:.2g} to {last:.2g}")
    return ", ".join(parts)
