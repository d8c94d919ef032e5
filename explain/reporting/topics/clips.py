"""Sections on clips: preprocessing of one clip; for many, a table of all, and the best and the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from explain.attribution.methods import title
from explain.drawing import colours as colour
from explain.drawing.numbers import evenly, numbers
from explain.drawing.sprites import Sprite, clip_sprite, overlay_sprite
from explain.drawing.templates import render
from explain.reporting.context import Context
from explain.reporting.many.aggregation import Collection, Entry, measured
from explain.reporting.sections import Content
from explain.reporting.topics.faithfulness import tested
from zoo import clips
from zoo.clips import moment

#: Thumbnails per sheet, and in total.
_SHEET, _MOST = 240, 1200


#: Number of decoded frames that are shown beside the model's input.
_AS_READ = 6

#: Pixels of their longer side.
_LONGEST = 160


def build_one(context: Context) -> Content:
    """Describe each step of preprocessing, warnings, and some frames before and after."""
    clip = context.clip
    steps = (
        clips.describe(clip, context.entry.input)
        if context.entry
        else ["The batch was given ready-made; for this page its values were scaled from its smallest to its largest."]
    )
    source: Sprite | None = None
    if context.entry and clip.frames.shape[1:3] != context.frames.shape[1:3]:
        source = _as_read(context)
    data: dict[str, Any] = {
        "source": clip.source,
        "frames": clip.total,
        "used": list(clip.indices),
        "size": [int(side) for side in clip.frames.shape[1:3]],
        "fps": clip.fps,
        "times": None if context.times is None else list(context.times),
        "steps": steps,
        "warnings": list(clip.warnings),
        "batch": list(context.batch.shape),
    }
    html = render(
        "conversion.html", context=context, source=source, **{key: data[key] for key in ("steps", "warnings", "batch")}
    )
    return Content(html=html, data=data, sprites=(source,) if source else ())


def _as_read(context: Context) -> Sprite:
    """Return some decoded frames, downsampled by skipping pixels."""
    frames = context.clip.frames.numpy()
    frames = frames[evenly(len(frames), _AS_READ)]
    step = max(1, -(-max(frames.shape[1:3]) // _LONGEST))
    return clip_sprite("as-read", np.ascontiguousarray(frames[:, ::step, ::step]))


def build_table(collection: Collection) -> Content:
    """Build one row per clip, and one per skipped clip."""
    entries = collection.ranked[::-1]
    sheets = [
        clip_sprite(f"thumbnails-{start // _SHEET}", torch.stack(part).numpy(), lossy=True)
        for start in range(0, min(len(entries), _MOST), _SHEET)
        if (part := [one.thumbnail for one in entries[start : min(start + _SHEET, _MOST)]])
    ]
    rows = [_row(collection, one) for one in entries]
    pictures: list[tuple[Sprite, int] | None] = [
        (sheets[at // _SHEET], at % _SHEET) if at < _MOST else None for at in range(len(rows))
    ]
    data = {"clips": rows, "failed": collection.failed}
    html = render(
        "collected_clips.html",
        rows=list(zip(rows, pictures, strict=True)),
        failed=collection.failed,
        judged=bool(collection.known),
        labelled=any(row["label"] for row in rows),
        head=collection.head,
        tested=any(row["verdicts"] for row in rows),
        values=_values(collection, entries),
        further=list(dict.fromkeys(title for one in entries for title in one.record["further"])),
    )
    return Content(html=html, data=data, sprites=tuple(sheets))


def _values(collection: Collection, entries: Sequence[Entry]) -> dict[str, tuple[str, list[Markup | None]]]:
    """Return by head the unit and each clip's number, with equal decimals."""
    found = {}
    for head in collection.entries[0].record["heads"]:
        told = [measured(one.record["heads"][head]) for one in entries]
        units = [one[1] for one in told if one]
        if units:
            found[head] = (units[0], numbers([one and one[0] for one in told]))
    return found


def _row(collection: Collection, one: Entry) -> dict[str, Any]:
    top = None if one.head is None else one.record["heads"][one.head]["top"][0]
    return {
        "clip": one.source.name,
        "label": one.label,
        "said": None if top is None else top["label"],
        "probability": None if top is None else top["probability"],
        "truth": collection.true_class(one),
        "right": one.right,
        "score": one.score,
        "error": one.error,
        "value": one.record["value"],
        "target": one.record["target"],
        "heads": one.record["heads"],
        "verdicts": {method: record["verdict"] for method, record in one.record.get("faithfulness", {}).items()},
        "passed": sum(record["verdict"] == "passes" for record in one.record.get("faithfulness", {}).values()),
        "tested": len(one.record.get("faithfulness", {})),
        "strongest": {method: record["strongest"] for method, record in one.record["methods"].items()},
        "warnings": one.record["warnings"],
        "seconds": one.record["seconds"][""],
    }


#: Parts of a card that are images.
_PICTURES = ("picture", "overlay", "given", "after")


def build_examples(collection: Collection) -> Content:
    """Show the best and the worst clips; with few clips, all."""
    method, passed = _method(collection)
    best, worst = collection.extremes()
    tensors: dict[str, Tensor] = {}
    shown = {
        name: [_card(collection, one, method, f"{name}-{at}", tensors) for at, one in enumerate(entries)]
        for name, entries in (("best", best), ("worst", worst))
    }
    cards = [card for group in shown.values() for card in group]
    sprites = [card[name] for card in cards for name in _PICTURES if card[name] is not None]
    told = {
        name: [{key: value for key, value in card.items() if key not in _PICTURES} for card in group]
        for name, group in shown.items()
    }
    data = {"method": method, "passed": passed, **told}
    html = render(
        "collected_examples.html",
        groups=shown,
        method=method,
        passed=passed,
        title=title,
        judged=bool(collection.known),
        head=collection.head,
        measured=any(one.error is not None for one in collection.entries),
    )
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(sprites))


def _method(collection: Collection) -> tuple[str | None, int]:
    """Return the method whose maps pass most often, and how often; the first if tied."""
    methods = collection.methods
    passed = {method: tested(collection, method)["verdicts"]["passes"]["hits"] for method in methods}
    if not methods:
        return None, 0
    best = max(methods, key=lambda method: passed[method])
    return best, passed[best]


def _card(
    collection: Collection, one: Entry, method: str | None, key: str, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    views = collection.views.get(one.source.name, {})
    frames = views.get("frames")
    times = one.record["times"]
    picture = None if frames is None else clip_sprite(f"clip-{key}", frames.numpy(), times=times and tuple(times))
    overlay = None
    values = views.get(f"map/{method}")
    if values is not None:
        tensors |= {
            f"{key}/{name.removeprefix('map/')}": view for name, view in views.items() if name.startswith("map/")
        }
        share, _, colours = colour.scaled(values.numpy())
        overlay = overlay_sprite(f"map-{key}", share, colours)
    peak = one.record["methods"].get(method, {}).get("peak")
    return {
        "clip": one.source.name,
        "label": one.label,
        "right": one.right,
        "truth": collection.true_class(one),
        "said": None if one.head is None else collection.classes[one.head][one.said[one.head]],
        "probability": None if one.head is None else one.record["heads"][one.head]["top"][0]["probability"],
        "score": one.score,
        "error": one.error,
        "target": one.record["target"],
        "is_mean": one.record["is_mean"],
        "peak": peak,
        "moment": None if peak is None else moment(peak, one.record["frames"], times),
        "strongest": one.record["methods"].get(method, {}).get("strongest"),
        "verdict": one.record.get("faithfulness", {}).get(method, {}).get("verdict"),
        "signed": overlay is not None and colours.low < 0,
        "picture": picture,
        "overlay": overlay,
        "given": _film(views, "given", key),
        "after": _film(views, "truth", key),
    }


def _film(views: Mapping[str, Tensor], what: str, key: str) -> Sprite | None:
    """Return the first output clip, or the frames it predicts; None if there are none."""
    found = next((name for name in views if name.startswith(f"{what}/")), None)
    return None if found is None else clip_sprite(f"{what}-{key}", views[found].numpy())
