"""Batches in display space ([0, 1]), perturbed sample by sample and mapped back to model input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from explain.model.layouts import from_ncthw, input_of, layout_of, to_display, to_input, to_ncthw
from explain.robustness.perturbations import Extent, Perturbation, fill_values
from zoo.clips import times_of


class Spoiled:
    """Samples of a batch under any perturbation, computed on the CPU for identical results on every device.

    Args:
        model: Its entry defines the normalization; without an entry, each sample is stretched from its lowest (black)
            to its highest value (white).
        batch: The samples.
        fill: As in `explain.check_robustness`.
        seed: Random seed.
        first: Index of the first sample, if the batch is a part of a larger set.
    """

    def __init__(self, model: nn.Module, batch: Tensor, *, fill: str | float, seed: int, first: int = 0) -> None:
        #: Seconds of each frame of a batch of one sample; None if unknown.
        self.times = times_of(batch)
        self.batch = batch.detach()
        self.layout = layout_of(model, batch)
        values = self.batch.cpu()
        values = values if values.dtype == torch.float64 else values.float()
        spec = input_of(model)
        channels = to_ncthw(values, self.layout).shape[1]
        self.spec = spec if spec is not None and {len(spec.mean), len(spec.std)} <= {1, channels} else None
        #: N x C x T x H x W in [0, 1], on the CPU.
        self.clips = to_display(values, self.spec, self.layout)
        self.edges = [(float(sample.min()), float(sample.max())) for sample in values]
        self.fill, self.seed, self.first = fill, seed, first

    @property
    def extent(self) -> Extent:
        """Return T, H, W."""
        return self.clips.shape[2], self.clips.shape[3], self.clips.shape[4]

    def clip(self, sample: int, perturbation: Perturbation, level: float, draw: int = 0) -> Tensor:
        """Return one perturbed sample, C x T x H x W in [0, 1]."""
        clip = self.clips[sample]
        if level <= perturbation.none:
            return clip
        generator = perturbation.generator(self.seed, level, self.first + sample, draw)
        return perturbation.apply(clip, level, generator, fill_values(self.fill, clip))

    def sample(self, sample: int, perturbation: Perturbation, level: float, draw: int = 0) -> Tensor:
        """Return the perturbed sample as model input, 1 x ..., on the batch's device."""
        clip = self.clip(sample, perturbation, level, draw)[None]
        if self.spec is None:
            low, high = self.edges[sample]
            taken = from_ncthw(low + clip * (high - low), self.layout)
        else:
            taken = to_input(clip, self.spec, self.layout)
        return taken.to(self.batch)
