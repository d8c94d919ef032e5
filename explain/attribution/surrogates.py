"""A linear model fitted to the outputs without some parts: KernelSHAP and LIME. Its weights are the attribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from explain.attribution.job import Job, Raw
from explain.attribution.maps import parts_over_time
from explain.attribution.options import SurrogateOptions
from explain.attribution.removal import outputs_without, parts_of, spread
from zoo.errors import UsageError

#: Width of LIME's kernel over the cosine distance from the whole clip, as its authors use it for images.
WIDTH = 0.25
#: LIME's ridge, as a share of the sum of the kernel's weights.
RIDGE = 1e-3


def kernel_shap(job: Job) -> Raw:
    """Shapley values of the parts, by a weighted regression (arXiv 1705.07874, theorem 2); every pixel has its part's.

    Where there are no more ways to keep some parts than draws, all are tried and the values are exact; else sizes are
    drawn with the kernel's weight, then parts, each time with the opposite choice. The values of all parts sum to
    f(x) - f(b), as the kernel's infinite weights ask.

    Raises:
        UsageError: The draws leave values open: there must be twice as many as parts, and some more.
    """
    options: SurrogateOptions = job.options
    job.expect(options.n_samples + 1)
    values, times = [], []
    for sample in range(len(job.batch)):
        parts = parts_of(job, sample)
        count = int(parts.max()) + 1
        kept, weights = _coalitions(count, options.n_samples, job.seed)
        nothing = outputs_without(job, sample, parts, torch.zeros(1, count, dtype=torch.bool))
        whole = job.value[sample].double() - nothing
        if count == 1:
            job.score.advance(options.n_samples)
            values.append(whole[parts])
            times.append(parts_over_time(whole, parts))
            continue
        outputs = outputs_without(job, sample, parts, kept) - nothing
        job.score.advance(options.n_samples - len(kept))
        # The sum is given: the last part is what the others leave of it.
        design = kept.to(outputs)
        free = design[:, :-1] - design[:, -1:]
        root = weights.to(outputs).sqrt()
        others = torch.linalg.lstsq(
            (root[:, None] * free).cpu(), (root * (outputs - design[:, -1] * whole)).cpu()[:, None], driver="gelsd"
        ).solution[:, 0]
        others = others.to(outputs)
        each = torch.cat([others, whole - others.sum()])
        values.append(each[parts])
        times.append(parts_over_time(each, parts))
    return Raw(values=spread(job, values), time=torch.stack(times).to(job.value))


def lime(job: Job) -> Raw:
    """Weights of a linear model of which parts are there, near the whole clip (arXiv 1602.04938, equation 2).

    Each part is there in half of the draws; a draw's weight is exp(-d^2 / `WIDTH`^2), d its cosine distance from the
    whole clip; least squares with an intercept and a small ridge. Every pixel has its part's weight.
    """
    options: SurrogateOptions = job.options
    job.expect(options.n_samples)
    values = []
    for sample in range(len(job.batch)):
        parts = parts_of(job, sample)
        count = int(parts.max()) + 1
        generator = torch.Generator().manual_seed(job.seed)
        kept = torch.rand(options.n_samples, count, generator=generator, dtype=torch.float64) < 0.5
        kept[0] = True
        outputs = outputs_without(job, sample, parts, kept)
        share = kept.double().mean(dim=1)
        weights = torch.exp(-((1 - share.sqrt()) ** 2) / WIDTH**2).to(outputs)
        design = kept.to(outputs)
        middle = (weights @ design) / weights.sum()
        centred, above = design - middle, outputs - (weights @ outputs) / weights.sum()
        square = (centred.T * weights) @ centred
        square += RIDGE * weights.sum() * torch.eye(count).to(square)
        values.append(torch.linalg.solve(square, centred.T @ (weights * above))[parts])
    return Raw(values=spread(job, values))


def _coalitions(count: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Which parts are there in each clip (M x count), neither none nor all, and the weights of these choices."""
    if count <= 20 and 2**count - 2 <= draws:
        numbers = torch.arange(1, 2**count - 1)
        kept = (numbers[:, None] >> torch.arange(count)) % 2 == 1
        sizes = kept.sum(dim=1).tolist()
        weights = [(count - 1) / (math.comb(count, size) * size * (count - size)) for size in sizes]
        return kept, torch.tensor(weights, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    several = torch.arange(1, count, dtype=torch.float64)
    drawn = 1 + torch.multinomial(
        1 / (several * (count - several)), (draws + 1) // 2, replacement=True, generator=generator
    )
    ranks = torch.rand(len(drawn), count, generator=generator, dtype=torch.float64).argsort(dim=1).argsort(dim=1)
    first = ranks < drawn[:, None]
    kept = torch.stack([first, ~first], dim=1).flatten(0, 1)[:draws]
    contrasts = kept.double()[:, :-1] - kept.double()[:, -1:]
    if int(torch.linalg.matrix_rank(contrasts)) < count - 1:
        raise UsageError(
            f"n_samples of {draws} does not tell {count} parts apart; give more than {max(2 * count, draws)}, or "
            "fewer parts (larger ones)"
        )
    return kept, torch.ones(len(kept), dtype=torch.float64)
