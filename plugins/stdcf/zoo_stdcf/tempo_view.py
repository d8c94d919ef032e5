"""A section of reports: representations of clips at normal and at half speed, for τ = 1 and τ = 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from explain.authoring import Content, Context, figures, intervals, render
from zoo_stdcf import tempo
from zoo_stdcf.layer import with_tempo

if TYPE_CHECKING:
    from markupsafe import Markup


def available(context: Context) -> bool:
    """Check whether the weights at hand were measured at both speeds."""
    return _stored(context) is not None


def build(context: Context) -> Content:
    """Build the section, for weights that `available` accepts."""
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
    away = {(row["played"], row["tempo"]): row["distance"] for row in found["away"]}
    rows = [
        {
            "played": row["played"],
            "tempo": row["tempo"],
            "accuracy": row["motion accuracy"],
            "interval": intervals.interval(row["motion accuracy"], found["clips"]),
            "distance": away[row["played"], row["tempo"]],
        }
        for row in found["accuracy"]
    ]
    shown = {
        "clips": found["clips"],
        "explained": sum(found["explained"]),
        "rows": rows,
        "motions": dict.fromkeys(found["motions"]),
    }
    html = render(
        "tempo.html",
        "zoo_stdcf",
        panels=[{"tempo": tau, "drawing": picture(found, tau, own[tau])} for tau in tempo.TEMPI],
        **shown,
    )
    data = {**found, "rows": rows, "clip": [{"tempo": tau, "at": at} for tau, at in own.items()]}
    return Content(html=html, data=data)


def picture(found: dict[str, Any], tau: int, own: list[float] | None = None) -> Markup:
    """Draw the result of `tempo.measure`: clips at normal speed and τ = 1, and at half speed and this τ.

    A motion has a color and a mark of its own, filled at normal speed; a line joins both places of a clip. `own` marks
    one more clip.
    """
    points = {(row["played"], row["tempo"]): torch.tensor(row["at"]) for row in found["points"]}
    usual, slow = points["normal", 1], points["half", tau]
    with figures.style():
        drawn = figures.figure(460, 380)
        axes = drawn.subplots()
        axes.plot(
            torch.stack([usual[:, 0], slow[:, 0]]).numpy(),
            torch.stack([usual[:, 1], slow[:, 1]]).numpy(),
            color=figures.SOFT,
            linewidth=0.4,
            zorder=1,
        )
        for place, motion in enumerate(dict.fromkeys(found["motions"])):
            of = torch.tensor([shown == motion for shown in found["motions"]])
            colour, (mark, _) = figures.series(place)
            # There are eight colors; what comes after them is drawn in ink, as a line of its own.
            colour, mark = (colour, mark) if place < len(figures.SERIES) else (figures.INK, "x")
            for at, filled in ((usual[of], True), (slow[of], False)):
                axes.plot(
                    at[:, 0].numpy(),
                    at[:, 1].numpy(),
                    mark,
                    markersize=4.5,
                    markerfacecolor=colour if filled else "none",
                    markeredgecolor=colour,
                    markeredgewidth=0.9,
                    linestyle="none",
                    label=motion if filled else None,
                )
        if own:
            ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": figures.INK, "markeredgewidth": 2}
            axes.plot(*own, "o", markersize=14, linestyle="none", label="this clip", **ring)
        axes.set_xlabel("first component")
        axes.set_ylabel("second component")
        figures.legend(drawn, axes)
        label = f"Where clips lie at normal speed and at half speed with a tempo of {tau}; the table below says how far"
        return figures.svg(drawn, f"tempo-{tau}", label)


def _stored(context: Context) -> dict[str, Any] | None:
    weights = context.entry.weights if context.entry else ()
    return tempo.stored(weights[0].tag, weights[0].sha256) if weights and context.entry else None
