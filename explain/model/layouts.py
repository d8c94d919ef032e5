"""The axes and values of what a model takes and gives: layouts, conversion to and from display, and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo import devices
from zoo.entries import InputSpec, Layout, ModelEntry
from zoo.models.layouts import fixed, from_ncthw, layout_of, to_ncthw
from zoo.models.provenance import origin_of

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


def to_input(clips: Tensor, spec: InputSpec | None, layout: Layout) -> Tensor:
    """Display values N x C x T x H x W (grey or RGB in [0, 1]) as the model takes them; differentiable.

    Args:
        clips: Display values.
        spec: The model's input specification; None takes them as they are.
        layout: Order of the model's axes.
    """
    if spec is not None:
        black, white = spec.range
        mean, std = (clips.new_tensor(values).view(1, -1, 1, 1, 1) for values in (spec.mean, spec.std))
        clips = (black + (clips.flip(1) if spec.channels == "BGR" else clips) * (white - black) - mean) / std
    return from_ncthw(clips, layout)


def to_display(batch: Tensor, spec: InputSpec | None, layout: Layout) -> Tensor:
    """What a model takes as display values N x C x T x H x W in [0, 1], of 32 bits or more: the inverse of `to_input`.

    Args:
        batch: As the model takes it.
        spec: The model's input specification; None stretches each sample from its lowest to its highest value.
        layout: Order of the batch's axes.
    """
    clips = exact(to_ncthw(batch, layout).detach())
    if spec is None:
        low, high = (edge.view(-1, 1, 1, 1, 1) for edge in clips.flatten(1).aminmax(dim=1))
        return (clips - low) / (high - low).clamp_min(1e-12)
    black, white = spec.range
    mean, std = (clips.new_tensor(values).view(1, -1, 1, 1, 1) for values in (spec.mean, spec.std))
    clips = ((clips * std + mean - black) / (white - black)).clamp(0, 1)
    return clips.flip(1) if spec.channels == "BGR" else clips


def exact(values: Tensor) -> Tensor:
    """Floating-point numbers of 16 bits as such of 32; others as they are."""
    return values.float() if values.itemsize < 4 else values


@contextmanager
def widened(model: nn.Module) -> Iterator[bool]:
    """Within, parameters and buffers of 16 bits have 32; gives whether there are any. They are back afterwards."""
    narrow: list[tuple[dict[str, Any], str, Tensor]] = [
        (cast("dict[str, Any]", table), name, values)
        for module in model.modules()
        for table in (module._parameters, module._buffers)  # noqa: SLF001 - their values are exchanged, not changed
        for name, values in table.items()
        if values is not None and values.is_floating_point() and values.itemsize < 4
    ]
    try:
        for table, name, values in narrow:
            wide = values.detach().float()
            table[name] = nn.Parameter(wide, requires_grad=False) if isinstance(values, nn.Parameter) else wide
        yield bool(narrow)
    finally:
        for table, name, values in narrow:
            table[name] = values


def computed_in(model: nn.Module, device: torch.device) -> str:
    """The type of the numbers that results come from, where these have 16 bits: "float16", "bfloat16 by autocast".

    Empty for types of 32 bits or more without autocast.
    """
    if torch.is_autocast_enabled(device.type):
        return f"{_named(torch.get_autocast_dtype(device.type))} by autocast"
    dtype = devices.like(model).dtype
    return _named(dtype) if dtype.itemsize < 4 else ""


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
