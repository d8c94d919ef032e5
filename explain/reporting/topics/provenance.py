"""Section on provenance: the model, its weights, versions and settings, on every kind of page."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from explain.drawing.templates import render
from explain.reporting.pages import versions
from explain.reporting.sections import Content
from zoo import devices
from zoo.registry import plugins

if TYPE_CHECKING:
    from torch import nn

    from explain.reporting.context import Context, Subject
    from explain.reporting.many.aggregation import Collection


def build_one(context: Context) -> Content:
    """Return facts about the model, its weights, the settings and the machine."""
    data = facts(context)
    return Content(html=render("provenance.html", **data, from_zoo=context.entry is not None), data=data)


def facts(context: Subject) -> dict[str, Any]:
    """Return the facts needed to reproduce the numbers."""
    return {**of_model(context), **of_run(context)}


def of_model(subject: Subject) -> dict[str, Any]:
    """Return facts about the model and its weights."""
    entry, model = subject.entry, subject.model
    origin = None
    if model is not None:
        from zoo.models.provenance import origin_of

        origin = origin_of(model)
    known = entry and entry.weights and (origin is None or origin.status == "file")
    weights = entry.weights[0] if entry and known else None
    counted = None if model is None else sum(parameter.numel() for parameter in model.parameters())
    return {
        "model": subject.name,
        "origin": None if origin is None else {"status": origin.status, "text": origin.text},
        "parameters": counted if counted is not None or entry is None else entry.parameters,
        "dtype": None if model is None else _dtype(model),
        "paper": entry.paper if entry else None,
        "license": entry.license if entry else None,
        "weights": None
        if weights is None
        else {
            "tag": weights.tag,
            "sha256": weights.sha256,
            "bytes": weights.bytes,
            "license": weights.license,
            "recipe": weights.recipe,
            "metrics": [dataclasses.asdict(metric) for metric in weights.metrics],
        },
    }


def _dtype(model: nn.Module) -> str:
    """Return the dtype of the computation."""
    from explain.model.layouts import computed_in

    like = devices.like(model)
    return computed_in(model, like.device) or str(like.dtype).removeprefix("torch.")


def of_run(subject: Subject) -> dict[str, Any]:
    """Return seed, location, time, and all versions."""
    return {
        "seed": subject.seed,
        "device": subject.device,
        "seconds": dict(subject.seconds),
        "total_seconds": time.perf_counter() - subject.began,
        "versions": versions(),
        "plugins": {plugin.key: plugin.version for plugin in plugins.registry().plugins if plugin.status == "ready"},
    }


#: Fields of an evaluation that a page shows beside its figures.
_TOLD = ("measured_as", "clips_measured", "sha256", "torch", "device")


def build_models(subjects: Sequence[Subject]) -> Content:
    """Return facts about each model and its evaluation, then about the run."""
    data = facts_of_models(subjects)
    return Content(html=render("compared_provenance.html", **data), data=data)


def facts_of_models(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Return the facts needed to reproduce the numbers."""
    models = [
        {
            **of_model(subject),
            "evaluation": {key: subject.evaluation.get(key) for key in _TOLD} if subject.evaluation else None,
        }
        for subject in subjects
    ]
    return {"models": models, **of_run(subjects[0])}


def build_clips(collection: Collection) -> Content:
    """Return facts about the model, its weights, the settings and the machine."""
    first = collection.entries[0].record
    data = {
        **facts(collection),
        "methods": list(collection.asked_methods),
        "layer": next((one["layer"] for one in first["methods"].values() if one["layer"]), None),
        "note": first["note"],
        "steps": collection.options.steps,
        "examined_seconds": sum(one.record["seconds"][""] for one in collection.entries),
    }
    return Content(html=render("collected_run.html", **data, from_zoo=collection.entry is not None), data=data)
