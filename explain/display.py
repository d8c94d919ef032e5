"""From values that can be looked at to what a model takes, and back: range, mean, deviation, channels and layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.layouts import from_ncthw, to_ncthw
from explain.precision import exact

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.entries import InputSpec, Layout


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
