"""How much of the clip each layer can see, and which of its frames one unit depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.layouts import layout_of, to_ncthw
from explain.reporting.rendering import render
from explain.reporting.sections import Content
from explain.reporting.temporal_fields import draw, temporal_field

if TYPE_CHECKING:
    from explain.reporting.context import Context


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
    html = render(
        "fields.html",
        clip=list(clip),
        layers=rows,
        exact=all(one.exact for one in found),
        differ=any(one.frame_field != one.field[1:] for one in found),
        field=drawn,
        drawing=draw(drawn) if drawn else "",
    )
    return Content(html=html, data={"clip": list(clip), "layers": rows, "temporal_field": drawn and drawn.data})
