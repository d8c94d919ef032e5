"""Every clip in one table, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from explain.reporting.collected.collection import measured
from explain.reporting.media import Sprite, clip_sprite
from explain.reporting.rendering import numbers, render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from explain.reporting.collected.collection import Collection, Entry

#: Thumbnails in one picture, and in all.
_SHEET, _MOST = 240, 1200


def build(collection: Collection) -> Content:
    """One row a clip, and one for each that was left out."""
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
    """By output that a number tells of, its unit and the number of each clip, with the same places after the point."""
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
