"""Intervals against SciPy, published examples, and what they promise."""

from __future__ import annotations

import math
import random

import pytest

from explain.reporting import intervals


def test_the_mean_and_its_interval_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = [0.2, 0.5, 0.1, 0.9, 0.4]
    found = intervals.mean([*values, None, math.nan])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(sum(values) / 5)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found["clips"] == 5


def test_intervals_end_where_numbers_do():
    found = intervals.mean([0.9, 1.0, 0.2], 0, 1)
    assert (found["low"], found["high"]) == (0, 1)


def test_one_number_has_no_interval_and_none_no_mean():
    assert intervals.mean([0.3]) == {"mean": 0.3, "low": None, "high": None, "clips": 1}
    assert intervals.mean([None]) == {"mean": None, "low": None, "high": None, "clips": 0}


def test_shares_are_wilsons():
    stats = pytest.importorskip("scipy.stats")
    for hits, count in ((14, 20), (0, 5), (5, 5), (1, 3)):
        found = intervals.share(hits, count)
        expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
        assert found["share"] == hits / count
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert intervals.share(0, 0)["share"] is None


def test_95_of_100_intervals_hold_the_true_mean():
    drawn = random.Random(0)
    held = 0
    for _ in range(2000):
        found = intervals.mean([drawn.gauss(3, 2) for _ in range(4)])
        held += found["low"] <= 3 <= found["high"]
    assert held / 2000 == pytest.approx(0.95, abs=0.015)
