"""Whether one model's measure is better than another's: paired tests where both were measured on the same clips.

========  =============================================  ====================
measure   what is stored of both models                  test
========  =============================================  ====================
accuracy  which clips of the same ones each has right    McNemar's, exact
accuracy  the shares, and their numbers of clips         Fisher's, exact
error     each clip's error, of the same clips           the paired bootstrap
========  =============================================  ====================

McNemar's test (Psychometrika 12, 1947) asks whether the clips that one model alone has right are as many as those that
the other alone has right: exactly, by the binomial distribution. Fisher's takes the clips of the two models for
different ones, which hides differences between models that fail on the same clips. The paired bootstrap draws clips
with replacement (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13): the models differ where the
95 % interval of the mean difference does not hold 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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
