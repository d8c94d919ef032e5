"""Confidence intervals and paired differences, as pages state them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

import numpy as np

#: How sure an interval is to hold the true value.
COVERED = 0.95


def mean(
    values: Iterable[float | None], least: float = -math.inf, most: float = math.inf
) -> dict[str, float | int | None]:
    """The mean of the numbers that are finite, and Student's t interval of it: `mean`, `low`, `high` and `clips`.

    The interval is None for fewer than two numbers. Clips are taken as drawn independently; the interval is that of
    "Student" (The Probable Error of a Mean, Biometrika 1908), cut where the numbers themselves end.

    Args:
        values: One number a clip; None and what is not finite is left out.
        least: The least that such a number can be.
        most: The most.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    count = len(known)
    middle = fmean(known) if known else None
    if middle is None or count < 2:
        return {"mean": middle, "low": None, "high": None, "clips": count}
    from scipy.stats import t  # takes a second to import, which pages without intervals need not

    half = float(t.ppf((1 + COVERED) / 2, count - 1)) * stdev(known) / math.sqrt(count)
    return {"mean": middle, "low": max(middle - half, least), "high": min(middle + half, most), "clips": count}


def share(hits: int, count: int) -> dict[str, float | int | None]:
    """Give `hits` of `count` as a share with its interval: `share`, `low`, `high`."""
    found, (low, high) = (hits / count, interval(hits / count, count)) if count else (None, (None, None))
    return {"share": found, "low": low, "high": high, "hits": hits, "clips": count}


def interval(share: float, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share of `count` independent clips (Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(round(share * count), count).proportion_ci(COVERED, "wilson")
    return float(found.low), float(found.high)


#: Models differ where chance alone would show as much less often than this.
LEVEL: Final = 0.05

#: Draws of the bootstrap.
RESAMPLES: Final = 4000

#: Draws made at once: 10,000 clips take 8 MB.
_BATCH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a test says of two models."""

    test: Literal["McNemar", "Fisher", "paired bootstrap"]
    #: How often chance alone would show as much; None of a bootstrap.
    p: float | None
    #: The 95 % interval of the first model's mean less the second's; None of a test of shares.
    interval: tuple[float, float] | None
    #: Whether the models differ.
    differ: bool


def of_answers(first: str, second: str) -> Difference:
    """McNemar's test of two records of right and wrong answers ("1" and "0") to the same clips."""
    from scipy.stats import binomtest

    one, other = (np.frombuffer(answers.encode(), dtype=np.uint8) for answers in (first, second))
    gained, lost = int((one > other).sum()), int((one < other).sum())
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Difference(test="McNemar", p=p, interval=None, differ=p < LEVEL)


def of_shares(first: float, clips: int, second: float, other_clips: int) -> Difference:
    """Fisher's test of two shares of right answers, rounded to whole clips."""
    from scipy.stats import fisher_exact

    right, other_right = round(first * clips), round(second * other_clips)
    table = [[right, clips - right], [other_right, other_clips - other_right]]
    p = float(fisher_exact(table).pvalue)
    return Difference(test="Fisher", p=p, interval=None, differ=p < LEVEL)


def of_errors(first: Sequence[float], second: Sequence[float]) -> Difference:
    """The paired bootstrap of two records of errors on the same clips."""
    from scipy.stats import bootstrap

    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if len(differences) < 2 or not np.ptp(differences):  # without a spread nothing is drawn
        mean = float(differences.mean()) if len(differences) else 0.0
        return Difference(
            test="paired bootstrap", p=None, interval=(mean, mean), differ=len(differences) > 1 and mean != 0
        )
    found = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, batch=_BATCH, method="percentile", rng=np.random.default_rng(0)
    )
    low, high = (float(end) for end in found.confidence_interval)
    return Difference(test="paired bootstrap", p=None, interval=(low, high), differ=low > 0 or high < 0)
