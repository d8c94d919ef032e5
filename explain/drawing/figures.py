"""Matplotlib figures as inline SVG: text stays text, lines follow the page's light and dark colors.

Draw inside `style()`, on a `figure()`, with the colors below; `svg` converts it to markup. The output is deterministic.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.colors import to_rgb, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.text import Text

from explain.drawing.templates import asset
from zoo.plain import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import ColorType

#: Placeholders for the page's own colors in either scheme; `svg` replaces them.
INK, SOFT, LINE, CARD = (f"#00000{place}" for place in range(1, 5))

#: Placeholders for eight series.
SERIES = tuple(f"#0000a{place}" for place in range(1, 9))

#: Markers and line styles distinguish series independent of color.
_MARKERS = "os^DvXP*"

_LINES = ("-", "--", "-.", ":")

#: Names of the SVG standard.
_SVG, _LINKS = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

#: Units of an SVG of this module are CSS pixels at full size.
_DPI = 72

#: Maximum magnification of a figure on a page.
_LARGEST = 4 / 3

#: Height of one row of a legend.
_LEGEND_ROW = 16

_STYLE: dict[Any, Any] = {
    "figure.dpi": _DPI,
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with two dollars is not a formula
}

_NAMES = {INK: "ink", SOFT: "soft", LINE: "line", CARD: "card"} | {
    colour: f"series-{place}" for place, colour in enumerate(SERIES, start=1)
}

#: Threshold between the linear part and the power law of sRGB (WCAG 2.2, relative luminance).
_LINEAR = 0.04045


@contextmanager
def style() -> Iterator[None]:
    """Draw in the page's style within a context; matplotlib's settings are restored afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()  # ignore the user's matplotlibrc
        mpl.rcParams.update(_STYLE)
        yield


def figure(width: float, height: float) -> Figure:
    """Create an empty figure of this many CSS pixels; a page magnifies it by at most a third."""
    return Figure(figsize=(width / _DPI, height / _DPI), layout="constrained")


def series(place: int) -> tuple[str, tuple[str, str]]:
    """Return the color of a series, and its marker and line style; those of the first eight are all distinct."""
    return SERIES[place % len(SERIES)], (_MARKERS[place % len(_MARKERS)], _LINES[place % len(_LINES)])


def legend(drawn: Figure, axes: Axes) -> None:
    """Draw a legend above the axes; the figure grows by its height."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        drawn.set_figheight(drawn.get_figheight() + _LEGEND_ROW * math.ceil(len(labels) / 2) / _DPI)
        drawn.legend(handles, labels, loc="outside upper left", ncols=min(2, len(labels)))


def svg(drawn: Figure, name: str, label: str) -> Markup:
    """Convert a figure to markup for a page. Call it inside `style()`.

    Args:
        drawn: The figure.
        name: Unique on the page; prefix of the SVG's internal identifiers.
        label: Alternative text.
    """
    file = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # texts use the reader's fonts, not matplotlib's
        drawn.savefig(file, format="svg", transparent=True, metadata=nothing)
    text = visible(file.getvalue().decode())
    text = text[text.index("<svg ") :]
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    if size is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*">', "<g>", body)
    # The page's own font; angles and coordinates rounded to a hundredth of a pixel.
    body = re.sub(r"font-family: [^;\"]*(; )?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", body)
    body = re.sub(r'="[^"]*"', lambda attribute: re.sub(r"(\d\.\d\d)\d+", r"\1", attribute[0]), body)
    # Identifiers are hashes of coordinates, which vary by rounding: they are numbered instead.
    stem = f"d{sha256(name.encode()).hexdigest()[:8]}"
    places = {identifier: place for place, identifier in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', body)))}
    body = re.sub(
        r'(\bid="|#)([\w-]+)(?=["\)])',
        lambda found: f"{found[1]}{stem}-{places[found[2]]}" if found[2] in places else found[0],
        body,
    )
    for colour, variable in _NAMES.items():
        body = body.replace(colour, f"var(--{variable})")
    body = re.sub(r"\s*\n\s*", " ", body)
    width, height = size.groups()
    opening = (
        f'<svg class="drawn" viewBox="0 0 {width} {height}" style="max-width:{_LARGEST * float(width):.0f}px" '
        f'role="img" stroke-linejoin="round" aria-label="{escape(visible(label))}">'
    )
    return Markup(opening + body.strip())  # noqa: S704 - matplotlib escapes the texts that it draws


def standalone(drawn: Markup) -> str:
    """Return the output of `svg` as a standalone file that follows a browser's light or dark scheme."""
    text = str(drawn)
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w+);", part)) for part in _schemes())
    named = sorted(set(re.findall(r"var\(--([\w-]+)\)", text)) | {"card"})
    for name in named:
        text = text.replace(f"var(--{name})", light[name])
    rules = "".join(
        f'[style*="{what}: {light[name]}"] {{ {what}: {dark[name]} !important; }} '
        for name in named
        for what in ("fill", "stroke")
    )
    style = f"<style>text {{ font-family: sans-serif; }} @media (prefers-color-scheme: dark) {{ {rules}}}</style>"
    opening, body = text.split(">", 1)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', opening)
    if size is None:
        raise ValueError("the drawing has no viewBox")
    opening = opening.replace(
        "<svg ", f'<svg xmlns="{_SVG}" xmlns:xlink="{_LINKS}" width="{size[1]}" height="{size[2]}" ', 1
    )
    return f'{opening}>{style}<rect width="100%" height="100%" style="fill: {light["card"]}"/>{body}\n'


def on_paper(drawn: Figure) -> None:
    """Set the page's light colors and a background, for use as a figure rather than markup."""
    light = dict(re.findall(r"--([\w-]+): (#\w+);", _schemes()[0]))
    colours = {to_rgb(place): to_rgb(light[name]) for place, name in _NAMES.items()}
    boxes = (text.get_bbox_patch() for text in drawn.findobj(Text))  # not children of any artist
    for artist in (*drawn.findobj(), *filter(None, boxes)):
        for what in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            read, write = (getattr(artist, f"{verb}_{what}", None) for verb in ("get", "set"))
            given = read() if read and write else None
            if given is None or (isinstance(given, str) and given in {"none", "auto"}):
                continue
            values = to_rgba_array(given)
            known = [
                (*colours.get((red, green, blue), (red, green, blue)), alpha) for red, green, blue, alpha in values
            ]
            if write and known != [tuple(value) for value in values]:
                write(known[0] if len(known) == 1 else known)
    drawn.set_facecolor(light["card"])


def _schemes() -> tuple[str, str]:
    """Return the page's colors, light and dark."""
    light, dark = str(asset("report.css")).split("@media (prefers-color-scheme: dark)", 1)
    return light, dark.split("}", 1)[0]


def readable_on(colour: ColorType) -> str:
    """Return black or white, whichever has more contrast with a color."""
    light = (share / 12.92 if share <= _LINEAR else ((share + 0.055) / 1.055) ** 2.4 for share in to_rgb(colour))
    red, green, blue = light
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    # Contrast with white above that with black: (1.05 / (L + 0.05)) > ((L + 0.05) / 0.05).
    return "#ffffff" if (luminance + 0.05) ** 2 < 1.05 * 0.05 else "#111111"


def over_frames(axes: Axes, times: Sequence[float] | None) -> None:
    """Label the horizontal axis with frames, by their index and, if known, their time."""
    axes.set_xlabel("frame" if times is None else "frame, and its time in the clip")
    if times is not None:
        known = dict(enumerate(times))
        axes.xaxis.set_major_formatter(
            lambda place, _: f"{place:g}\n{known[int(place)]:.2f} s" if place in known else ""  # ticks between frames
        )
