"""How many frames and pixels the layers of each model can see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import explain
from explain.layouts import layout_of, to_ncthw
from explain.reporting import figures
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from explain.reporting.context import Context


def build(contexts: Sequence[Context]) -> Content:
    """How far the layers of each model see in time and in space, on the way to its deepest one."""
    models = [_model(context) for context in contexts]
    drawn = _drawn(models) if any(model["seen"] for model in models) else None
    return Content(html=render("compared_fields.html", models=models, drawn=drawn), data={"models": models})


def _model(context: Context) -> dict[str, Any]:
    with context.timed(f"receptive fields: {context.name}"):
        found = explain.receptive_fields(context.model, tuple(context.batch.shape))
    clip = to_ncthw(context.batch, layout_of(context.model, context.batch)).shape[2:]
    # Global pooling and what follows it sees everything in every model; of several operations of one layer the last
    # counts.
    local = list({one.layer: one for one in found if not (one.whole[1] and one.whole[2])}.values())
    seen: list[list[int]] = []
    for one in local:
        extents = [clip[0] if one.whole[0] else one.field[0], *one.frame_field]
        furthest = [max(extents[axis], seen[-1][axis] if seen else 0) for axis in range(3)]
        seen += [furthest] if not seen or furthest != seen[-1] else []
    deepest = local[-1] if local else None
    return {
        "name": context.name,
        "clip": list(clip),
        "layers": len(found),
        "pooled": any(one.whole[1] and one.whole[2] for one in found),
        "exact": all(one.exact for one in local),
        # Frames, and rows and columns of one, each time that a layer sees more than all before it.
        "seen": seen,
        "deepest": None
        if deepest is None
        else {
            "layer": deepest.layer,
            "field": list(deepest.field),
            "frame_field": list(deepest.frame_field),
            "stride": list(deepest.stride),
            "whole": list(deepest.whole),
            "exact": deepest.exact,
        },
    }


def _drawn(models: Sequence[dict[str, Any]]) -> Markup:
    """Frames against rows of one frame's pixels, one mark for each layer that sees further than those before it."""
    with figures.style():
        figure = figures.figure(380, 270)
        axes = figure.subplots()
        for place, model in enumerate(models):
            if not model["seen"]:
                continue
            colour, (marker, line) = figures.series(place)
            axes.plot(
                [extents[1] for extents in model["seen"]],
                [extents[0] for extents in model["seen"]],
                color=colour,
                marker=marker,
                linestyle=line,
                label=model["name"],
            )
        axes.set_xlabel("rows of one frame's pixels seen")
        axes.set_ylabel("frames seen")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True)
        figures.legend(figure, axes)
        names = ", ".join(model["name"] for model in models)
        return figures.svg(
            figure, "fields", f"Frames against rows of pixels that the layers of {names} see; values below"
        )
