"""What was run on all clips, with which weights and settings, where and for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.reporting.builtin import provenance
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from explain.reporting.collected.collection import Collection


def build(collection: Collection) -> Content:
    """Facts about the model, its weights, the settings and the machine."""
    subject, first = collection.subject, collection.entries[0].record
    data = {
        **provenance.facts(subject),
        "methods": list(collection.setup.methods),
        "layer": next((one["layer"] for one in first["methods"].values() if one["layer"]), None),
        "note": first["note"],
        "steps": collection.setup.options.steps,
        "examined_seconds": sum(one.record["seconds"][""] for one in collection.entries),
    }
    return Content(html=render("collected_run.html", **data, from_zoo=subject.entry is not None), data=data)
