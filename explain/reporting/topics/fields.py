"""Sections on receptive fields of one model and of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from explain.drawing import figures
from explain.drawing.fields import draw_effective, draw_temporal, in_the_middle, temporal_field
from explain.drawing.numbers import evenly
from explain.drawing.templates import render
from explain.fields.effective import EffectiveField, effective_fields
from explain.fields.theoretical import receptive_fields
from explain.model.layouts import layout_of, to_ncthw
from explain.reporting.context import DEAR, FORBIDDING, Context, operations
from explain.reporting.sections import Content
from zoo.errors import MemoryLimitError, ModelError

#: Maximum number of layers whose effective fields are measured.
MOST = 3


def build_one(context: Context) -> Content:
    """Draw the frames of one unit, and tabulate the theoretical fields, with bars relative to the clip."""
    found = context.fields.rows
    drawn = temporal_field(context.fields)
    clip = to_ncthw(context.batch, layout_of(context.model, context.batch)).shape[2:]
    rows = [
        {
            "layer": one.layer,
            "kind": one.kind,
            "kernel": list(one.kernel),
            "field": list(one.field),
            "frame_field": list(one.frame_field),
            "stride": list(one.stride),
            "whole": list(one.whole),
            "exact": one.exact,
        }
        for one in found
    ]
    effective, left_out = _effective(context)
    middles = [in_the_middle(one) for one in effective]
    html = render(
        "fields.html",
        effective=draw_effective(effective, context.frames) if effective else "",
        left_out=left_out,
        middles=[(one.layer, share) for one, share in zip(effective, middles, strict=True) if share is not None],
        several=clip[0] > 1,
        clip=list(clip),
        layers=rows,
        exact=all(one.exact for one in found),
        differ=any(one.frame_field != one.field[1:] for one in found),
        field=drawn,
        drawing=draw_temporal(drawn) if drawn else "",
    )
    data = {
        "clip": list(clip),
        "layers": rows,
        "temporal_field": drawn and drawn.data,
        "effective": [{**one.record(), "in_the_middle": share} for one, share in zip(effective, middles, strict=True)],
    }
    return Content(html=html, data=data, tensors={one.layer: one.heat.float() for one in effective})


def _effective(context: Context) -> tuple[list[EffectiveField], str]:
    """Measure the effective fields of a few layers on this clip, or return why there are none."""
    # Layers with a kernel larger than 1 that do not see whole frames anyway.
    rows = [row for row in context.fields.rows if row.layer and max(row.kernel) > 1 and not any(row.whole[1:])]
    wide = list(dict.fromkeys(row.layer for row in rows))
    if not wide:
        return [], ""
    cost = operations(context)
    if cost > FORBIDDING:
        return [], "One pass of this model is too dear to measure in a report how far layers look."
    draws = 4 if cost <= DEAR else 1
    chosen = [wide[at - 1] for at in evenly(len(wide) + 1, MOST + 1)[1:]] if len(wide) > MOST else wide
    try:
        with context.timed("effective fields") as progress:
            found = effective_fields(
                context.model,
                chosen,
                context.batch,
                draws=draws,
                seed=context.seed,
                traced=context.fields,
                missing={},
                progress=progress,
            )
    except (MemoryLimitError, ModelError) as error:
        return [], f"How far layers look could not be measured: {error}."
    return found, ""


def build_models(contexts: Sequence[Context]) -> Content:
    """Compare the receptive fields of each model's layers in time and space, up to the deepest one."""
    models = [_model(context) for context in contexts]
    drawn = _drawn(models) if any(model["seen"] for model in models) else None
    return Content(html=render("compared_fields.html", models=models, drawn=drawn), data={"models": models})


def _model(context: Context) -> dict[str, Any]:
    with context.timed(f"receptive fields: {context.name}"):
        found = receptive_fields(context.model, tuple(context.batch.shape))
    clip = to_ncthw(context.batch, layout_of(context.model, context.batch)).shape[2:]
    # Global pooling and later layers see everything in every model; of several operations of one layer the last counts.
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
        # Frames, and rows and columns of one, at each layer that sees more than all before it.
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
    """Draw frames against rows of one frame's pixels, one mark per layer that sees more than those before it."""
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
