"""Sections on attribution over time and space, averaged over many clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.attribution.methods import title
from explain.drawing import colours
from explain.drawing.sprites import overlay_sprite
from explain.drawing.templates import render
from explain.faithfulness.verdicts import PEAKED
from explain.reporting import intervals
from explain.reporting.many.aggregation import Collection, Entry
from explain.reporting.sections import Content
from zoo.clips import moment

#: Longer side of the image of a mean map.
_SIDE = 192


def build_where(collection: Collection) -> Content:
    """Build the mean map of each method over the frame, with equal weight per clip, and the share in its middle."""
    shown: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for method in collection.methods:
        if method not in collection.places:
            continue
        total, count = collection.places[method]
        mean = total / count
        tensors[method] = mean.float()
        shown.append(
            {
                "method": method,
                "clips": count,
                "centre": intervals.mean(
                    (
                        one.record["methods"][method]["centre"]
                        for one in collection.entries
                        if method in one.record["methods"]
                    ),
                    0,
                    1,
                ),
                "densest": float(mean.max() * mean.numel()),
                "picture": _picture(method, mean),
            }
        )
    html = render("collected_space.html", shown=shown, title=title, gradient=colours.magnitude().gradient())
    data = {"methods": [{key: value for key, value in one.items() if key != "picture"} for one in shown]}
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(one["picture"] for one in shown))


def _picture(method: str, mean: Tensor) -> Any:
    """Draw a mean map, smoothly enlarged, from zero to its maximum."""
    scale = max(1, round(_SIDE / max(mean.shape)))
    size = [length * scale for length in mean.shape]
    large = F.interpolate(mean[None, None], size=size, mode="bilinear", align_corners=False)[0]
    share = large / large.max().clamp_min(torch.finfo(large.dtype).tiny)
    return overlay_sprite(f"mean-{method.replace('_', '-')}", share.numpy(), colours.magnitude())


#: Maximum number of groups shown; the rest is in the JSON file.
MOST = 8


def build_when(collection: Collection) -> Content:
    """Build one card for all clips and one per group, all curves of a method on the same scale."""
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
        ranged=any(len(set(one["peak_seconds"] or ())) > 1 for group in told for one in group["methods"]),
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


def _peak(method: str, entries: Sequence[Entry], found: Sequence[dict[str, Any]]) -> int | None:
    """Return the strongest frame, if frames are ranked better than by chance over these clips and it is a clear peak.

    None if the 95% interval of the gain over random orders of frames contains 0, or if the mean share of the frame may
    be less than twice a uniform one.
    """
    tested = [one.record.get("faithfulness", {}).get(method) or {} for one in entries]
    gain = intervals.mean(
        None if one.get("frames_deletion") is None else one["frames_random_deletion"] - one["frames_deletion"]
        for one in tested
    )
    if not found or gain["low"] is None or gain["low"] <= 0:
        return None
    peak = max(range(len(found)), key=lambda frame: found[frame]["mean"] or 0.0)
    low = found[peak]["low"]
    return peak if low is not None and low >= PEAKED / len(found) else None


def _curve(method: str, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the mean share of every frame, ignoring clips with an empty map."""
    told = [one for one in entries if method in one.time and bool(one.time[method].any())]
    rows = [one.time[method].tolist() for one in told]
    found = [intervals.mean(shares, 0, 1) for shares in zip(*rows, strict=True)]
    means = [one["mean"] for one in found]
    peak = _peak(method, entries, found)
    times = [one.record["times"] for one in told]
    seconds = [one[peak] for one in times if one is not None and len(one) == len(found)] if peak is not None else []
    return {
        "method": method,
        "clips": len(rows),
        "mean": means,
        "low": [one["low"] for one in found],
        "high": [one["high"] for one in found],
        "peak": peak,
        "peak_seconds": [min(seconds), max(seconds)] if len(seconds) == len(times) else None,
        "moment": None if peak is None else moment(peak, len(found), *times),
        "even": 1 / len(means) if means else None,
        "tops": [one["high"] if one["high"] is not None else one["mean"] for one in found],
    }
