"""What a model gives without parts of a clip, and methods that measure it: feature ablation, Shapley sampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import Tensor

from explain.attribution.job import Job, Raw
from explain.attribution.maps import parts_over_time
from explain.attribution.options import FeatureAblationOptions
from explain.model.layouts import from_ncthw, to_ncthw
from zoo.errors import UsageError

#: About how many supervoxels a clip is cut into, and how much nearness counts against colour.
SUPERVOXELS = 64

COMPACTNESS = 0.1


def parts_of(job: Job, sample: int) -> Tensor:
    """The parts of one sample, as numbers from 0 on for each pixel: T x H x W.

    Raises:
        UsageError: Numbers that fit neither the clip nor the batch, differ between channels, or are not all of 0 to
            the largest; supervoxels without scikit-image.
    """
    clip = to_ncthw(job.batch[sample : sample + 1], job.layout)[0]
    options: FeatureAblationOptions = job.options
    if isinstance(options.feature_mask, Tensor):
        return _checked(options.feature_mask.to(clip.device), job, sample)
    if options.feature_mask == "supervoxels":
        return _supervoxels(clip)
    return grid(clip.shape[1:], options.blocks[0], clip.device)


def check(job: Job) -> None:
    """Refuse supervoxels where scikit-image is missing.

    Raises:
        UsageError: It is.
    """
    if job.options.feature_mask == "supervoxels":
        _slic()


def without(job: Job, sample: int, shares: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """The outputs for one sample of which only a share is left at each pixel.

    Args:
        job: The job.
        sample: Which of its samples.
        shares: Several times m x T x H x W from 0 (the baseline) to 1 (the sample), m at most `job.size`.

    Yields:
        Shares with its m outputs, in float64.
    """
    clip, baseline = job.batch[sample : sample + 1], job.baseline[sample : sample + 1]
    for share in shares:
        weight = from_ncthw(share.to(clip)[:, None], job.layout)
        with torch.no_grad():
            batch = torch.lerp(baseline.expand(len(share), *clip.shape[1:]), clip, weight)
            yield share, job.score(batch, job.samples[sample].expand(len(share))).double()


def outputs_without(job: Job, sample: int, parts: Tensor, kept: Tensor) -> Tensor:
    """The outputs for one sample with only some of its parts left.

    Args:
        job: The job.
        sample: Which of its samples.
        parts: T x H x W, as `parts_of` gives them.
        kept: M x K, which of the K parts are left in each of M clips.

    Returns:
        M numbers, in float64.
    """
    shares = (some.to(parts.device)[:, parts] for some in torch.split(kept, job.size))
    return torch.cat([outputs for _, outputs in without(job, sample, shares)])


def spread(job: Job, values: list[Tensor]) -> Tensor:
    """For each sample one value a pixel (T x H x W), as a batch: the same for all channels."""
    maps = torch.stack(values).to(job.value)[:, None]
    return from_ncthw(maps, job.layout).expand_as(job.batch).clone()


def settle(job: Job, planned: int, used: int) -> None:
    """Count evaluations that were expected and not needed as done."""
    job.score.advance(max(0, planned - used))


def grid(extent: Sequence[int], window: Sequence[int], device: torch.device) -> Tensor:
    """Blocks that do not overlap, numbered, of the window's extent but at the end of an axis: T x H x W."""
    number = torch.zeros((), dtype=torch.long, device=device)
    for axis, (size, block) in enumerate(zip(extent, window, strict=True)):
        along = torch.arange(size, device=device) // block
        number = number * (int(along[-1]) + 1) + along.view([-1 if place == axis else 1 for place in range(3)])
    return number


def _supervoxels(clip: Tensor) -> Tensor:
    """Regions of like colour through space and time (SLIC, Achanta et al. 2012; 3-D), at most about `SUPERVOXELS`."""
    slic = _slic()
    low, high = clip.amin(), clip.amax()
    volume = ((clip - low) / (high - low).clamp(min=1e-12)).permute(1, 2, 3, 0).double().cpu().numpy()
    numbers = slic(
        volume, n_segments=SUPERVOXELS, compactness=COMPACTNESS, channel_axis=-1, start_label=0, convert2lab=False
    )
    _, numbers = np.unique(numbers, return_inverse=True)  # a number for every region, none left out
    return torch.from_numpy(numbers.reshape(volume.shape[:3])).long().to(clip.device)


def _slic() -> Any:
    try:
        from skimage.segmentation import slic
    except ImportError:
        raise UsageError(
            "supervoxels need scikit-image, which is not installed; run `pip install 'motion-zoo[supervoxels]'`, or "
            "choose features 'grid'"
        ) from None
    return slic


def _checked(numbers: Tensor, job: Job, sample: int) -> Tensor:
    """The parts T x H x W that a mask gives one sample, whether it is T x H x W itself or broadcasts to the batch."""
    extent = tuple(to_ncthw(job.batch, job.layout).shape[2:])
    shape = tuple(numbers.shape)
    expected = f"expected integers of shape {extent} (T, H, W), or that broadcast to the batch, the part of each pixel"
    if numbers.is_floating_point() or numbers.is_complex():
        raise UsageError(f"feature_mask is of type {numbers.dtype}; {expected}")
    if shape != extent:
        try:
            if numbers.ndim == job.batch.ndim and shape[0] > 1:  # one mask a sample
                numbers = numbers[job.samples[sample]][None]
            channels = to_ncthw(numbers.expand(1, *job.batch.shape[1:]), job.layout)[0]
        except (IndexError, RuntimeError):
            raise UsageError(f"feature_mask of shape {shape} does not fit; {expected}") from None
        if not bool((channels == channels[:1]).all()):
            raise UsageError("feature_mask differs between channels, which are removed together; give one for all")
        numbers = channels[0]
    found = torch.unique(numbers)
    if not torch.equal(found.long(), torch.arange(len(found), device=found.device)):
        raise UsageError(f"feature_mask holds {found.tolist()[:10]}; expected every number from 0 on")
    return numbers.long()


def feature_ablation(job: Job) -> Raw:
    """f(x) minus f(x without a part), at every pixel of the part (arXiv 1311.2901, section 2.2), by Captum.

    Positive: taking the part away lowers the output. For a linear model it is the sum, over the part, of weight times
    (input - baseline).
    """
    parts = [parts_of(job, sample) for sample in range(len(job.batch))]
    counts = [int(part.max()) + 1 for part in parts]
    planned = max(*counts, SUPERVOXELS) if job.options.feature_mask == "supervoxels" else max(counts)
    job.expect(planned)
    values = []
    for sample, (part, count) in enumerate(zip(parts, counts, strict=True)):
        own = slice(sample, sample + 1)
        unchanged = [job.value[own]]

        def score(batch: Tensor, samples: Tensor, unchanged: list[Tensor] = unchanged) -> Tensor:
            return unchanged.pop() if unchanged else job.score(batch, samples)  # Captum begins with the whole clip

        with torch.no_grad():
            found = captum.attr.FeatureAblation(score).attribute(
                job.batch[own],
                baselines=job.baseline[own],
                feature_mask=from_ncthw(part[None, None], job.layout),
                additional_forward_args=job.samples[own],
                perturbations_per_eval=job.size,
            )
        values.append(found)
        settle(job, planned, count)
    return Raw(values=torch.cat(values))


def shapley_sampling(job: Job) -> Raw:
    """Shapley values of the parts: what a part adds where the parts before it in a drawn order are there, on average.

    Castro, Gómez & Tejada, Polynomial calculation of the Shapley value based on sampling (2009), algorithm 1, as often
    as there are draws. The values of all parts sum to f(x) - f(b), whatever the draws; every pixel has its part's.
    """
    parts = [parts_of(job, sample) for sample in range(len(job.batch))]
    counts = [int(part.max()) + 1 for part in parts]
    most = max(*counts, SUPERVOXELS) if job.options.feature_mask == "supervoxels" else max(counts)
    planned = 1 + job.options.n_samples * (most - 1)
    job.expect(planned)
    values, times = [], []
    for sample, (part, count) in enumerate(zip(parts, counts, strict=True)):
        generator = torch.Generator().manual_seed(job.seed)
        empty = outputs_without(job, sample, part, torch.zeros(1, count, dtype=torch.bool))
        total = empty.new_zeros(count)
        for _ in range(job.options.n_samples):
            order = torch.randperm(count, generator=generator)
            kept = torch.ones(count, count).tril()[:-1].bool()  # the first, the first two ... of the order
            there = kept[:, order.argsort()]
            between = outputs_without(job, sample, part, there) if count > 1 else empty[:0]
            path = torch.cat([empty, between, job.value[sample].double().view(1)])
            total[order.to(total.device)] += path.diff()
        values.append((total / job.options.n_samples)[part])
        times.append(parts_over_time(total / job.options.n_samples, part))
        settle(job, planned, 1 + job.options.n_samples * (count - 1))
    return Raw(values=spread(job, values), time=torch.stack(times).to(job.value))


def values_of(heat: Tensor, parts: Tensor) -> Tensor:
    """The values of parts, K, of a map that holds its part's at every pixel (both T x H x W)."""
    return heat.new_zeros(int(parts.max()) + 1).scatter(0, parts.flatten(), heat.flatten())
