"""Clips with parts removed: filling, the resulting outputs, and how well a map accounts for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from explain.attribution import Attribution, Method
from explain.attribution.baselines import make_baseline
from explain.model.layouts import from_ncthw, input_of, layout_of, to_ncthw
from explain.model.memory import MeasuredBytes, fitting, within_memory
from explain.model.preservation import generator
from explain.model.targets import Score, Target


class Subject:
    """A model, a batch, a target and a baseline.

    The model is prepared (`explain.model.preservation.prepared`).

    Args:
        model: The model.
        batch: The samples.
        target: The target, fixed for these samples.
        baseline: As in `explain.attribute`.
        batch_size: Maximum number of evaluations per pass; None fits it to the free memory.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Tensor,
        target: Target,
        baseline: Tensor | float | str | None,
        batch_size: int | None = None,
    ) -> None:
        self.model = model
        self.batch = batch.detach()
        self.layout = layout_of(model, batch)
        self.clips = to_ncthw(self.batch, self.layout)
        self.extent: tuple[int, int, int] = (self.clips.shape[2], self.clips.shape[3], self.clips.shape[4])
        self.baseline = to_ncthw(make_baseline(baseline, self.batch, self.layout, input_of(model)), self.layout)
        self.score = Score(model, target)
        #: Called as told(evaluations) after each pass.
        self.told: Callable[[int], None] = lambda _: None
        with torch.no_grad(), MeasuredBytes() as measured:
            within_memory(lambda _: self._outputs(self.clips[:1], [0]), 1, f"one sample of {tuple(batch.shape[1:])}")
        self.size = batch_size or fitting(measured.total, batch.device)
        kept = torch.zeros(1, 1, 1, dtype=torch.bool, device=batch.device)
        ends = [(sample, partial(torch.full_like, kept, gone)) for gone in (False, True) for sample in self.samples]
        #: The explained output for the clip and for its baseline: N, 64-bit.
        self.value, self.empty = self.without(ends).view(2, -1).double()

    @property
    def samples(self) -> range:
        """Return the indices of the samples."""
        return range(len(self.batch))

    def share(self, outputs: Tensor) -> Tensor:
        """Return outputs (... x N x points) as shares of the unchanged output (`explain.faithfulness.curves`).

        NaN for samples whose output is the same with everything removed.
        """
        unit = (self.value - self.empty).abs()[:, None]
        shares: Tensor = 1 + (outputs - self.value[:, None]) / unit
        return shares.masked_fill(unit == 0, torch.nan).cpu()

    def without(self, wanted: Sequence[tuple[int, Callable[[], Tensor]]], *, filled: bool = False) -> Tensor:
        """Compute the explained output for samples with parts removed.

        Args:
            wanted: For each evaluation the sample, and a function that returns its removed part: a boolean mask that
                broadcasts to T x H x W.
            filled: Whether removed pixels are filled from their surroundings (`explain.faithfulness.removal`) instead
                of the baseline.
        """
        if not wanted:
            return self.batch.new_zeros(0)

        def run(size: int) -> Tensor:
            return torch.cat([self._some(wanted[at : at + size], filled=filled) for at in range(0, len(wanted), size)])

        with torch.no_grad():
            return within_memory(run, self.size, f"one sample of {tuple(self.batch.shape[1:])}")

    def _some(self, wanted: Sequence[tuple[int, Callable[[], Tensor]]], *, filled: bool) -> Tensor:
        samples = [sample for sample, _ in wanted]
        gone = torch.stack([removed().expand(self.extent) for _, removed in wanted])
        if filled:
            changed = fill(self.clips[samples], gone, self.baseline[samples])
        else:
            changed = torch.where(gone[:, None], self.baseline[samples], self.clips[samples])
        return self._outputs(changed, samples)

    def _outputs(self, clips: Tensor, samples: list[int]) -> Tensor:
        of = torch.tensor(samples, device=clips.device)
        outputs = self.score(from_ncthw(clips, self.layout).contiguous(), of)
        self.told(len(samples))
        return outputs


def fill(clips: Tensor, missing: Tensor, empty: Tensor) -> Tensor:
    """Fill missing pixels of clips from the remaining pixels of the same frame.

    Frames are filled independently: another frame may show what is missing here, and the order of frames carries
    information.

    Args:
        clips: n x C x T x H x W.
        missing: Boolean mask, n x T x H x W.
        empty: Used for frames without remaining pixels; same shape as the clips.
    """
    frames, gone, blank = (one.transpose(1, 2).flatten(0, 1) for one in (clips, missing[:, None], empty))
    filled = torch.where(gone, blank, frames)
    some = gone.flatten(1).any(dim=1) & ~gone.flatten(1).all(dim=1)
    filled[some] = _fill(frames[some], (~gone[some]).to(frames))
    return filled.reshape(clips.transpose(1, 2).shape).transpose(1, 2)


def _fill(frames: Tensor, known: Tensor) -> Tensor:
    """Fill frames m x C x H x W where `known` (m x 1 x H x W, 1 or 0) is 0, from the same frames at half the size."""
    height, width = frames.shape[-2:]
    if height == width == 1:
        return frames
    odd = (0, width % 2, 0, height % 2)
    sums, counts = (F.avg_pool2d(F.pad(one, odd), 2) for one in (frames * known, known))
    coarse = _fill(sums / counts.clamp(min=0.25), (counts > 0).to(known))  # one known pixel of four is the minimum
    wide = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.where(known > 0, frames, wide)


#: Offset of the seed of boxes.
BOXES: Final = 3

#: Extent of a box along each axis, as a share of the clip's: drawn uniformly from this range.
SHARES = (0.2, 0.6)


class Boxes:
    """Random boxes of pixels and frames, and the change of the output without each. Computed once for all maps.

    The same boxes for every sample, so that samples do not influence each other.

    Args:
        subject: The tested clip.
        count: Number of boxes.
        seed: Seed of their positions and extents.
    """

    def __init__(self, subject: Subject, count: int, seed: int) -> None:
        self.subject = subject
        drawn = generator(seed, BOXES)
        self.masks = [_box(subject.extent, drawn).to(subject.batch.device) for _ in range(count)]
        wanted = [(sample, lambda mask=mask: mask) for sample in subject.samples for mask in self.masks]
        #: N x boxes: f(x) - f(x without the box).
        self.losses = subject.value[:, None] - subject.without(wanted).view(-1, count).double()

    def infidelity(self, attribution: Attribution, method: Method | None) -> Tensor:
        """Compute the share of the squared losses that a map does not account for, at its best scale: N.

        That is, with d(I) = f(x) - f(x - I) and a(I) the map's value for the box,

            min over b >= 0 of mean (b a(I) - d(I))^2 / mean d(I)^2

        (Yeh et al., On the (In)fidelity and Sensitivity of Explanations, arXiv 1901.09392, definition 2.1, with the
        scale b of their section 6; captum's `infidelity(normalize=True)` divided by the mean of d^2). For gradients
        a(I) is the sum of I times gradient; other maps already distribute the output: a(I) is their sum over the box.
        """
        values = self._said(attribution, method)
        said = torch.stack([(values * mask).flatten(1).sum(dim=1) for mask in self.masks], dim=1)
        explained = (said * self.losses).sum(dim=1).clamp(min=0).square() / said.square().sum(dim=1).clamp(min=1e-300)
        total = self.losses.square().sum(dim=1)
        return torch.where(total > 0, 1 - explained / total, torch.nan)

    def _said(self, attribution: Attribution, method: Method | None) -> Tensor:
        """Return the map's value for each pixel of each frame: N x T x H x W."""
        raw = attribution.raw
        if method is None or method.reduction == "positive" or raw.shape != self.subject.batch.shape:
            return attribution.map.double()
        values = to_ncthw(raw, self.subject.layout).double()
        if method.reduction == "magnitude":  # a gradient, per unit of input
            values = values * (self.subject.clips.double() - self.subject.baseline.double())
        return values.sum(dim=1)


def _box(extent: tuple[int, int, int], drawn: torch.Generator) -> Tensor:
    """Return the boolean mask T x H x W of one box."""
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
