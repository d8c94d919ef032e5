"""Whether models differ: paired tests against closed forms and slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explain.reporting.context import Subject
from explain.reporting.intervals import LEVEL, of_answers, of_errors, of_shares
from explain.reporting.topics.measurements import metrics


def measured(name, value, per_clip=None, clips=None, metric="order accuracy"):
    evaluation = {
        "metrics": [{"dataset": "d", "split": "test", "name": metric, "value": value}],
        "clips_measured": clips or (len(per_clip) if per_clip is not None else None),
        "breakdown": {},
    }
    if per_clip is not None:
        evaluation["per_clip"] = {metric: per_clip}
    return Subject(name=name, entry=None, evaluation=evaluation)


@pytest.mark.parametrize(("alone", "other_alone"), [(0, 0), (5, 0), (6, 0), (12, 3), (9, 8)])
def test_mcnemar_is_the_binomial_of_the_clips_that_one_alone_has_right(alone, other_alone):
    first = "1" * alone + "0" * other_alone + "1100"
    second = "0" * alone + "1" * other_alone + "1100"
    count = alone + other_alone
    tail = sum(math.comb(count, at) for at in range(min(alone, other_alone) + 1)) / 2**count
    found = of_answers(first, second)
    assert found.p == pytest.approx(min(1.0, 2 * tail))
    assert found.differ is (found.p < LEVEL)


def test_models_that_fail_on_the_same_clips_are_told_apart_by_pairs_alone():
    """70 against 60 of 100: nothing as two samples; as pairs, one has all that the other has, and 10 more."""
    first, second = "1" * 70 + "0" * 30, "1" * 60 + "0" * 40
    assert not of_shares(0.7, 100, 0.6, 100).differ
    assert of_answers(first, second).differ
    paired, unpaired = (
        metrics([measured("a", 0.7, *given), measured("b", 0.6, *other)])[0]
        for given, other in (((first,), (second,)), ((None, 100), (None, 100)))
    )
    assert (paired["best"], paired["differences"][0]["test"]) == (0, "McNemar")
    assert (unpaired["best"], unpaired["differences"][0]["test"]) == (None, "Fisher")


def test_overlapping_intervals_are_no_test():
    """99.20 % against 98.83 % of 10,000 clips: z = 2.65, p = 0.008, though the 95 % intervals touch."""
    (row,) = metrics([measured("a", 0.9920, clips=10_000), measured("b", 0.9883, clips=10_000)])
    assert row["intervals"][0][0] < row["intervals"][1][1]
    assert row["best"] == 0
    assert row["differences"][0]["p"] == pytest.approx(0.008, abs=0.003)


def test_errors_differ_where_the_mean_of_their_differences_does():
    drawn = np.random.default_rng(0)
    hard = drawn.exponential(1.0, 400)  # what makes one clip harder than another cancels
    first, second, third = hard, hard + 0.02 + 0.05 * drawn.normal(size=400), hard + 0.05 * drawn.normal(size=400)
    found = of_errors(first, second)
    differences = first - second
    means = [np.random.default_rng(at).choice(differences, 400).mean() for at in range(2000)]
    assert found.interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-3)
    assert found.differ
    assert not of_errors(first, third).differ
    assert not of_errors([0.1, 0.2], [0.1, 0.2]).differ
    (row,) = metrics(
        [
            measured(name, float(np.mean(one)), list(one), metric="speed error")
            for name, one in zip("ab", (first, second), strict=True)
        ]
    )
    assert (row["best"], row["differences"][0]["test"]) == (0, "paired bootstrap")


@pytest.mark.parametrize("other", ["1" * 90 + "0" * 9, [0.5] * 100, None])
def test_records_of_other_clips_are_not_paired(other):
    (row,) = metrics([measured("a", 0.9, "1" * 90 + "0" * 10), measured("b", 0.5, other, 100)])
    assert row["differences"][0]["test"] == "Fisher"


def test_the_best_of_three_differs_from_each():
    files = [measured(name, share, clips=1000) for name, share in (("a", 0.5), ("b", 0.9), ("c", 0.89))]
    (row,) = metrics(files)
    assert row["best"] is None
    assert [(one["model"], one["other"], one["differ"]) for one in row["differences"]] == [(1, 2, False), (1, 0, True)]
