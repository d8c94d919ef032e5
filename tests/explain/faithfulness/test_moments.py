"""The frame that is named as strongest."""

from __future__ import annotations

import pytest
import torch

from explain.faithfulness.verdicts import PEAKED, shares_of, strongest


def peaked(times, frames=16):
    """A curve whose frame 5 has so many times an even share."""
    share = times / frames
    time = torch.full((frames,), (1 - share) / (frames - 1))
    time[5] = share
    return time


@pytest.mark.parametrize("verdict", ["passes", "inconclusive", "flagged", None])
@pytest.mark.parametrize(
    ("times", "stands_out"), [(1.0, False), (PEAKED - 0.1, False), (PEAKED + 0.1, True), (9.0, True)]
)
def test_a_frame_is_named_where_its_test_passes_and_it_stands_out(verdict, times, stands_out):
    found = strongest(peaked(times), verdict)
    assert (found is not None) is (verdict == "passes" and stands_out)
    if found is not None:
        assert (found.frame, found.even) == (5, 1 / 16)
        assert found.share == pytest.approx(times / 16)


def test_shares_are_of_sizes_whatever_their_unit_and_sign():
    time = torch.tensor([1.0, -3.0, 0.0, 0.0])
    assert shares_of(7 * time).tolist() == [0.25, 0.75, 0, 0]
    found = strongest(time, "passes")
    assert found is not None
    assert (found.frame, found.share) == (1, 0.75)


def test_an_empty_map_has_no_strongest_frame():
    assert strongest(torch.zeros(8), "passes") is None
