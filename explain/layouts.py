"""What a model's entry says of its input, and the axes of its batches (`zoo.layouts`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.layouts import fixed, from_ncthw, layout_of, to_ncthw
from zoo.provenance import origin_of

if TYPE_CHECKING:
    from torch import nn

    from zoo.entries import InputSpec, ModelEntry

__all__ = ["entry_of", "fixed", "from_ncthw", "has_random_weights", "input_of", "layout_of", "to_ncthw"]


def entry_of(model: nn.Module) -> ModelEntry | None:
    """The catalogue entry that `zoo.load` left on the model; None for any other module."""
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    return entry


def has_random_weights(model: nn.Module) -> bool:
    """Whether the model's weights are as `zoo.load` drew them at random; of any other module nothing is known."""
    origin = origin_of(model)
    return origin is not None and origin.status == "random"


def input_of(model: nn.Module) -> InputSpec | None:
    """What the model's entry says of its input; None without an entry."""
    entry = entry_of(model)
    return None if entry is None else entry.input
