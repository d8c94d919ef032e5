"""Faithfulness as plain data, for tables, pages and JSON: means over samples, None where there is no number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from explain.faithfulness.verdicts import chance

if TYPE_CHECKING:
    from torch import Tensor

    from explain.faithfulness.results import Curves, Faithfulness


def record(result: Faithfulness) -> dict[str, Any]:
    """Every number of a result."""
    verdict = result.verdict
    return {
        "method": result.method,
        "target": result.target,
        "verdict": verdict.word,
        "reasons": {name: {"verdict": word, "text": text} for name, (word, text) in verdict.parts.items()},
        "value": _mean(result.value),
        "empty": _mean(result.empty),
        "curves": {kind: _curves(curves) for kind, curves in result.curves.items()},
        "infidelity": _mean(result.infidelity),
        "sensitivity": _mean(result.sensitivity),
        "randomization": [
            {
                "layer": one.layer,
                "depth": one.depth,
                "correlation": _mean(one.correlation),
                "draws": None if one.draws is None else [_number(value) for value in one.draws.nanmean(dim=1).tolist()],
            }
            for one in result.randomization
        ],
        "missing": dict(result.missing),
        "settings": dict(result.settings),
    }


def _curves(curves: Curves) -> dict[str, Any]:
    random = (
        curves.area(curves.random_deletion).nanmean(dim=1),
        curves.inserted_area(curves.random_insertion).nanmean(dim=1),
    )
    return {
        "removed": curves.removed.tolist(),
        "shown": curves.shown.tolist(),
        "deletion": _one(curves.deletion, curves.area(curves.deletion)),
        "insertion": _one(curves.insertion, curves.inserted_area(curves.insertion)),
        "random_deletion": {
            **_one(curves.random_deletion.flatten(0, 1), random[0]),
            **_sampling(curves),
        },
        "random_insertion": {
            **_one(curves.random_insertion.flatten(0, 1), random[1]),
            "spread": _mean(random[1].std(correction=1)),
        },
        "centre_deletion": _one(curves.centre_deletion, curves.area(curves.centre_deletion)),
        "centre_insertion": _one(curves.centre_insertion, curves.inserted_area(curves.centre_insertion)),
    }


def _sampling(curves: Curves) -> dict[str, Any]:
    """The spread of random orders, and where 90 % of them lie."""
    random = chance(curves)
    found = {"spread": random.spread, "low": random.low, "high": random.high}
    return {name: _number(value) for name, value in found.items()} | {"draws": random.draws}


def _one(curves: Tensor, areas: Tensor) -> dict[str, Any]:
    """A mean curve, and the mean area."""
    return {"curve": [_number(value) for value in curves.nanmean(dim=0).tolist()], "area": _mean(areas)}


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else _number(float(values.nanmean()))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
