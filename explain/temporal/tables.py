"""Temporal parameters as JSON and as rows of tables."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from explain.temporal.parameters import LayerParameters, Spread, Statistics, TemporalParameters, filters_counted

#: What stands above the two tables.
ABSOLUTE = "absolute deviation of the parameters from identity, mean / standard deviation, x 10^-3 (r in radians)"
SIGNED = "what the pattern does in a step, mean / standard deviation (positive: grows, clockwise, right, down)"

_RAW = ("scale", "rotation", "translate_x", "translate_y")
_FITTED = ("r2", "r2_still", "gain")


def summary(parameters: TemporalParameters) -> dict[str, Any]:
    """The statistics of a model and of its layers, as JSON holds them."""
    return {
        "statistics": dataclasses.asdict(parameters.statistics()),
        "layers": {name: _summary(layer) for name, layer in parameters.layers.items()},
        "left_out": dict(parameters.left_out),
    }


def record(parameters: TemporalParameters) -> dict[str, Any]:
    """`summary`, and of every layer all parameters: raw, and as what the pattern does."""
    data = summary(parameters)
    for name, layer in parameters.layers.items():
        pattern = layer.pattern()
        data["layers"][name] |= {
            "identified": layer.identified.tolist(),
            "seen": None if layer.seen is None else layer.seen.tolist(),
            "parameters": {one: getattr(layer, one).tolist() for one in _RAW},
            "pattern": {field.name: getattr(pattern, field.name).tolist() for field in dataclasses.fields(pattern)},
            **{one: None if (value := getattr(layer, one)) is None else value.tolist() for one in _FITTED},
        }
    return data


def absolute_table(parameters: TemporalParameters) -> tuple[list[str], list[list[object]]]:
    """Header and rows of the form of the paper's Tables 2 and 4; the first row is of all layers."""
    fitted = any(layer.kind == "fit" for layer in parameters.layers.values())
    header = ["layer", "kind", "kernel", "filters", *(["identified", "R2", "R2 unmoved"] if fitted else [])]
    rows: list[list[object]] = []
    for name, kind, kernel, found in _lines(parameters):
        known = [f"{100 * found.identified:.1f} %", _number(found.r2), _number(found.r2_still)] if fitted else []
        spreads = [_pair(one.absolute_mean, one.absolute_std, 1000) for one in found.parameters.values()]
        rows.append([name, kind, kernel, filters_counted(found), *known, *spreads])
    return [*header, "s", "r", "tx", "ty"], rows


def signed_table(parameters: TemporalParameters) -> tuple[list[str], list[list[object]]]:
    """Header and rows of what patterns do; the first row is of all layers."""
    factors = {"scale": 100, "rotation": 1, "x_pixels": 1, "y_pixels": 1}
    rows: list[list[object]] = [
        [name, *(_signed(found.pattern[one], factor) for one, factor in factors.items())]
        for name, _, _, found in _lines(parameters)
    ]
    return ["layer", "growth, %", "turn, degrees", "shift x, pixels", "shift y, pixels"], rows


def _lines(parameters: TemporalParameters) -> list[tuple[str, str, str, Statistics]]:
    """Name, kind, kernel and statistics of all layers together, and of each."""
    layers = parameters.layers
    kinds = {layer.kind for layer in layers.values()}
    together = ("all layers", kinds.pop() if len(kinds) == 1 else "both", "-", parameters.statistics())
    return [
        together,
        *(
            (name or "(the model)", layer.kind, " x ".join(map(str, layer.kernel_size)), layer.statistics())
            for name, layer in layers.items()
        ),
    ]


def _summary(layer: LayerParameters) -> dict[str, Any]:
    return {
        "kind": layer.kind,
        "steps_seen": layer.steps_seen,
        "kernel_size": list(layer.kernel_size),
        "statistics": dataclasses.asdict(layer.statistics()),
    }


def _signed(found: Spread, factor: float) -> str:
    return _pair(found.mean, found.std, factor, "+")


def _pair(mean: float, std: float, factor: float, sign: str = "") -> str:
    if math.isnan(mean):
        return "-"
    return f"{factor * mean:{sign}z.2f} / {factor * std:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
