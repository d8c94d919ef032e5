"""Numbers and text on the page."""

from __future__ import annotations

import re

import pytest
from markupsafe import Markup

from explain.drawing.numbers import breakable, evenly, listed, number, numbers, percent
from explain.drawing.templates import curve


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3, "3"),
        (472721, "472,721"),
        (0.0123456, "0.0123"),
        (-2.5, "\N{MINUS SIGN}2.50"),
        (0.014, "0.0140"),
        (2.0, "2"),
        (0.9999, "0.9999"),
        (99.97, "99.97"),
        (10.002, "10.0"),
        (1.0000000001, "1.00"),
        (999.6, "1,000"),
        (12345.6, "12,346"),
        (1.5e-7, "1.50 · 10⁻⁷"),
        (-3e12, "\N{MINUS SIGN}3.00 · 10¹²"),
    ],
)
def test_a_number_is_short_and_carries_its_exact_value(value, text):
    shown = number(value)
    assert shown.striptags().replace("\N{NARROW NO-BREAK SPACE}", " ") == text
    assert float(re.search('value="(.*?)"', shown)[1]) == value


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.002387, 0.002387, 0.002415, 0.002416], ["0.002387", "0.002387", "0.002415", "0.002416"]),
        ([0.014, 0.0176, 0.00098], ["0.01400", "0.01760", "0.00098"]),
        ([0.98, 0.5, None], ["0.98", "0.50", None]),
        ([1.0, 0.9999], ["1.0000", "0.9999"]),
        ([26.97, 26.92], ["27.0", "26.9"]),
        ([1234.5, 0.25], ["1,234", "0.250"]),  # too far apart for one number of places
        ([0.123456789, 0.123456788], ["0.123", "0.123"]),
        ([3, 12], ["3", "12"]),
        ([-0.5, 0.0], ["\N{MINUS SIGN}0.5", "0"]),
    ],
)
def test_numbers_beside_each_other_have_the_same_places_and_are_told_apart(values, texts):
    shown = numbers(values)
    assert [one and one.striptags() for one in shown] == texts
    exact = [one and float(re.search('value="(.*?)"', one)[1]) for one in shown]
    assert exact == values


def test_what_is_no_number_says_so():
    assert number(float("nan")) == "not a number"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 %"), (1, "100 %"), (0.934, "93 %"), (0.004, "0.4 %"), (0.99996, "over 99.9 %"), (1e-9, "under 0.1 %")],
)
def test_a_share_never_reads_more_certain_than_it_is(value, text):
    assert percent(value).striptags().replace("\N{NARROW NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9674, "96.7 %"),
        (1, "100.0 %"),
        (0.99999, "over 99.9 %"),
        (-0.256, "\N{MINUS SIGN}25.6 %"),
        (-1e-5, "over \N{MINUS SIGN}0.1 %"),
        (1e-5, "under 0.1 %"),
    ],
)
def test_a_share_has_as_many_digits_as_asked_for(value, text):
    assert percent(value, 1).striptags().replace("\N{NARROW NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a.x", "<b>", "c"], "a.x, &lt;b&gt; and c")]
)
def test_names_are_listed_as_in_a_sentence(names, text):
    assert re.sub("<wbr>|</?span[^>]*>", "", listed(names)) == text


def test_a_curve_below_its_top_leaves_room():
    def highest(chart):
        return min(float(point.partition(",")[2]) for point in re.search('line" points="([^"]*)"', chart)[1].split())

    assert highest(curve([1.0, 2.0])) == 0
    assert highest(curve([1.0, 2.0], 4.0)) == 50


def test_names_break_after_dots_and_are_escaped():
    assert breakable("a.<b>.c") == Markup("a.<wbr>&lt;b&gt;.<wbr>c")


def test_a_curve_reaches_its_extremes_and_its_zero_line():
    points = re.search('<polyline class="line" points="(.*?)"', curve([0.0, 2.0, -2.0]))[1].split()
    assert points[1:4] == ["0.5,50.0", "1.5,0.0", "2.5,100.0"]
    assert 'y1="50.0"' in curve([0.0, 2.0, -2.0])


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [5.0]])
def test_a_flat_curve_is_drawn(values):
    assert "nan" not in curve(values)


def test_frames_are_picked_evenly():
    assert evenly(48, 5) == [0, 12, 24, 35, 47]
    assert evenly(3, 5) == [0, 1, 2]
