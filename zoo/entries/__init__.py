"""Entries of models and recipes, as plain data declared by plugins.

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe, Search, Span, Stage
    from zoo.entries.spec import (
        Channels,
        InputSpec,
        Interpolation,
        Kind,
        Layout,
        Metric,
        ModelEntry,
        OutputSpec,
        Resize,
        Sample,
        Sampling,
        WeightsEntry,
    )

_HOMES = {
    "Channels": "zoo.entries.spec",
    "InputSpec": "zoo.entries.spec",
    "Interpolation": "zoo.entries.spec",
    "Kind": "zoo.entries.spec",
    "Layout": "zoo.entries.spec",
    "Metric": "zoo.entries.spec",
    "ModelEntry": "zoo.entries.spec",
    "OutputSpec": "zoo.entries.spec",
    "Recipe": "zoo.entries.recipes",
    "Resize": "zoo.entries.spec",
    "Sample": "zoo.entries.spec",
    "Sampling": "zoo.entries.spec",
    "Search": "zoo.entries.recipes",
    "Span": "zoo.entries.recipes",
    "Stage": "zoo.entries.recipes",
    "WeightsEntry": "zoo.entries.spec",
}

__all__ = [
    "Channels",
    "InputSpec",
    "Interpolation",
    "Kind",
    "Layout",
    "Metric",
    "ModelEntry",
    "OutputSpec",
    "Recipe",
    "Resize",
    "Sample",
    "Sampling",
    "Search",
    "Span",
    "Stage",
    "WeightsEntry",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
