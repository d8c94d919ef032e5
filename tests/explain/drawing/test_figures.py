"""Figures: the same bytes each time, text as text, the page's colours, and matplotlib left as it was."""

from __future__ import annotations

import re

import matplotlib as mpl
import pytest

from explain.drawing import figures


def drawn(name="one", label="A <line>"):
    with figures.style():
        figure = figures.figure(300, 200)
        axes = figure.subplots()
        axes.plot([0, 1], [0.12345, 2], color=figures.SERIES[1], marker="o")
        axes.set_xlabel("exactly 0.12345 <b>")
        axes.pcolormesh([[1.0, 2.0]], edgecolors=figures.CARD)
        return figures.svg(figure, name, label)


def test_the_same_figure_gives_the_same_bytes():
    assert drawn() == drawn()


def test_rounding_of_a_layout_does_not_show():
    """Two ways to the same place differ by less than is drawn; what is clipped there must not be called differently."""

    def placed(left):
        with figures.style():
            figure = figures.figure(300, 200)
            figure.set_layout_engine("none")
            figure.add_axes((left, 0.2, 0.5, 0.5)).plot([0, 1])
            return figures.svg(figure, "one", "A line")

    assert placed(0.3) == placed(0.1 + 0.2)


def test_what_two_figures_refer_to_does_not_clash():
    def identifiers(svg):
        return set(re.findall(r'id="([^"]+)"', svg))

    one, two = drawn("one"), drawn("two")
    assert identifiers(one)
    assert identifiers(one).isdisjoint(identifiers(two))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', one)) <= identifiers(one)


def test_text_stays_text_and_is_escaped():
    svg = drawn()
    assert "exactly 0.12345 &lt;b&gt;" in svg
    assert 'aria-label="A &lt;line&gt;"' in svg
    assert "font-family" not in svg


def test_lines_follow_the_page_and_coordinates_are_short():
    svg = drawn()
    assert "stroke: var(--series-2)" in svg
    assert "stroke: var(--card)" in svg
    assert "var(--ink)" in svg
    assert "#0000" not in svg
    assert not re.search(r'[xyd]="[^"]*\.\d{3}', svg)


def test_nothing_of_it_touches_the_rest_of_the_page():
    assert "<style" not in drawn()
    assert "<metadata" not in drawn()


def test_settings_of_matplotlib_are_as_before_and_do_not_show(monkeypatch):
    plain = drawn()
    with mpl.rc_context({"font.size": 40, "axes.grid": True}):
        assert drawn() == plain
        assert mpl.rcParams["font.size"] == 40


@pytest.mark.parametrize(("colour", "expected"), [("#fde725", "#111111"), ("#440154", "#ffffff"), ("white", "#111111")])
def test_text_on_a_colour_is_the_one_that_stands_out(colour, expected):
    assert figures.readable_on(colour) == expected
