"""What the model says of all clips: how often it is right, and what it takes for what."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from explain.reporting.collected import intervals
from explain.reporting.collected.collection import measured
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from explain.reporting.collected.collection import Collection, Group

#: Classes named in a list before the rest is counted.
MOST = 12
#: Ranks that count as nearly right, where there are more classes than that.
_TOP = 5


def build(collection: Collection) -> Content:
    """Accuracy where labels name classes, and how sure it is; every output; the groups of clips."""
    heads = {head: _head(collection, head) for head in collection.classes}
    values = {}
    for head in collection.entries[0].record["heads"]:
        found = [one for entry in collection.entries if (one := measured(entry.record["heads"][head])) is not None]
        if found:
            numbers = [number for number, _ in found]
            values[head] = {
                "unit": found[0][1],
                "values": intervals.mean(numbers),
                "least": min(numbers),
                "most": max(numbers),
                "last_frame_again": _again(collection, head),
            }
    by, groups = collection.groups()
    data: dict[str, Any] = {
        "clips": len(collection.entries),
        "left_out": len(collection.failed),
        "grouped_by": by,
        "heads": heads,
        "values": values,
        "groups": [_group(collection, group) for group in groups],
    }
    shown = {**data, "groups": data["groups"][:MOST], "more": len(groups) - MOST}
    return Content(
        html=render(
            "collected_predictions.html",
            head=collection.head,
            measured=any(group["error"] for group in shown["groups"]),
            **shown,
        ),
        data=data,
    )


def _again(collection: Collection, head: str) -> dict[str, Any] | None:
    """The error of each clip's last frame in the place of a prediction; None for what predicts nothing."""
    found = [entry.record["heads"][head].get("last_frame_again") for entry in collection.entries]
    return intervals.mean(found) if any(one is not None for one in found) else None


def _head(collection: Collection, head: str) -> dict[str, Any]:
    classes = collection.classes[head]
    known = [one for one in collection.entries if head in one.truth]
    said = Counter(one.said[head] for one in collection.entries)
    nearly = None
    if known and len(classes) > 2 * _TOP:
        near = sum(
            one.truth[head] in [top["index"] for top in one.record["heads"][head]["top"][:_TOP]] for one in known
        )
        nearly = intervals.share(near, len(known))
    return {
        "accuracy": intervals.share(sum(one.said[head] == one.truth[head] for one in known), len(known)),
        "top5": nearly,
        "confidence": intervals.mean(
            (one.record["heads"][head]["top"][0]["probability"] for one in collection.entries), 0, 1
        ),
        "said": [
            {"label": classes[index], "clips": count, "share": count / len(collection.entries)}
            for index, count in said.most_common(6)
        ],
        "classes_said": len(said),
    }


def _group(collection: Collection, group: Group) -> dict[str, Any]:
    head = collection.head
    known = [one for one in group.entries if one.right is not None]
    judged = known if collection.known else group.entries  # others have no probability of a true class
    wrong = Counter(
        collection.classes[head][one.said[head]] for one in group.entries if head is not None and one.right is False
    )
    return {
        "name": group.name,
        "clips": len(group.entries),
        "accuracy": intervals.share(sum(bool(one.right) for one in known), len(known)),
        "score": intervals.mean((one.score for one in judged), 0, 1) if head is not None else None,
        "error": intervals.mean((one.error for one in judged), 0)
        if any(one.error is not None for one in judged)
        else None,
        "mistaken_for": [{"label": label, "clips": count} for label, count in wrong.most_common(2)],
    }
