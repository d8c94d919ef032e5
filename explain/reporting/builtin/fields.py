"""How much of the clip each layer can see, and which of its frames one unit depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.effective_fields import effective_fields
from explain.layouts import layout_of, to_ncthw
from explain.reporting.cost import DEAR, FORBIDDING, operations
from explain.reporting.effective_fields import draw as draw_effective
from explain.reporting.effective_fields import in_the_middle
from explain.reporting.rendering import evenly, render
from explain.reporting.sections import Content
from explain.reporting.temporal_fields import draw, temporal_field
from zoo.errors import MemoryLimitError, ModelError

if TYPE_CHECKING:
    from explain.effective_fields import EffectiveField
    from explain.reporting.context import Context

#: Layers whose effective fields are measured.
MOST = 3


def build(context: Context) -> Content:
    """The drawing of one unit's frames, and the table of theoretical fields, with bars relative to the clip."""
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
        drawing=draw(drawn) if drawn else "",
    )
    data = {
        "clip": list(clip),
        "layers": rows,
        "temporal_field": drawn and drawn.data,
        "effective": [{**one.record(), "in_the_middle": share} for one, share in zip(effective, middles, strict=True)],
    }
    return Content(html=html, data=data, tensors={one.layer: one.heat.float() for one in effective})


def _effective(context: Context) -> tuple[list[EffectiveField], str]:
    """The effective fields of a few layers on this clip, or why there are none."""
    # Layers that look around, but not at whole frames anyway.
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
