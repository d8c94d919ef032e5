"""What one layer computes, and what of it speaks for the output."""

from __future__ import annotations

from explain.attribution.jobs import Job, Raw
from explain.attribution.passes import maps_and_slopes_of, maps_of


def layer_activation(job: Job) -> Raw:
    """Mean over units of the activations' absolute values, at each of the layer's positions."""
    job.expect(1)
    return Raw(values=maps_of(job).abs().mean(dim=1, keepdim=True))


def layer_gradient_x_activation(job: Job) -> Raw:
    """Sum over units of activation times gradient, at each of the layer's positions (arXiv 1605.01713, section 3.3).

    The raw map keeps its sign. Summed over all positions it is the output, where nothing behind the layer adds a
    bias or bends.
    """
    job.expect(1)
    maps, slopes = maps_and_slopes_of(job)
    return Raw(values=(maps * slopes).sum(dim=1, keepdim=True))
