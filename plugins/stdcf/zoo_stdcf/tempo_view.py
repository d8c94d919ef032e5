"""A section of reports: where clips lie among representations at normal and at half speed, for τ = 1 and τ = 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from markupsafe import Markup

from explain.reporting import figures
from explain.reporting.sections import Content
from zoo_stdcf import tempo
from zoo_stdcf.layer import with_tempo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from explain.reporting.context import Context


#: Width of a letter and height of a line of names, as shares of a panel's.
_LETTER, _LINE = 0.016, 0.05


def available(context: Context) -> bool:
    """Whether the weights at hand were measured at both speeds."""
    return _stored(context) is not None


def build(context: Context) -> Content:
    """The section, for weights that `available` says yes to."""
    found = _stored(context)
    network: Any = context.model
    if found is None:
        raise ValueError("these weights were not measured at both speeds")
    mean, axes = (torch.tensor(found[name], dtype=torch.float64) for name in ("mean", "axes"))
    own = {}
    with torch.no_grad():
        for tau in tempo.TEMPI:
            features = with_tempo(network, tau).features(context.batch)[0].double().cpu()
            own[tau] = [round(float(value), 4) for value in (features - mean) @ axes.T]
    accuracy = {(row["played"], row["tempo"]): row["motion accuracy"] for row in found["accuracy"]}
    away = {(row["played"], row["tempo"]): row["distance"] for row in found["away"]}
    html = Markup(
        "<p>Test clips of Motion MNIST as the network sees them, 64 numbers behind the last convolution, along the two"
        " directions in which they differ most ({} of the variance): at normal speed, and the same clips at half"
        " speed. Atoms dilated in time by τ = 2 look at every other frame; nothing is learned anew. Of {:,} clips at"
        " half speed {} are named right with τ = 1 and {} with τ = 2 (at normal speed {} and {}). On"
        " average they lie {:.2f} and {:.2f} times as far from where they lie at normal speed as clips lie from the"
        " middle of all. The diamond is the clip of this report.</p>{}"
    ).format(
        _percent(sum(found["explained"])),
        found["clips"],
        *(_percent(accuracy["half", tau]) for tau in tempo.TEMPI),
        *(_percent(accuracy["normal", tau]) for tau in tempo.TEMPI),
        *(away["half", tau] for tau in tempo.TEMPI),
        picture(found, own),
    )
    return Content(html=html, data={**found, "clip": [{"tempo": tau, "at": at} for tau, at in own.items()]})


def picture(found: dict[str, Any], own: dict[int, list[float]] | None = None) -> Markup:
    """What `tempo.measure` gave as a drawing, one panel for each τ; `own` marks one more clip in each.

    Filled points are clips at normal speed and τ = 1, the same in both panels, named where those of a motion are;
    rings are the same clips at half speed with the panel's τ.
    """
    points = {(row["played"], row["tempo"]): row["at"] for row in found["points"]}
    with figures.style():
        drawn = figures.figure(900, 420)
        panels = drawn.subplots(1, len(tempo.TEMPI), sharex=True, sharey=True)
        for axes, tau in zip(panels, tempo.TEMPI, strict=True):
            axes.set_title(f"half speed, τ = {tau}")
            _scatter(axes, points["normal", 1], 0, "normal speed, τ = 1", filled=True)
            _scatter(axes, points["half", tau], 1, "the same clips at half speed", filled=False)
            if own:
                axes.plot(*own[tau], "D", color=figures.INK, markersize=8, label="this clip", zorder=5)
            _name(axes, found["motions"], points["normal", 1])
            axes.set_xlabel("first component")
        panels[0].set_ylabel("second component")
        figures.legend(drawn, panels[-1])
        return figures.svg(
            drawn, "tempo", "Representations of clips at half speed beside those at normal speed, for τ = 1 and τ = 2"
        )


def _scatter(axes: Axes, at: list[list[float]], place: int, label: str, *, filled: bool) -> None:
    colour = figures.SERIES[place]
    x, y = zip(*at, strict=True)
    axes.plot(
        x,
        y,
        "o",
        markersize=4,
        markerfacecolor=colour if filled else "none",
        markeredgecolor=colour,
        linestyle="none",
        label=label,
    )


def _name(axes: Axes, motions: list[str], at: list[list[float]]) -> None:
    """Write each motion in the middle of its points, above another name where it would cover that."""
    wide, high = (abs(end - start) for start, end in (axes.get_xlim(), axes.get_ylim()))
    middles = {}
    for name in dict.fromkeys(motions):
        own = torch.tensor([place for place, shown in zip(at, motions, strict=True) if shown == name])
        middles[name] = own.median(0).values.tolist()
    placed: list[tuple[float, float, int]] = []
    ground = {"facecolor": figures.CARD, "edgecolor": "none", "alpha": 0.7, "pad": 1}
    for name, (x, middle) in sorted(middles.items(), key=lambda item: item[1][1]):
        y = middle
        for other, below, letters in placed:
            if abs(x - other) < _LETTER * wide * (len(name) + letters) / 2 and y < below + _LINE * high:
                y = below + _LINE * high
        placed.append((x, y, len(name)))
        axes.annotate(
            name, (x, y), ha="center", va="center", fontweight="bold", color=figures.INK, bbox=ground, fontsize=10
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _stored(context: Context) -> dict[str, Any] | None:
    weights = context.entry.weights if context.entry else ()
    return tempo.stored(weights[0].tag, weights[0].sha256) if weights and context.entry else None
