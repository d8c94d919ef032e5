"""Whether methods point at the same pixels of the same frames, over all clips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting.builtin.attributions import title
from explain.reporting.collected import intervals
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from explain.reporting.collected.collection import Collection


#: Methods agree from this mean rank correlation on: below, the order of one says less than 1 % of that of the other.
ENOUGH = 0.1


def build(collection: Collection) -> Content:
    """The mean rank correlation of any two methods' maps, with intervals."""
    methods = collection.methods
    table: list[list[dict[str, Any]]] = [
        [intervals.mean((_pair(one.record, row, column) for one in collection.entries), -1, 1) for column in methods]
        for row in methods
    ]
    pairs = [
        (table[row][column]["mean"], methods[row], methods[column])
        for row in range(len(methods))
        for column in range(row)
        if table[row][column]["mean"] is not None
    ]
    data = {"methods": methods, "correlation": table}
    return Content(
        html=render(
            "collected_agreement.html",
            least=min(pairs, default=None),
            most=max(pairs, default=None),
            title=title,
            enough=ENOUGH,
            **data,
        ),
        data=data,
    )


def _pair(record: Any, first: str, second: str) -> float | None:
    made = list(record["methods"])
    if "agreement" not in record or first not in made or second not in made:
        return None
    found: float | None = record["agreement"][made.index(first)][made.index(second)]
    return found
