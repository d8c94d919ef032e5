"""Templates: HTML with everything from outside escaped, and numbers that say their exact value."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from explain.reporting import charts
from zoo.output import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = "explain.reporting"
#: Digits and sign of an exponent, raised.
_RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(template: str, package: str = _HERE, /, **values: Any) -> Markup:
    """Fill a template; every value that is not `Markup` is escaped.

    Args:
        template: Its file name in the folder `templates` of the package.
        package: A plugin gives its own; its templates may import those of this one ("parts.html").
        values: What the template names.
    """
    return Markup(environment(package).get_template(template).render(**values))  # noqa: S704 - it escapes


def asset(name: str) -> Markup:
    """A style sheet or script of this package, as it stands."""
    source, _, _ = _loader().get_source(environment(), name)
    return Markup(source)  # noqa: S704 - shipped with the package


def source_hash(script: str) -> str:
    """What a content security policy calls this inline script."""
    return "sha256-" + b64encode(sha256(script.encode()).digest()).decode("ascii")


def number(value: float, digits: int = 3) -> Markup:
    """A number with a few significant digits; its exact value, as in report.json, is in the markup."""
    if isinstance(value, int):
        return exact(value, f"{value:,}")
    if not math.isfinite(value):
        return Markup("not a number")
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        leading, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        text = f"{leading}\N{NARROW NO-BREAK SPACE}·\N{NARROW NO-BREAK SPACE}10" + str(int(exponent)).translate(_RAISED)
    else:
        text = f"{value:,.0f}" if round(size) >= 10 ** (digits - 1) else f"{value:.{digits}g}"
    return exact(value, text.replace("-", "\N{MINUS SIGN}"))


def listed(names: Sequence[str]) -> Markup:
    """Names in a sentence: "a", "a and b", "a, b and c"."""
    marked = [Markup('<span class="name">{}</span>').format(breakable(name)) for name in names]
    return Markup(" and ").join([Markup(", ").join(marked[:-1]), marked[-1]] if marked[1:] else marked)


def breakable(name: str) -> Markup:
    """A dotted name that may break after its dots."""
    parts = visible(name).split(".")
    return Markup("<wbr>").join(part + "." * (at < len(parts) - 1) for at, part in enumerate(parts))


def percent(value: float, digits: int = 0) -> Markup:
    """A share of 1 as per cent, marked with its number."""
    return exact(value, percent_text(value, digits))


def percent_text(value: float, digits: int = 0) -> str:
    """A share of 1 as per cent, with `digits` after the point, but tenths where it would read 0 or 100."""
    text = f"{100 * value:.{digits}f}"
    if float(text) in {0, 100} and value not in {0, 1}:
        text = f"{100 * value:.1f}"
        text = {"0.0": "under 0.1", "-0.0": "over -0.1", "100.0": "over 99.9"}.get(text, text)
    return text.replace("-", "\N{MINUS SIGN}") + "\N{NARROW NO-BREAK SPACE}%"


def exact(value: float, text: str) -> Markup:
    """`text`, marked with the number that it stands for."""
    return Markup('<data value="{}">{}</data>').format(json.dumps(value), text)


def evenly(total: int, count: int) -> list[int]:
    """At most `count` whole numbers below `total`, evenly spread."""
    if total <= count:
        return list(range(total))
    from zoo.clips import spread  # that module imports torch; pages without clips need none

    return spread(total, count)


def _seen(value: Any) -> Any:
    """A stranger's text as a page may hold it; `Markup` is ours."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _loader(package: str = _HERE) -> PackageLoader:
    return PackageLoader(package)


@cache
def environment(package: str = _HERE) -> Environment:
    """The one environment of all templates of a package."""
    made = Environment(
        loader=ChoiceLoader([_loader(package), _loader()]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number, percent=percent, curve=charts.curve, band=charts.band, shares=charts.shares, evenly=evenly
    )
    made.filters.update(breakable=breakable, listed=listed)
    return made
