"""Confidence intervals and paired tests for pages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

import numpy as np

#: Coverage of the intervals.
COVERED = 0.95


def mean(
    values: Iterable[float | None], least: float = -math.inf, most: float = math.inf
) -> dict[str, float | int | None]:
    """Return the mean of the finite numbers, and its Student's t interval: `mean`, `low`, `high` and `clips`.

    The interval is None for fewer than two numbers. Clips are assumed to be independent; the interval is that of
    "Student" (The Probable Error of a Mean, Biometrika 1908), clipped to the range of the numbers.

    Args:
        values: One number per clip; None and non-finite values are ignored.
        least: The smallest possible value.
        most: The largest possible value.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    count = len(known)
    middle = fmean(known) if known else None
    if middle is None or count < 2:
        return {"mean": middle, "low": None, "high": None, "clips": count}
    from scipy.stats import t  # slow import (a second), needed only for intervals

    half = float(t.ppf((1 + COVERED) / 2, count - 1)) * stdev(known) / math.sqrt(count)
    return {"mean": middle, "low": max(middle - half, least), "high": min(middle + half, most), "clips": count}


def share(hits: int, count: int) -> dict[str, float | int | None]:
    """Return `hits` of `count` as a share with its interval: `share`, `low`, `high`."""
    found, (low, high) = (hits / count, interval(hits / count, count)) if count else (None, (None, None))
    return {"share": found, "low": low, "high": high, "hits": hits, "clips": count}


def interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share of `count` independent clips (Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(round(share * count), count).proportion_ci(COVERED, "wilson")
    return float(found.low), float(found.high)


#: Significance level: models differ if the p-value is below it.
LEVEL: Final = 0.05

#: Resamples of the bootstrap.
RESAMPLES: Final = 4000

#: Resamples per batch: with 10,000 clips, a batch takes 8 MB.
_BATCH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Result of a test between two models."""

    test: Literal["McNemar", "Fisher", "paired bootstrap"]
    #: p-value; None for a bootstrap.
    p: float | None
    #: 95% interval of the first model's mean less the second's; None for a test of shares.
    interval: tuple[float, float] | None
    #: Whether the models differ.
    differ: bool


def of_answers(first: str, second: str) -> Difference:
    """Run McNemar's test on two records of right and wrong predictions ("1" and "0") for the same clips."""
    from scipy.stats import binomtest

    one, other = (np.frombuffer(answers.encode(), dtype=np.uint8) for answers in (first, second))
    gained, lost = int((one > other).sum()), int((one < other).sum())
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Difference(test="McNemar", p=p, interval=None, differ=p < LEVEL)


def of_shares(first: float, clips: int, second: float, other_clips: int) -> Difference:
    """Run Fisher's test on two shares of right predictions, rounded to whole clips."""
    from scipy.stats import fisher_exact

    right, other_right = round(first * clips), round(second * other_clips)
    table = [[right, clips - right], [other_right, other_clips - other_right]]
    p = float(fisher_exact(table).pvalue)
    return Difference(test="Fisher", p=p, interval=None, differ=p < LEVEL)


def of_errors(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Run the paired bootstrap on two records of errors on the same clips."""
    from scipy.stats import bootstrap

    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if len(differences) < 2 or not np.ptp(differences):  # no resampling without a spread
        mean = float(differences.mean()) if len(differences) else 0.0
        return Difference(
            test="paired bootstrap", p=None, interval=(mean, mean), differ=len(differences) > 1 and mean != 0
        )
    found = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, batch=_BATCH, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = (float(end) for end in found.confidence_interval)
    return Difference(test="paired bootstrap", p=None, interval=(low, high), differ=low > 0 or high < 0)
