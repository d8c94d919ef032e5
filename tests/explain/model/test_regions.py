"""Regions of output clips: what may be written, what it holds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from explain.model.regions import Region, parse, said
from zoo.errors import UsageError

CLIP = (2, 3, 8, 28, 20)
PICTURE = (2, 3, 28, 20)


@pytest.mark.parametrize(
    ("text", "region", "bounds"),
    [
        ("output[3]", Region("output", 3), ((3, 4), (0, 28), (0, 20))),
        ("output[t=3]", Region("output", 3), ((3, 4), (0, 28), (0, 20))),
        ("output[-1]", Region("output", -1), ((7, 8), (0, 28), (0, 20))),
        ("output[3, 10:18, 4:12]", Region("output", 3, (10, 18), slice(4, 12)), ((3, 4), (10, 18), (4, 12))),
        ("output[3,10:18,4:12]", Region("output", 3, slice(10, 18, 1), [4, 12]), ((3, 4), (10, 18), (4, 12))),
        ("output[:, 5, 7]", Region("output", y=5, x=7), ((0, 8), (5, 6), (7, 8))),
        ("output[ x = 7 , y=5 ]", Region("output", y=np.int64(5), x=7), ((0, 8), (5, 6), (7, 8))),
        ("output[2, x=-4:]", Region("output", 2, x=(-4, None)), ((2, 3), (0, 28), (16, 20))),
        ("output[:-6]", Region("output", slice(None, -6)), ((0, 2), (0, 28), (0, 20))),
        ("output[:]", Region("output", slice(None)), ((0, 8), (0, 28), (0, 20))),
        ("[t=0:8]", Region(t=(0, 8)), ((0, 8), (0, 28), (0, 20))),
        ("a/b [c][2]", Region("a/b [c]", 2), ((2, 3), (0, 28), (0, 20))),
    ],
)
def test_a_region_reads_as_it_is_written_and_holds_what_a_slice_would(text, region, bounds):
    assert parse(text) == region
    assert region.bounds(CLIP, "output") == bounds
    assert parse(str(region)) == region or str(region) == "output"
    head = region.head or "output"
    again = parse(said(head, bounds, CLIP)) or Region(head)
    assert again.bounds(CLIP, head) == bounds


def test_a_region_is_told_in_few_words():
    assert said("output", ((3, 4), (0, 28), (4, 12)), CLIP) == "output[t=3, x=4:12]"
    assert said("output", ((0, 8), (0, 28), (0, 20)), CLIP) == "output"
    assert said("output", ((0, 1), (2, 3), (0, 20)), PICTURE) == "output[y=2]"
    assert str(Region("output", -1, (10, None))) == "output[t=-1, y=10:]"
    assert str(Region(t=2)) == "[t=2]"


def test_a_picture_is_a_clip_of_one_frame():
    assert Region("output", 0, 3).bounds(PICTURE, "output") == ((0, 1), (3, 4), (0, 20))
    with pytest.raises(UsageError, match="t=1 is not in output 'output', whose frames are 0 to 0"):
        Region("output", 1).bounds(PICTURE, "output")


@pytest.mark.parametrize("text", ["output", "output[3", "output3]", "digit:7", "layer/12", "output[[3]]", "output[3]x"])
def test_other_texts_ask_for_no_region(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "o[]",
        "o[a]",
        "o[3 5]",
        "o[1,2,3,4]",
        "o[t=1, 2]",
        "o[t=1, t=2]",
        "o[1, t=2]",
        "o[z=1]",
        "o[1:2:3]",
        "o[1.5]",
        "o[t=]",
    ],
)
def test_what_is_no_region_is_told_with_an_example(text):
    with pytest.raises(UsageError, match=r"is no region of an output: .*o\[3, 10:18, 4:12\]"):
        parse(text)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region("film", 8), "t=8 is not in output 'film', whose frames are 0 to 7"),
        (Region("film", -9), "t=-9 is not in output 'film', whose frames are 0 to 7"),
        (Region("film", y=(20, 29)), "y=20:29 is not in output 'film', whose rows are 0 to 27"),
        (Region("film", x=(-21, 3)), "x=-21:3 is not in output 'film', whose columns are 0 to 19"),
        (Region("film", x=(3, 3)), "x=3:3 of output 'film' holds no columns"),
        (Region("film", x=(5, 3)), "x=5:3 of output 'film' holds no columns"),
    ],
)
def test_a_region_outside_the_output_is_refused(region, message):
    with pytest.raises(UsageError, match=message):
        region.bounds(CLIP, "film")


@pytest.mark.parametrize("part", [True, 1.5, "3", (1, 2, 3), (1,), slice(0, 4, 2), (1.0, 2.0)])
def test_parts_are_numbers_pairs_and_slices(part):
    with pytest.raises(UsageError, match="y of a region is a number, two of them"):
        Region("output", 0, part)


def test_an_output_that_is_no_clip_has_no_regions():
    with pytest.raises(UsageError, match="output 'features' is 2 x 3 x 7, neither"):
        Region("features", 0).bounds((2, 3, 7), "features")
    with pytest.raises(UsageError, match="is a name, not 3"):
        Region(3)
