"""What one layer computes, and what of it speaks for the output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explain.attribution.grad_cam import from_layer

if TYPE_CHECKING:
    from explain.attribution.jobs import Job, Raw


def layer_activation(job: Job) -> Raw:
    """Mean over units of the activations' absolute values, at each of the layer's positions."""
    return from_layer(job, lambda maps, _: maps.abs().mean(dim=1, keepdim=True))


def layer_gradient_x_activation(job: Job) -> Raw:
    """Sum over units of activation times gradient, at each of the layer's positions (arXiv 1605.01713, section 3.3).

    The raw map keeps its sign. Summed over all positions it is the output, where nothing behind the layer adds a
    bias or bends.
    """
    return from_layer(job, lambda maps, slopes: (maps * slopes).sum(dim=1, keepdim=True))
