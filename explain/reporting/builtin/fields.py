"""How much of the clip each layer can see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import explain
from explain.layouts import layout_of, to_ncthw
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from explain.reporting.context import Context


def build(context: Context) -> Content:
    """The table of theoretical receptive fields, with bars relative to the clip."""
    with context.timed("receptive fields"):
        found = explain.receptive_fields(context.model, tuple(context.batch.shape))
    clip = to_ncthw(context.batch, layout_of(context.model, context.batch)).shape[2:]
    rows = [
        {
            "layer": one.layer,
            "kind": one.kind,
            "kernel": list(one.kernel),
            "field": list(one.field),
            "stride": list(one.stride),
            "whole": list(one.whole),
            "exact": one.exact,
        }
        for one in found
    ]
    data = {"clip": list(clip), "layers": rows}
    return Content(html=render("fields.html", **data, exact=all(one.exact for one in found)), data=data)
