"""Formatting of numbers: rounding, signs, shares and lists, for pages and tables."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from markupsafe import Markup

from zoo.plain import visible

#: Superscript digits and sign of an exponent.
_RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Magnitudes between these are written without a power of ten.
_SMALL, _LARGE = 1e-3, 1e6

#: Maximum significant digits of numbers side by side; additional digits for one that would read as an integer.
_MOST, _FINER = 5, 3

#: Maximum ratio of the largest to the smallest of them.
_SPREAD = 100


def number(value: float, digits: int = 3) -> Markup:
    """Format a number with a few significant digits, trailing zeros included, marked with its exact value.

    A number below 1, or below 100, gets more digits if it would be rounded to that (0.9996 as 1.00, 99.97 as 100).
    """
    text = number_text(value, digits)
    return exact(value, text) if math.isfinite(value) else Markup(text)  # noqa: S704 - of ours


def number_text(value: float, digits: int = 3) -> str:
    """Format a number like `number`, without markup."""
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < _LARGE):
        return _signed(f"{value:,.0f}")
    if not math.isfinite(value):
        return "not a number"
    if not _SMALL <= abs(value) < _LARGE:
        leading, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        power = "\N{NARROW NO-BREAK SPACE}·\N{NARROW NO-BREAK SPACE}10" + str(int(exponent)).translate(_RAISED)
        return _signed(leading + power)
    if abs(value) >= 10 ** (digits - 1):
        return _signed(f"{value:,.0f}")
    places = _places(value, digits)
    if abs(value) < 1 or not places:
        finer = range(places, places + _FINER + 1)
        places = next((more for more in finer if float(f"{value:.{more}f}") != round(value)), places)
    return _signed(f"{value:,.{places}f}")


def numbers(values: Sequence[float | None], digits: int = 3) -> list[Markup | None]:
    """Format numbers side by side like `number`, with equal decimals.

    The largest has `digits` significant digits or more, up to five: enough to distinguish all that differ and to leave
    the smallest two. Common trailing zeros are removed. If that is not enough, each is formatted independently. None
    stays None.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    sizes = [abs(value) for value in known if value]
    whole = all(isinstance(value, int) for value in known)
    if sizes and not whole and _SMALL <= max(sizes) < min(_LARGE, _SPREAD * min(sizes)):
        least = _places(max(sizes), digits)
        for places in range(least, max(least, _places(max(sizes), _MOST)) + 1):
            texts = {f"{value:.{places}f}" for value in known}
            if len(texts) == len(set(known)) and places >= _places(min(sizes), 2):
                while places and all(round(value, places - 1) == value for value in known):
                    places -= 1
                plain = {value: _signed(f"{value:,.{places}f}") for value in known if value}
                return [
                    None if value is None else exact(value, plain[value]) if value in plain else number(value)
                    for value in values
                ]
    return [None if value is None else number(value, digits) for value in values]


def _places(value: float, digits: int) -> int:
    """Return the decimals that give a nonzero number so many significant digits; none if it is large."""
    return max(0, digits - 1 - int(f"{value:.{digits - 1}e}".partition("e")[2]))


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def listed(names: Sequence[str]) -> Markup:
    """Join names in a sentence: "a", "a and b", "a, b and c"."""
    marked = [Markup('<span class="name">{}</span>').format(breakable(name)) for name in names]
    return Markup(" and ").join([Markup(", ").join(marked[:-1]), marked[-1]] if marked[1:] else marked)


def breakable(name: str) -> Markup:
    """Format a dotted name that may break after its dots."""
    parts = visible(name).split(".")
    return Markup("<wbr>").join(part + "." * (at < len(parts) - 1) for at, part in enumerate(parts))


def percent(value: float, digits: int = 0) -> Markup:
    """Format a share of 1 as a percentage, marked with its exact value."""
    return exact(value, percent_text(value, digits))


def percent_text(value: float, digits: int = 0) -> str:
    """Format a share of 1 as a percentage with `digits` decimals, but tenths if it would read 0 or 100."""
    text = f"{100 * value:.{digits}f}"
    if float(text) in {0, 100} and value not in {0, 1}:
        text = f"{100 * value:.1f}"
        text = {"0.0": "under 0.1", "-0.0": "over -0.1", "100.0": "over 99.9"}.get(text, text)
    return _signed(text) + "\N{NARROW NO-BREAK SPACE}%"


def exact(value: float, text: str) -> Markup:
    """Return `text`, marked with the exact number."""
    return Markup('<data value="{}">{}</data>').format(json.dumps(value), text)


def evenly(total: int, count: int) -> list[int]:
    """Return at most `count` integers below `total`, evenly spaced."""
    if total <= count:
        return list(range(total))
    from zoo.clips import spread  # that module imports torch, which pages without clips do not need

    return spread(total, count)
