"""Deletion and insertion curves: the output as parts of the clip are removed, or restored, in the order of a map.

Everything is measured in *shares*: 1 is the unchanged output, and one unit is the size of the change from removing the
whole clip,

    share = 1 + (f(changed) - f(x)) / |f(x) - f(baseline)|

so that the wholly removed clip has share 0 (2 where the output is higher without the clip). Logits and values of either
sign, and outputs with an arbitrary zero, are thereby treated alike: only changes count, and a lower share always is a
lower output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor

from explain.faithfulness.removal import Subject
from explain.faithfulness.results import Curves
from explain.model.preservation import generator

#: Kinds of parts to remove: pixels in all frames, frames, pixels of single frames.
KINDS = ("spatial", "temporal", "both")

#: Maximum number of blocks of pixels along an axis: single pixels removed at random leave nothing visible (Samek et
#: al., arXiv 1509.06321, section 2).
FINEST = 16

#: Offset of the seed of random orders, so that tests draw different numbers; kinds follow it.
ORDERS: Final = 0

Extent = tuple[int, int, int]


def kinds_of(extent: Extent) -> tuple[str, ...]:
    """Return the kinds that apply to clips of extent (T, H, W); the last is the one for the map at full detail."""
    return KINDS if extent[0] > 1 else ("spatial",)


def cell_of(kind: str, extent: Extent, finest: int = FINEST) -> Extent:
    """Return the extent (T, H, W) of one part: a block of pixels in all frames, a frame, or a block in some frames.

    A block is one pixel of one frame as long as no axis has more than `finest` of them.
    """
    time, height, width = (math.ceil(size / finest) for size in extent)
    return {"spatial": (extent[0], height, width), "temporal": (1, *extent[1:]), "both": (time, height, width)}[kind]


def parts_of(extent: Extent, cell: Extent) -> Extent:
    """Return the number of parts along T, H, W; parts at the far edges may be smaller."""
    time, height, width = (math.ceil(size / step) for size, step in zip(extent, cell, strict=True))
    return time, height, width


def scores_of(heat: Tensor, cell: Extent) -> Tensor:
    """Reduce a map N x T x H x W to one number per part, N x parts: the signed sum over the part."""
    sums = heat.double()
    for axis, step in enumerate(cell, start=1):
        pieces = torch.split(sums, step, dim=axis)
        sums = torch.cat([piece.sum(dim=axis, keepdim=True) for piece in pieces], dim=axis)
    return sums.flatten(1)


def spread(parts: Tensor, extent: Extent, cell: Extent) -> Tensor:
    """Expand boolean masks of parts (T' x H' x W') to every pixel of every frame (T x H x W)."""
    for axis, (size, step) in enumerate(zip(extent, cell, strict=True)):
        parts = parts.repeat_interleave(step, dim=axis).narrow(axis, 0, size)
    return parts


def ranks_of(scores: Tensor, chance: Tensor) -> Tensor:
    """Return the rank of each part, highest score first: N x parts, 0 the first. Ties are ordered by `chance`.

    Args:
        scores: N x parts.
        chance: A permutation of the parts, so that ties do not follow rows and columns.
    """
    places = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
    order = chance[scores[:, chance].sort(dim=1, descending=True, stable=True).indices]
    return torch.empty_like(places).scatter_(1, order, places)


def centre_scores(parts: Extent) -> Tensor:
    """Return the center prior: higher nearer to the middle (of the frame, the clip, or both); 1 x parts."""
    distance = torch.zeros(parts, dtype=torch.float64)
    for axis, size in enumerate(parts):
        place = (torch.arange(size, dtype=torch.float64) * 2 + 1) / size - 1
        distance += place.square().view([-1 if axis == own else 1 for own in range(3)])
    return -distance.flatten()[None]


def counts(parts: int, steps: int) -> Tensor:
    """Return how many parts are removed at each point of a curve, from none to all: at most `steps` + 1 integers.

    Symmetric, so that orders and their reverses are measured at the same points.
    """
    steps = min(steps, parts)
    first = [parts * step // steps for step in range(steps // 2 + 1)]
    return torch.tensor(first + [parts - count for count in reversed(first[: steps - steps // 2])])


class Control:
    """Curves of orders that do not depend on the model: random and center-first. Computed once for all maps.

    Random orders come in pairs, one the other's reverse: what remains as the first order is removed is what the second
    order inserts, so that deletion and insertion need the same passes.
    """

    def __init__(self, subject: Subject, kind: str, steps: int, draws: int, seed: int, *, filled: bool = False) -> None:
        self.kind = kind
        self.filled = filled
        self.subject = subject
        self.steps = steps
        drawn = generator(seed, ORDERS + KINDS.index(kind))
        self.cell = cell_of(kind, subject.extent)
        self.parts = parts_of(subject.extent, self.cell)
        parts = math.prod(self.parts)
        device = subject.batch.device
        self.chance = torch.randperm(parts, generator=drawn).to(device)
        orders = [torch.randperm(parts, generator=drawn).to(device) for _ in range(math.ceil(draws / 2))]
        random = [ranks for order in orders for ranks in (order, parts - 1 - order)]
        centre = ranks_of(centre_scores(self.parts).to(device), self.chance)[0]
        shared = [ranks.expand(len(subject.batch), -1) for ranks in (*random, centre, parts - 1 - centre)]
        self.counts = counts(parts, steps).to(device)
        curves = self.outputs(shared)
        pairs = torch.arange(len(random)).view(-1, 2).flip(1).flatten()
        #: Draws x N x points, and N x points: the output as each order is removed, and as each is inserted.
        self.random_deletion = curves[:-2]
        self.random_insertion = curves[:-2][pairs].flip(-1)
        self.centre_deletion, self.centre_insertion = curves[-2], curves[-1].flip(-1)

    def outputs(self, orders: Sequence[Tensor]) -> Tensor:
        """Return the explained output as each order (N x parts) is removed: orders x N x points."""
        subject, inner = self.subject, self.counts[1:-1]
        values: Tensor = subject.value.new_zeros(len(orders), len(subject.batch), len(self.counts), dtype=torch.float64)
        values[:, :, 0], values[:, :, -1] = subject.value.double(), subject.empty.double()
        wanted = [
            (sample, partial(self._removed, ranks[sample], count))
            for ranks in orders
            for sample in range(len(subject.batch))
            for count in inner.tolist()
        ]
        values[:, :, 1:-1] = subject.without(wanted, filled=self.filled).view(
            len(orders), len(subject.batch), len(inner)
        )
        return values

    def _removed(self, ranks: Tensor, count: int) -> Tensor:
        return spread((ranks < count).view(self.parts), self.subject.extent, self.cell)

    def curves(self, heat: Tensor) -> Curves:
        """Return the curves of a map N x T x H x W beside those of the controls."""
        ranks = ranks_of(scores_of(heat, self.cell), self.chance)
        own = self.outputs([ranks, len(self.chance) - 1 - ranks])
        removed = self.counts.double() / len(self.chance)
        share = self.subject.share
        return Curves(
            kind=self.kind,
            removed=removed.cpu(),
            shown=(1 - removed).flip(0).cpu(),
            deletion=share(own[0]),
            insertion=share(own[1].flip(-1)),
            random_deletion=share(self.random_deletion),
            random_insertion=share(self.random_insertion),
            centre_deletion=share(self.centre_deletion),
            centre_insertion=share(self.centre_insertion),
        )
