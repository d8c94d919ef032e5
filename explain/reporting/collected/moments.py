"""Which frames count: each frame's share of the attribution, class by class and method by method, over clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from explain.reporting.builtin.attributions import title
from explain.reporting.collected import intervals
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from explain.reporting.collected.collection import Collection, Entry

#: Groups drawn before the rest is left to the JSON file.
MOST = 8


def build(collection: Collection) -> Content:
    """One card for all clips and one for each group, all curves of a method on the same scale."""
    frames = max((len(time) for one in collection.entries for time in one.time.values()), default=0)
    by, groups = collection.groups()
    several = groups[1:] != []
    told = [_told(collection, "all clips", collection.entries)]
    told += [_told(collection, group.name, group.entries) for group in groups] if several else []
    data = {"grouped_by": by if several else "", "frames": frames, "groups": told}
    highest: dict[str, float] = {}
    for group in told:
        for method in group["methods"]:
            name = method["method"]
            highest[name] = max([highest.get(name, 0.0), *method.pop("tops")])
    html = render(
        "collected_time.html",
        shown=told[: MOST + 1],
        more=len(told) - MOST - 1,
        by=data["grouped_by"],
        frames=frames,
        highest=highest,
        title=title,
    )
    stored: dict[str, Tensor] = {}
    for method in collection.methods:
        rows = [one.time[method] for one in collection.entries if method in one.time]
        stored[method] = torch.stack(rows) if len({len(row) for row in rows}) == 1 else rows[0][None]
    return Content(html=html, data=data, tensors=stored)


def _told(collection: Collection, name: str, entries: Sequence[Entry]) -> dict[str, Any]:
    return {
        "name": name,
        "clips": len(entries),
        "methods": [_curve(method, entries) for method in collection.methods],
    }


def _curve(method: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """The mean share of every frame; clips whose map is empty say nothing."""
    rows = [one.time[method].tolist() for one in entries if method in one.time and bool(one.time[method].any())]
    found = [intervals.mean(shares, 0, 1) for shares in zip(*rows, strict=True)]
    means = [one["mean"] for one in found]
    peak = max(range(len(means)), key=lambda frame: means[frame] or 0.0) if means else None
    return {
        "method": method,
        "clips": len(rows),
        "mean": means,
        "low": [one["low"] for one in found],
        "high": [one["high"] for one in found],
        "peak": peak,
        "tops": [one["high"] if one["high"] is not None else one["mean"] for one in found],
    }
