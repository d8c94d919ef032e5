"""Figures 6 to 9 and section 5.1 of the paper, drawn from the measurements of each network.

Sections of a comparison for models whose evaluation holds tables by speed and period. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.colors import Colormap, LogNorm, Normalize, to_hex

from explain.authoring import Content, Section, figures, intervals, render
from zoo.errors import WeightsError

if TYPE_CHECKING:
    from markupsafe import Markup

_HERE = "zoo_spatiotemporal_mnist"
_ERROR = "speed mean absolute error"
_ORDER = "order accuracy"
_DIGIT = "digit accuracy"
#: Up to so many models every pair is drawn; of more, the first with each other one.
_ALL_PAIRS = 4
#: Relative differences from here on take the last color: the second's error is nothing, or the first's is half.
_FURTHEST = 1.0
#: Differences in cells of fewer clips, of either model, are drawn pale and not counted.
_FEW = 20
#: Opacity of a pale cell's color.
_PALE = 0.25
#: Minimum number of models in a comparison.
_LEAST = 2
#: Width and height of a heat map, in CSS pixels: where two at most share the page's width, and where more do.
_WIDE, _NARROW = (390, 440), (340, 400)
#: Numbers under a scale of colors.
_TICKS = 5
#: Colors that are also distinguishable with color blindness.
_ERRORS, _DIFFERENCES = "viridis", "PuOr"

Cell = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """One model and the tables of its evaluation."""

    #: As the page calls it, and without a tag that all share.
    name: str
    short: str
    breakdown: Mapping[str, Sequence[Mapping[str, Any]]]

    def cells(self, key: str) -> dict[Cell, Any]:
        """Return one column of the table by speed and period, by (speed, period); cells without clips are omitted."""
        rows = self.breakdown["speed and period"]
        return {(row["speed"], row["period"]): row[key] for row in rows if row["clips"] and row.get(key) is not None}

    def table(self, by: str, key: str) -> dict[Any, tuple[float, int]]:
        """Value and number of clips for each row of a table; that by period follows from the pairs where missing."""
        rows = self.breakdown.get(by)
        if rows is not None:
            return {row[by]: (row[key], row["clips"]) for row in rows if row["clips"] and row.get(key) is not None}
        if by != "period":
            return {}
        values, clips = self.cells(key), self.cells("clips")
        merged: dict[Any, tuple[float, int]] = {}
        for period in sorted({period for _, period in values}):
            own = [cell for cell in values if cell[1] == period]
            count = sum(clips[cell] for cell in own)
            merged[period] = (sum(values[cell] * clips[cell] for cell in own) / count, count)
        return merged


def sections(contexts: Iterable[Any]) -> list[Section]:
    """Return the sections for these models: only those with two or more models to compare.

    Raises:
        WeightsError: if such a table holds invalid values.
    """
    for context in contexts:
        _check(context)
    networks = _networks(contexts)
    if len(networks) < _LEAST:
        return []
    given = [
        ("speed_errors", "Speed error over speed and visibility"),
        ("speed_differences", "Who reads which speeds better"),
    ]
    if _orders(networks) or _digits(networks):
        given.append(("digits_and_orders", "Digits and orders"))
    return [Section(name=name, title=title, models=f"{_HERE}.comparisons:{name}") for name, title in given]


def speed_errors(contexts: Iterable[Any]) -> Content:
    """Draw the mean absolute error over (V, S) for each model on one color scale (the paper's figure 6)."""
    networks = _networks(contexts)
    errors = [network.cells(_ERROR) for network in networks]
    known = [error for cells in errors for error in cells.values()]
    norm = _logarithmic(known)
    colours = mpl.colormaps[_ERRORS]
    panels = [
        _panel(
            f"speed-errors-{place}",
            f"Mean absolute error of the speed for {network.short}, {_range(cells, '{:.2f}')} pixels per frame",
            cells,
            "{:.2f}".format,
            norm,
            colours,
            wide=len(networks) <= _LEAST,
        )
        for place, (network, cells) in enumerate(zip(networks, errors, strict=True))
    ]
    clips = [network.cells("clips") for network in networks]
    data = {
        "fewest_clips": min(min(counted.values()) for counted in clips),
        "most_clips": max(max(counted.values()) for counted in clips),
        "scale": [norm.vmin, norm.vmax],
        "models": [
            {"model": network.name, "cells": _listed(cells, "error", clips=counted)}
            for network, cells, counted in zip(networks, errors, clips, strict=True)
        ],
    }
    html = _filled(
        "speed_errors.html",
        panels=[{"name": network.short, "svg": panel} for network, panel in zip(networks, panels, strict=True)],
        gradient=_gradient(colours),
        ticks=[f"{norm.inverse(at / (_TICKS - 1)):.2g}" for at in range(_TICKS)],
        names=[network.short for network in networks],
        rows=_rows([_beside(cells, counted) for cells, counted in zip(errors, clips, strict=True)]),
        missing=_missing(contexts, networks),
        data=data,
    )
    return Content(html=html, data=data)


def speed_differences(contexts: Iterable[Any]) -> Content:
    """(MAE_A - MAE_B) / MAE_A over (V, S) for pairs of models, positive where B is better (figures 7 to 9)."""
    networks = _networks(contexts)
    pairs = (
        list(combinations(networks, 2))
        if len(networks) <= _ALL_PAIRS
        else [(networks[0], other) for other in networks[1:]]
    )
    found = [_relative(first.cells(_ERROR), second.cells(_ERROR)) for first, second in pairs]
    clips = [
        {cell: (first.cells("clips")[cell], second.cells("clips")[cell]) for cell in cells}
        for (first, second), cells in zip(pairs, found, strict=True)
    ]
    few = [{cell for cell, counted in both.items() if min(counted) < _FEW} for both in clips]
    # Chance must not stretch the scale, unless there is nothing else.
    sure = [
        abs(value) for cells, pale in zip(found, few, strict=True) for cell, value in cells.items() if cell not in pale
    ]
    largest = max(sure or [abs(value) for cells in found for value in cells.values()], default=0.0)
    limit = min(_FURTHEST, largest) or _FURTHEST
    norm, colours = Normalize(-limit, limit, clip=True), mpl.colormaps[_DIFFERENCES]
    panels, told = [], []
    for place, ((first, second), cells, pale) in enumerate(zip(pairs, found, few, strict=True)):
        counted = [value for cell, value in cells.items() if cell not in pale]
        per_cent = {cell: 100 * value for cell, value in cells.items()}
        label = (
            f"How much smaller the speed error of {second.short} is than that of {first.short}, "
            f"{_range(per_cent, '{:+.0f}')} per cent"
        )
        panels.append(
            _panel(f"speed-differences-{place}", label, cells, _signed, norm, colours, pale, wide=len(pairs) <= _LEAST)
        )
        told.append(
            {
                "first": first.name,
                "second": second.name,
                "first_better": sum(value < 0 for value in counted),
                "second_better": sum(value > 0 for value in counted),
                "counted": len(counted),
                "pale": len(pale),
                "cells": _listed(cells, "difference", clips=first.cells("clips"), clips_second=second.cells("clips")),
            }
        )
    data = {"limit": limit, "few": _FEW, "pairs": told}
    html = _filled(
        "speed_differences.html",
        panels=[
            {**row, "svg": svg, "first": first.short, "second": second.short}
            for svg, (first, second), row in zip(panels, pairs, told, strict=True)
        ],
        gradient=_gradient(colours),
        ticks=[_signed(limit * (2 * at / (_TICKS - 1) - 1)) + "\N{NARROW NO-BREAK SPACE}%" for at in range(_TICKS)],
        clipped=any(abs(value) > limit for cells in found for value in cells.values()),
        few=_FEW,
        names=[f"{first.short} → {second.short}" for first, second in pairs],
        rows=_rows([_beside(cells, both) for cells, both in zip(found, clips, strict=True)]),
        data=data,
    )
    return Content(html=html, data=data)


def digits_and_orders(contexts: Iterable[Any]) -> Content:
    """Draw order accuracy by V and digit error by class, with 95% intervals (section 5.1)."""
    networks = _networks(contexts)
    orders, digits = _orders(networks), _digits(networks)
    data = {
        "models": [
            {
                "model": network.name,
                "order_accuracy": [{"period": period, **share} for period, share in order.items()],
                "digit_error": [{"digit": digit, **share} for digit, share in error.items()],
            }
            for network, order, error in zip(
                networks, orders or [{}] * len(networks), digits or [{}] * len(networks), strict=True
            )
        ]
    }
    names = [network.short for network in networks]
    html = _filled(
        "digits_and_orders.html",
        names=names,
        orders=_order_lines(names, orders) if orders else None,
        order_rows=_rows(orders),
        digits=_digit_bars(names, digits) if digits else None,
        digit_rows=_rows(digits),
        fewest_orders=min((share["clips"] for cells in orders for share in cells.values()), default=0),
        fewest_digits=min((share["clips"] for cells in digits for share in cells.values()), default=0),
    )
    return Content(html=html, data=data)


def _check(context: Any) -> None:
    """Raise WeightsError where a table of this plugin has no number in a column of numbers, or a negative one."""
    evaluation = context.evaluation or {}
    breakdown = evaluation.get("breakdown", {})
    pairs = breakdown.get("speed and period") or []
    if not any(_ERROR in row for row in pairs):
        return  # an untrusted table of this name
    for title, columns in (("speed and period", ("speed", "period")), ("period", ("period",)), ("digit", ("digit",))):
        for at, row in enumerate(breakdown.get(title) or [], start=1):
            for column in (*columns, "clips", _ERROR):
                value = row.get(column)
                if value is None and column == _ERROR:
                    continue
                said = f"{column} {value!r}" if column in row else f"no {column}"
                if not isinstance(value, int | float):
                    wrong = f"{said} is no number" if column in row else said
                elif value < 0:
                    wrong = f"{said} is negative"
                elif column == "clips" and value != int(value):
                    wrong = f"{said} is no whole number"
                else:
                    continue
                where = evaluation.get("file", context.name)
                raise WeightsError(f"{where}, table {title!r}, row {at}: {wrong}; measure again with `zoo evaluate`")


def _networks(contexts: Iterable[Any]) -> list[_Network]:
    """Return the models whose evaluation has the table by speed and period."""
    known = []
    for context in contexts:
        breakdown = (context.evaluation or {}).get("breakdown", {})
        rows = breakdown.get("speed and period") or []
        if any(row.get("clips") and row.get(_ERROR) is not None for row in rows):
            known.append((context.name, breakdown))
    bare = {name.partition(".")[0] for name, _ in known}
    alike = len({name.partition(".")[2] for name, _ in known}) == 1 and len(bare) == len(known)
    return [
        _Network(name=name, short=name.partition(".")[0] if alike else name, breakdown=breakdown)
        for name, breakdown in known
    ]


def _missing(contexts: Iterable[Any], networks: Sequence[_Network]) -> list[str]:
    shown = {network.name for network in networks}
    return [context.name for context in contexts if context.name not in shown]


def _relative(first: Mapping[Cell, float], second: Mapping[Cell, float]) -> dict[Cell, float]:
    """(first - second) / first in the cells that both have; none where the first has no error at all."""
    return {cell: (error - second[cell]) / error for cell, error in first.items() if cell in second and error > 0}


def _orders(networks: Sequence[_Network]) -> list[dict[Any, dict[str, Any]]]:
    """Return order accuracy by period of each model; empty if fewer than two have any."""
    found = [_shares(network.table("period", _ORDER)) for network in networks]
    return found if sum(map(bool, found)) >= _LEAST else []


def _digits(networks: Sequence[_Network]) -> list[dict[Any, dict[str, Any]]]:
    """Return digit error by class of each model; empty if fewer than two have any."""
    found = [_shares(network.table("digit", _DIGIT), inverted=True) for network in networks]
    return found if sum(map(bool, found)) >= _LEAST else []


def _shares(table: Mapping[Any, tuple[float, int]], *, inverted: bool = False) -> dict[Any, dict[str, Any]]:
    """Return each accuracy (inverted: error rate) with its clips and 95% interval."""
    shares = {}
    for key, (accuracy, clips) in table.items():
        low, high = intervals.interval(accuracy, clips)
        if inverted:
            shares[key] = {"share": 1 - accuracy, "low": 1 - high, "high": 1 - low, "clips": clips}
        else:
            shares[key] = {"share": accuracy, "low": low, "high": high, "clips": clips}
    return shares


def _listed(cells: Mapping[Cell, float], name: str, **more: Mapping[Cell, int]) -> list[dict[str, Any]]:
    return [
        {"speed": speed, "period": period, name: value, **{key: other[speed, period] for key, other in more.items()}}
        for (speed, period), value in sorted(cells.items())
    ]


def _beside(cells: Mapping[Cell, float], clips: Mapping[Cell, Any]) -> dict[Cell, tuple[float, Any]]:
    return {cell: (value, clips[cell]) for cell, value in cells.items()}


def _rows(columns: Sequence[Mapping[Any, Any]]) -> list[tuple[Any, list[Any]]]:
    """Format a table: each key that any column has, beside its value in every column, or None."""
    keys = sorted({key for column in columns for key in column})
    return [(key, [column.get(key) for column in columns]) for key in keys]


def _signed(share: float) -> str:
    """Format a share in percent, with its sign."""
    return f"{100 * share:+.0f}".replace("-", "\N{MINUS SIGN}") if round(100 * share) else "0"


def _range(cells: Mapping[Cell, float], form: str) -> str:
    if not cells:
        return "no value"
    return f"{form.format(min(cells.values()))} to {form.format(max(cells.values()))}"


def _logarithmic(values: Sequence[float]) -> LogNorm:
    """Return a scale over all values: their equal ratios are equal steps of color."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive), max(positive)
    return LogNorm(low, high if high > low else 10 * low, clip=True)


def _gradient(colours: Colormap) -> str:
    """Return a color map as a CSS gradient from left to right."""
    stops = (to_hex(colours(at / 16)) for at in range(17))
    return f"linear-gradient(90deg, {', '.join(stops)})"


def _panel(
    name: str,
    label: str,
    cells: Mapping[Cell, float],
    said: Callable[[float], str],
    norm: Normalize,
    colours: Colormap,
    pale: Collection[Cell] = (),
    *,
    wide: bool,
) -> Markup:
    """Draw a heat map over speed and period with the values in its cells; cells without a value are empty."""
    with figures.style():
        drawn = figures.figure(*(_WIDE if wide else _NARROW))
        axes = drawn.subplots()
        for (speed, period), value in cells.items():
            colour = colours(norm(value))
            faint = (speed, period) in pale
            axes.add_patch(
                mpl.patches.Rectangle(
                    (speed - 0.5, period - 0.5),
                    1,
                    1,
                    facecolor=(to_hex(colour), _PALE if faint else 1.0),
                    edgecolor=figures.CARD,
                    linewidth=1,
                )
            )
            ink = figures.SOFT if faint else figures.readable_on(colour)
            axes.text(speed, period, said(value), ha="center", va="center_baseline", color=ink, fontsize=10.5)
        speeds, periods = ({cell[axis] for cell in cells} or {1} for axis in (0, 1))
        axes.set_xlim(min(speeds) - 0.5, max(speeds) + 0.5)
        axes.set_ylim(min(periods) - 0.5, max(periods) + 0.5)
        axes.set_xticks(sorted(speeds))
        axes.set_yticks(sorted(periods))
        axes.set_xlabel("S: speed (pixels per frame)")
        axes.set_ylabel("V: visible every V frames")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return figures.svg(drawn, name, f"{label}; the values stand in the table below")


def _order_lines(names: Sequence[str], columns: Sequence[Mapping[int, Mapping[str, Any]]]) -> Markup:
    """Plot the order accuracy against V: one line a model."""
    with figures.style():
        drawn = figures.figure(360, 260)
        axes = drawn.subplots()
        for place, (name, shares) in enumerate(zip(names, columns, strict=True)):
            colour, (marker, line) = figures.series(place)
            # Beside each other, so that no interval hides another.
            beside = 0.4 * (place - (len(names) - 1) / 2) / max(len(names), 4)
            at = [period + beside for period in shares]
            values = [100 * share["share"] for share in shares.values()]
            low, high = ([100 * share[end] for share in shares.values()] for end in ("low", "high"))
            axes.vlines(at, low, high, color=colour, linewidth=1)
            axes.plot(at, values, color=colour, marker=marker, markersize=5, linestyle=line, label=name)
        axes.set_xticks(sorted({period for shares in columns for period in shares}))
        axes.set_xlabel("V: visible every V frames")
        axes.set_ylabel("order accuracy (%)")
        axes.set_ylim(top=100.5)
        axes.grid(visible=True, axis="y")
        figures.legend(drawn, axes)
        return figures.svg(
            drawn,
            "order-accuracy",
            f"Accuracy of the order against V for {', '.join(names)}; the values stand in the table below",
        )


def _digit_bars(names: Sequence[str], columns: Sequence[Mapping[int, Mapping[str, Any]]]) -> Markup:
    """Draw errors by digit: one group a digit, one bar a model."""
    with figures.style():
        drawn = figures.figure(360, 260)
        axes = drawn.subplots()
        width = 0.84 / len(names)
        for place, (name, shares) in enumerate(zip(names, columns, strict=True)):
            colour, _ = figures.series(place)
            at = [digit + width * (place - (len(names) - 1) / 2) for digit in shares]
            axes.bar(at, [100 * share["share"] for share in shares.values()], width, color=colour, label=name)
            low, high = ([100 * share[end] for share in shares.values()] for end in ("low", "high"))
            axes.vlines(at, low, high, color=figures.SOFT, linewidth=1)
        axes.set_xticks(sorted({digit for shares in columns for digit in shares}))
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("digit")
        axes.set_ylabel("clips misread (%)")
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, axis="y")
        axes.set_axisbelow(True)
        figures.legend(drawn, axes)
        return figures.svg(
            drawn,
            "digit-errors",
            f"Share of clips whose digit is misread by {', '.join(names)}; the values stand in the table below",
        )


def _filled(template: str, **values: Any) -> Markup:
    return render(template, _HERE, **values)
