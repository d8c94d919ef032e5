"""HTML templates and their inline charts: bars, curves and bands."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from explain.drawing.numbers import breakable, evenly, listed, number, numbers, percent
from zoo.plain import visible

_HERE = "explain"


def render(template: str, package: str = _HERE, /, **values: Any) -> Markup:
    """Render a template; every value that is not `Markup` is escaped.

    Args:
        template: File name in the folder `templates` of the package.
        package: Package of the template; a plugin passes its own, whose templates may import those of this one
            ("parts.html").
        values: Variables of the template.
    """
    return Markup(environment(package).get_template(template).render(**values))  # noqa: S704 - it escapes


def asset(name: str) -> Markup:
    """Return a style sheet or script of this package, verbatim."""
    source, _, _ = _loader().get_source(environment(), name)
    return Markup(source)  # noqa: S704 - shipped with the package


def source_hash(script: str) -> str:
    """Return the hash of an inline script for the content security policy."""
    return "sha256-" + b64encode(sha256(script.encode()).digest()).decode("ascii")


def _seen(value: Any) -> Any:
    """Return untrusted text made safe for a page; `Markup` is our own."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _loader(package: str = _HERE) -> PackageLoader:
    return PackageLoader(package)


@cache
def environment(package: str = _HERE) -> Environment:
    """Return the shared environment of all templates of a package."""
    made = Environment(
        loader=ChoiceLoader([_loader(package), _loader()]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, percent=percent, curve=curve, band=band, shares=shares, evenly=evenly)
    made.filters.update(breakable=breakable, listed=listed, numbers=numbers)
    return made


#: Height of a chart in its own units; the page stretches it.
_HEIGHT = 100.0


def shares(curves: Sequence[tuple[str, Sequence[float], Sequence[float | None]]]) -> Markup:
    """Draw curves over the share of a clip, from 0 to 1, with lines at zero and at 1.

    Args:
        curves: For each curve its CSS class, positions and values; non-finite points are omitted.
    """
    known = [value for _, _, values in curves for value in values if value is not None]
    low, high = min(0.0, *known), max(1.0, *known)

    def height(value: float) -> str:
        return f"{_HEIGHT * (high - value) / (high - low):.1f}"

    lines = "".join(
        f'<polyline class="line {name}" points="'
        + " ".join(f"{100 * x:.1f},{height(y)}" for x, y in zip(places, values, strict=True) if y is not None)
        + '"/>'
        for name, places, values in curves
    )
    levels = "".join(f'<line class="zero" x1="0" x2="100" y1="{height(at)}" y2="{height(at)}"/>' for at in (0.0, 1.0))
    return Markup(  # noqa: S704 - numbers, and names of the templates
        f'<svg viewBox="0 0 100 {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">{levels}{lines}</svg>'
    )


def curve(values: Sequence[float], top: float = 0.0) -> Markup:
    """Draw a filled curve, one point per value, above a zero line; frame t is centered in [t, t + 1].

    The chart extends to the larger of the largest value and `top`.
    """
    low, high = min(0.0, *values), max(top, *values)
    span = (high - low) or 1.0

    def height(value: float) -> str:
        return f"{_HEIGHT * (high - value) / span:.1f}"

    # The first and the last value extend to the edges, so that a single frame is a line, too.
    points = [(0.0, values[0]), *((at + 0.5, value) for at, value in enumerate(values)), (len(values), values[-1])]
    line = " ".join(f"{x:g},{height(y)}" for x, y in points)
    zero = height(0.0)
    return Markup(  # noqa: S704 - numbers only
        f'<svg viewBox="0 0 {len(values)} {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon class="area" points="0,{zero} {line} {len(values)},{zero}"/>'
        f'<line class="zero" x1="0" x2="{len(values)}" y1="{zero}" y2="{zero}"/>'
        f'<polyline class="line" points="{line}"/></svg>'
    )


def band(
    values: Sequence[float], low: Sequence[float | None], high: Sequence[float | None], top: float = 0.0
) -> Markup:
    """Draw means, one point per frame, over the band of their intervals and a zero line; no band without intervals.

    The chart extends from zero to the larger of the largest value and `top`; intervals beyond are clipped.
    """
    highest = max(top, *values) or 1.0

    def points(heights: Sequence[float]) -> list[str]:
        places = [0.0, *(at + 0.5 for at in range(len(heights))), float(len(heights))]
        reached = [min(max(value, 0.0), highest) for value in (heights[0], *heights, heights[-1])]
        return [f"{x:g},{_HEIGHT * (1 - y / highest):.1f}" for x, y in zip(places, reached, strict=True)]

    lower = [value for value in low if value is not None]
    upper = [value for value in high if value is not None]
    area = ""
    if len(lower) == len(upper) == len(values):
        area = f'<polygon class="area" points="{" ".join([*points(upper), *points(lower)[::-1]])}"/>'
    return Markup(  # noqa: S704 - numbers only
        f'<svg viewBox="0 0 {len(values)} {_HEIGHT:g}" preserveAspectRatio="none" aria-hidden="true">{area}'
        f'<line class="zero" x1="0" x2="{len(values)}" y1="{_HEIGHT:g}" y2="{_HEIGHT:g}"/>'
        f'<polyline class="line" points="{" ".join(points(values))}"/></svg>'
    )
