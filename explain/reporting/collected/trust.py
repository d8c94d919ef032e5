"""Whether each method's maps can be trusted, over all clips."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from explain.reporting.builtin.attributions import title
from explain.reporting.collected import intervals
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explain.reporting.collected.collection import Collection

#: Verdicts, the best first.
WORDS = ("passes", "inconclusive", "flagged")


def build(collection: Collection) -> Content:
    """Verdicts and numbers of every method, with intervals over clips."""
    rows = [row for method in collection.methods if (row := tested(collection, method))["clips"]]
    said = list(dict.fromkeys(one.record["tests"] for one in collection.entries if "tests" in one.record))
    data = {"methods": rows, "tests": said}
    return Content(html=render("collected_trust.html", title=title, **data), data=data)


def tested(collection: Collection, method: str) -> dict[str, Any]:
    """One method's tests: shares of verdicts, and means of its numbers."""
    found: Sequence[dict[str, Any]] = [
        record for one in collection.entries if (record := one.record.get("faithfulness", {}).get(method))
    ]
    verdicts = Counter(record["verdict"] for record in found)

    def over(name: str, least: float = -math.inf, most: float = math.inf) -> dict[str, Any]:
        return intervals.mean((record[name] for record in found), least, most)

    def gap(one: str, other: str) -> dict[str, Any]:
        """Clip by clip, so that what makes one clip harder than another cancels."""
        return intervals.mean(
            None if record[one] is None or record[other] is None else record[one] - record[other] for record in found
        )

    return {
        "method": method,
        "clips": len(found),
        "verdicts": {word: intervals.share(verdicts[word], len(found)) for word in WORDS},
        "deletion": over("deletion"),
        "deletion_gain": gap("random_deletion", "deletion"),
        "frames_gain": gap("frames_random_deletion", "frames_deletion"),
        "insertion": over("insertion"),
        "insertion_gain": gap("insertion", "random_insertion"),
        "correlation": over("correlation", -1, 1),
        "infidelity": over("infidelity", 0),
        "sensitivity": over("sensitivity", 0),
    }
