"""Parts of a clip taken away one by one, or added one by one in a drawn order."""

from __future__ import annotations

import torch

from explain.attribution.jobs import Job, Raw
from explain.attribution.maps import parts_over_time
from explain.attribution.removal import SUPERVOXELS, outputs_without, parts_of, settle, spread


def feature_ablation(job: Job) -> Raw:
    """f(x) minus f(x without a part), at every pixel of the part (arXiv 1311.2901, section 2.2; Captum's method).

    Positive: taking the part away lowers the output. For a linear model it is the sum, over the part, of weight times
    (input - baseline).
    """
    parts = [parts_of(job, sample) for sample in range(len(job.batch))]
    counts = [int(part.max()) + 1 for part in parts]
    planned = max(*counts, SUPERVOXELS) if job.features == "supervoxels" else max(counts)
    job.expect(planned)
    values = []
    for sample, (part, count) in enumerate(zip(parts, counts, strict=True)):
        losses = job.value[sample].double() - outputs_without(job, sample, part, ~torch.eye(count, dtype=torch.bool))
        values.append(losses[part])
        settle(job, planned, count)
    return Raw(values=spread(job, values))


def shapley_sampling(job: Job) -> Raw:
    """Shapley values of the parts: what a part adds where the parts before it in a drawn order are there, on average.

    Castro, Gómez & Tejada, Polynomial calculation of the Shapley value based on sampling (2009), algorithm 1, as often
    as there are draws. The values of all parts sum to f(x) - f(b), whatever the draws; every pixel has its part's.
    """
    parts = [parts_of(job, sample) for sample in range(len(job.batch))]
    counts = [int(part.max()) + 1 for part in parts]
    most = max(*counts, SUPERVOXELS) if job.features == "supervoxels" else max(counts)
    planned = 1 + job.draws * (most - 1)
    job.expect(planned)
    values, times = [], []
    for sample, (part, count) in enumerate(zip(parts, counts, strict=True)):
        generator = torch.Generator().manual_seed(job.seed)
        empty = outputs_without(job, sample, part, torch.zeros(1, count, dtype=torch.bool))
        total = empty.new_zeros(count)
        for _ in range(job.draws):
            order = torch.randperm(count, generator=generator)
            kept = torch.ones(count, count).tril()[:-1].bool()  # the first, the first two ... of the order
            there = kept[:, order.argsort()]
            between = outputs_without(job, sample, part, there) if count > 1 else empty[:0]
            path = torch.cat([empty, between, job.value[sample].double().view(1)])
            total[order.to(total.device)] += path.diff()
        values.append((total / job.draws)[part])
        times.append(parts_over_time(total / job.draws, part))
        settle(job, planned, 1 + job.draws * (count - 1))
    return Raw(values=spread(job, values), time=torch.stack(times).to(job.value))
