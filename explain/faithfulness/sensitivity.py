"""Max-sensitivity: how much a map changes when the clip hardly does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import captum.metrics
import torch

from explain.faithfulness.drawing import NOISE
from explain.layouts import from_ncthw, layout_of, to_ncthw
from explain.randomness import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from explain.budget import Progress
    from explain.faithfulness.again import Again

#: Largest change of a number of the input, as a share of the sample's range.
RADIUS = 0.02


def max_sensitivity(
    again: Again, batch: Tensor, known: Tensor, draws: int, seed: int, told: Callable[[], Progress]
) -> Tensor:
    """Largest ||map(x + d) - map(x)|| / ||map(x)|| over `draws` uniform d with |d| <= r: N.

    r is `RADIUS` of each sample's range (Yeh et al., arXiv 1901.09392, definition 3.1; captum's `sensitivity_max`). The
    target stays what it is for x, also where the noise changes what the model predicts. All samples get the same noise,
    up to their range.

    Args:
        again: Makes the map.
        batch: The samples.
        known: Their maps N x T x H x W, as `again` makes them.
        draws: How often.
        seed: Of the noise.
        told: Gives the function that a sample's progress is told to.
    """
    layout = layout_of(again.model, batch)  # the same noise for every order of the axes
    shape = to_ncthw(batch, layout).shape[1:]
    noise = torch.rand(draws, *shape, generator=generator(seed, NOISE), dtype=torch.float64) * 2 - 1
    noise = from_ncthw(noise, layout).to(batch)

    def of(sample: int) -> Tensor:
        own = batch[sample : sample + 1]
        radius = RADIUS * float(own.max() - own.min())

        def explanation(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            clips = inputs[0]
            if len(clips) == 1 and torch.equal(clips, own):
                return (known[sample : sample + 1],)
            return (again(clips, torch.full((len(clips),), sample, device=batch.device), told()),)

        largest: Tensor = captum.metrics.sensitivity_max(
            explanation,
            (own,),
            perturb_func=_noisy(noise),
            perturb_radius=radius,
            n_perturb_samples=draws,
        )
        return largest

    return torch.cat([of(sample) for sample in range(len(batch))])


def _noisy(noise: Tensor) -> Callable[[Tensor, float], tuple[Tensor, ...]]:
    """What captum calls with copies of the sample, one for each draw."""
    return lambda copies, radius: (copies + radius * noise,)
