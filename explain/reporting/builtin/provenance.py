"""What was run, with which weights, where and for how long."""

from __future__ import annotations

import dataclasses
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from explain.reporting.rendering import render
from explain.reporting.sections import Content
from zoo import devices, plugins

if TYPE_CHECKING:
    from torch import nn

    from explain.reporting.context import Context, Subject

_PACKAGES = ("motion-zoo", "torch", "captum", "numpy", "pillow", "av", "safetensors")


def build(context: Context) -> Content:
    """Facts about the model, its weights, the settings and the machine."""
    data = facts(context)
    return Content(html=render("provenance.html", **data, from_zoo=context.entry is not None), data=data)


def facts(context: Subject) -> dict[str, Any]:
    """What someone needs who wants to get the same numbers again."""
    return {**of_model(context), **of_run(context)}


def of_model(subject: Subject) -> dict[str, Any]:
    """What the model is, and its weights."""
    entry, model = subject.entry, subject.model
    origin = None
    if model is not None:
        from zoo.provenance import origin_of

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
    """The type of the numbers that were computed with."""
    from explain.precision import computed_in

    like = devices.like(model)
    return computed_in(model, like.device) or str(like.dtype).removeprefix("torch.")


def of_run(subject: Subject) -> dict[str, Any]:
    """Seed, place, time, and versions of everything."""
    return {
        "seed": subject.seed,
        "device": subject.device,
        "seconds": dict(subject.seconds),
        "total_seconds": time.perf_counter() - subject.began,
        "versions": versions(),
        "plugins": {plugin.key: plugin.version for plugin in plugins.registry().plugins if plugin.status == "ready"},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
