"""How the filters of a model move in time: scale, rotation and translation from each slice to the next.

Nothing here imports torch until a function is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.temporal.parameters import LayerParameters, Pattern, Spread, Statistics, TemporalParameters
    from explain.temporal.reading import kernel_of, temporal_parameters

#: Where each public name is defined; imported when it is first asked for.
_HOMES = {
    "LayerParameters": "explain.temporal.parameters",
    "Pattern": "explain.temporal.parameters",
    "Spread": "explain.temporal.parameters",
    "Statistics": "explain.temporal.parameters",
    "TemporalParameters": "explain.temporal.parameters",
    "kernel_of": "explain.temporal.reading",
    "temporal_parameters": "explain.temporal.reading",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
