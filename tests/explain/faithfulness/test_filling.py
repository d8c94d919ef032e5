"""Missing pixels are filled in from what is left of their frame."""

from __future__ import annotations

import pytest
import torch

from explain.faithfulness.removal import fill


def slowly(frame, known):
    """H x W, by the definition: the mean of what is known of each two by two, filled, and read linearly between."""
    height, width = frame.shape
    if height == width == 1:
        return frame
    rows, columns = -(-height // 2), -(-width // 2)
    coarse, there = torch.zeros(rows, columns), torch.zeros(rows, columns, dtype=torch.bool)
    for row in range(rows):
        for column in range(columns):
            block = [
                frame[y, x]
                for y in range(2 * row, min(2 * row + 2, height))
                for x in range(2 * column, min(2 * column + 2, width))
                if known[y, x]
            ]
            if block:
                coarse[row, column], there[row, column] = sum(block) / len(block), True
    coarse = slowly(coarse, there)
    result = frame.clone()
    for y in range(height):
        for x in range(width):
            if not known[y, x]:
                place = [min(max((at + 0.5) / 2 - 0.5, 0.0), most - 1) for at, most in ((y, rows), (x, columns))]
                (top, left), (down, right) = (int(at) for at in place), (at % 1 for at in place)
                below, beside = min(top + 1, rows - 1), min(left + 1, columns - 1)
                upper = (1 - right) * coarse[top, left] + right * coarse[top, beside]
                lower = (1 - right) * coarse[below, left] + right * coarse[below, beside]
                result[y, x] = (1 - down) * upper + down * lower
    return result


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 9), (8, 3)])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_it_is_the_pyramid_of_means(nets, size, share):
    clips, empty = torch.randn(2, 3, 4, *size), torch.randn(2, 3, 4, *size)
    missing = torch.rand(2, 4, *size) < share
    missing[0, 0] = True
    missing[1, 1] = False
    filled = fill(clips, missing, empty)
    assert filled.shape == clips.shape
    for sample in range(2):
        for time in range(4):
            gone = missing[sample, time]
            for channel in range(3):
                frame = clips[sample, channel, time]
                expected = empty[sample, channel, time] if gone.all() else slowly(frame, ~gone)
                assert torch.allclose(filled[sample, channel, time], expected)


def test_what_is_missing_leaves_no_trace(nets):
    clips, missing = torch.randn(1, 2, 3, 8, 8), torch.rand(1, 3, 8, 8) < 0.5
    other = torch.where(missing[:, None], torch.full_like(clips, torch.nan).nan_to_num(1e6), clips)
    assert torch.equal(fill(clips, missing, 0 * clips), fill(other, missing, 0 * clips))


def test_a_frame_of_one_colour_is_whole_again(nets):
    clips = torch.randn(1, 2, 3, 1, 1).expand(1, 2, 3, 9, 6)
    missing = torch.ones(1, 3, 9, 6, dtype=torch.bool)
    missing[:, :, 2, 4] = False
    assert torch.allclose(fill(clips, missing, torch.zeros_like(clips)), clips)
