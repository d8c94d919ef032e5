"""Clips with parts removed: which pixels, what fills their place, and what the model then gives."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from explain.attribution.baselines import make_baseline
from explain.model.layouts import from_ncthw, input_of, layout_of, to_ncthw
from explain.model.memory import MeasuredBytes, fitting, within_memory
from explain.model.targets import Score

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from explain.model.targets import Target


class Subject:
    """A model, a batch, what is explained, and what stands for "nothing there".

    The model is prepared (`explain.model.preservation.prepared`).

    Args:
        model: The model.
        batch: The samples.
        target: What is explained, fixed for them.
        baseline: As in `explain.attribute`.
        batch_size: Most evaluations at once; None fits them to the free memory.
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
        #: The number explained for the clip and for its baseline: N, as 64-bit numbers.
        self.value, self.empty = self.without(ends).view(2, -1).double()

    @property
    def samples(self) -> range:
        """The numbers of the samples."""
        return range(len(self.batch))

    def share(self, outputs: Tensor) -> Tensor:
        """Outputs (... x N x points) as shares of the unchanged one (`explain.faithfulness.curves`).

        NaN for samples whose output is the same with everything removed.
        """
        unit = (self.value - self.empty).abs()[:, None]
        shares: Tensor = 1 + (outputs - self.value[:, None]) / unit
        return shares.masked_fill(unit == 0, torch.nan).cpu()

    def without(self, wanted: Sequence[tuple[int, Callable[[], Tensor]]], *, filled: bool = False) -> Tensor:
        """The number explained for samples with parts removed.

        Args:
            wanted: For each evaluation the sample, and a function that gives what of it is removed: truth values that
                broadcast to T x H x W.
            filled: Whether what is left around removed pixels takes their place (`explain.faithfulness.removal`), and
                not the baseline.
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
    """Clips whose missing pixels are filled in from what is left of the same frame.

    Frames are filled one by one: another frame may show what is missing here, and the order of frames is part of what
    a clip says.

    Args:
        clips: n x C x T x H x W.
        missing: Truth values, n x T x H x W.
        empty: Taken for frames of which nothing is left; as the clips.
    """
    frames, gone, blank = (one.transpose(1, 2).flatten(0, 1) for one in (clips, missing[:, None], empty))
    filled = torch.where(gone, blank, frames)
    some = gone.flatten(1).any(dim=1) & ~gone.flatten(1).all(dim=1)
    filled[some] = _fill(frames[some], (~gone[some]).to(frames))
    return filled.reshape(clips.transpose(1, 2).shape).transpose(1, 2)


def _fill(frames: Tensor, known: Tensor) -> Tensor:
    """Frames m x C x H x W, filled where `known` (m x 1 x H x W, 1 or 0) is 0, from the same frames half as large."""
    height, width = frames.shape[-2:]
    if height == width == 1:
        return frames
    odd = (0, width % 2, 0, height % 2)
    sums, counts = (F.avg_pool2d(F.pad(one, odd), 2) for one in (frames * known, known))
    coarse = _fill(sums / counts.clamp(min=0.25), (counts > 0).to(known))  # one known pixel of four is the least
    wide = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.where(known > 0, frames, wide)
