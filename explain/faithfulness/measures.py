"""Measures of a map beside its curves: infidelity and max-sensitivity (Yeh et al., 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import captum.metrics
import torch

from explain.faithfulness.curves import BOXES, NOISE
from explain.model.layouts import from_ncthw, layout_of, to_ncthw
from explain.model.preservation import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from explain.attribution import Attribution, Method
    from explain.faithfulness.removal import Subject
    from explain.faithfulness.repetition import Again
    from explain.model.memory import Progress

#: Extent of a box along each axis, as a share of the clip's: drawn evenly from this range.
SHARES = (0.2, 0.6)


class Boxes:
    """Random boxes of pixels and frames, and what the output loses without each. Made once for all maps.

    The same boxes for every sample, so that samples do not influence each other.

    Args:
        subject: The clip under test.
        count: How many boxes.
        seed: Of their places and extents.
    """

    def __init__(self, subject: Subject, count: int, seed: int) -> None:
        self.subject = subject
        drawn = generator(seed, BOXES)
        self.masks = [_box(subject.extent, drawn).to(subject.batch.device) for _ in range(count)]
        wanted = [(sample, lambda mask=mask: mask) for sample in subject.samples for mask in self.masks]
        #: N x boxes: f(x) - f(x without the box).
        self.losses = subject.value[:, None] - subject.without(wanted).view(-1, count).double()

    def infidelity(self, attribution: Attribution, method: Method | None) -> Tensor:
        """Share of the squared losses that a map does not account for, at its best scale: N.

        That is, with d(I) = f(x) - f(x - I) and a(I) what the map says of the box,

            min over b >= 0 of mean (b a(I) - d(I))^2 / mean d(I)^2

        (Yeh et al., On the (In)fidelity and Sensitivity of Explanations, arXiv 1901.09392, definition 2.1, with the
        scale b of their section 6; captum's `infidelity(normalize=True)` divided by the mean of d^2). For gradients
        a(I) is the sum of I times gradient; other maps share out the output already: a(I) is what lies in the box.
        """
        values = self._said(attribution, method)
        said = torch.stack([(values * mask).flatten(1).sum(dim=1) for mask in self.masks], dim=1)
        explained = (said * self.losses).sum(dim=1).clamp(min=0).square() / said.square().sum(dim=1).clamp(min=1e-300)
        total = self.losses.square().sum(dim=1)
        return torch.where(total > 0, 1 - explained / total, torch.nan)

    def _said(self, attribution: Attribution, method: Method | None) -> Tensor:
        """What the map says of each pixel of each frame: N x T x H x W."""
        raw = attribution.raw
        if method is None or method.reduction == "positive" or raw.shape != self.subject.batch.shape:
            return attribution.map.double()
        values = to_ncthw(raw, self.subject.layout).double()
        if method.reduction == "magnitude":  # a gradient: per unit of input
            values = values * (self.subject.clips.double() - self.subject.baseline.double())
        return values.sum(dim=1)


def _box(extent: tuple[int, int, int], drawn: torch.Generator) -> Tensor:
    """Truth values T x H x W: one box."""
    mask = torch.ones(extent, dtype=torch.bool)
    low, high = SHARES
    for axis, size in enumerate(extent):
        share, place = torch.rand(2, generator=drawn).tolist()
        length = max(1, round(size * (low + share * (high - low))))
        first = min(int(place * (size - length + 1)), size - length)
        inside = torch.zeros(size, dtype=torch.bool)
        inside[first : first + length] = True
        mask &= inside.view([-1 if axis == own else 1 for own in range(3)])
    return mask


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
