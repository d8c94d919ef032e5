"""Means and shares with their 95 % intervals over clips."""

from __future__ import annotations

import math
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

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
    half = t_quantile(count - 1) * stdev(known) / math.sqrt(count)
    return {"mean": middle, "low": max(middle - half, least), "high": min(middle + half, most), "clips": count}


def share(hits: int, count: int) -> dict[str, float | int | None]:
    """`hits` of `count` as a share with Wilson's interval (E. B. Wilson, JASA 22, 1927): `share`, `low`, `high`."""
    if not count:
        return {"share": None, "low": None, "high": None, "hits": hits, "clips": count}
    z = NormalDist().inv_cdf((1 + COVERED) / 2)
    found, squared = hits / count, z * z / count
    middle = (found + squared / 2) / (1 + squared)
    half = z / (1 + squared) * math.sqrt(found * (1 - found) / count + squared / (4 * count))
    # Rounding must not take the ends past the share itself.
    low, high = min(max(middle - half, 0.0), found), max(min(middle + half, 1.0), found)
    return {"share": found, "low": low, "high": high, "hits": hits, "clips": count}


def t_quantile(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t distribution, to 1.5 parts in a thousand.

    In closed form for one and two degrees of freedom, else by the expansion 26.7.5 of Abramowitz & Stegun (1964).
    """
    probability = (1 + COVERED) / 2
    if freedom == 1:
        return math.tan(math.pi * (probability - 0.5))
    if freedom == 2:
        return (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
