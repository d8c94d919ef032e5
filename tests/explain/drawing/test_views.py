"""The view of a notebook: whole in itself, without a script, readable in light and dark."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from explain.results import Results

KINDS = (
    "attribution", "faithfulness", "temporal", "maximization", "unit", "robustness", "effective_field", "top_clips"
)  # fmt: skip
#: Widths of pages.
DESKTOP, PHONE = 1000, 390
#: What JupyterLab puts around an output.
LAB = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Lab</title></head><body data-jp-theme-light="{light}" style="margin: 8px; background: {ground}; color: {ink}">
<main><h1>Lab</h1>{view}</main></body></html>"""
THEMES = {"light": ("true", "#ffffff", "#111111"), "dark": ("false", "#111111", "#ffffff")}


def pictures(view):
    """The pictures of a view, decoded."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', view)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def cells(view, name):
    """The cells of the first row of that name."""
    return re.findall("<td>(.*?)</td>", re.search(rf'<th scope="row">{name}</th>(.*?)</tr>', view)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_needs_nothing_else_runs_nothing_and_is_the_same_each_time(made, kind):
    view = made[kind]()._repr_html_()
    assert "<script" not in view
    assert "<img src=x" not in view
    tags = re.sub(r'(?:alt|aria-label)="[^"]*"', "", " ".join(re.findall(r"<[^>]*>|<style>.*?</style>", view)))
    asked = re.findall(r"(?:src|href|url)[=(]\W*(\w[^,\s]*)", tags)
    assert [one for one in asked if not one.startswith("data:image/") and not re.match(r"d[0-9a-f]{8}-\d", one)] == []
    assert view == made[kind]()._repr_html_()
    assert len(view) < 600_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_is_the_figure_that_plot_draws(made, kind):
    view = made[kind]()._repr_html_()
    (shown,) = pictures(view)
    drawn = Image.open(io.BytesIO(made[kind]().plot()._repr_png_()))
    assert np.array_equal(np.asarray(shown), np.asarray(drawn))


def test_an_attribution_says_how_it_was_made(made):
    view = made["attribution"](samples=6)._repr_html_()
    for said in ("integrated_gradients", "shape = flat", "window", "1 × 2 × 3", "0.25, 0.25", "5 samples"):
        assert said in view
    assert cells(view, "unit of the map") == ["output"]
    assert "&lt;img src=x" in view
    for fields in ({"frames": 1, "samples": 1}, {"clip": None}):
        assert len(pictures(made["attribution"](**fields)._repr_html_())) == 1


def test_faithfulness_says_its_verdict_and_its_numbers(made):
    view = made["faithfulness"]()._repr_html_()
    assert cells(view, "verdict") == ["flagged"]
    assert cells(view, "removing pixels of single frames") == ["0.42", "0.62", "0.62"]  # means of two areas
    assert cells(view, "infidelity") == ["0.50"]
    assert cells(view, "not tested: sensitivity") == ["nobody knows the method"]


def test_temporal_parameters_show_a_table_of_layers(made):
    view = made["temporal"]()._repr_html_()
    assert view.count('<th scope="row">') == 5  # header, all layers, two, and those left out
    assert "24 steps of filters" in view
    assert "1 convolution that cannot move" in view


def test_what_excites_units_is_listed(made):
    view = made["maximization"](units=range(14))._repr_html_()
    assert cells(view, "late/3") == ["from 0 to 8"]
    assert len(cells(made["top_clips"]()._repr_html_(), "late/3")) == 3


def test_robustness_says_at_which_level_answers_are_lost(made):
    view = made["robustness"]()._repr_html_()
    assert view.count("<td>0.125 / 0.5</td>") == 4
    assert "left out: shuffle" in view


def test_a_list_of_results_shows_each(made):
    both = Results([made["attribution"](), made["unit"]()])
    assert both._repr_html_() == made["attribution"]()._repr_html_() + made["unit"]()._repr_html_()
    assert both == [*both]


@pytest.fixture(scope="module")
def views(made):
    return "".join(made[kind]()._repr_html_() for kind in KINDS)


@pytest.mark.browser
@pytest.mark.parametrize("theme", THEMES)
def test_views_are_readable_in_a_notebook(views, chromium, axe, theme):
    for width in (DESKTOP, PHONE):
        page = chromium.new_page(viewport={"width": width, "height": 800})
        said = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, said=said: said.append(request.url))
        light, ground, ink = THEMES[theme]
        page.set_content(LAB.format(light=light, ground=ground, ink=ink, view=views))
        assert [one for one in said if not one.startswith("data:image/")] == []
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        card = page.locator(".motion-zoo").first.evaluate("one => getComputedStyle(one).backgroundColor")
        assert card == ("rgb(255, 255, 255)" if theme == "light" else "rgb(24, 27, 32)")
        assert page.title() == "Lab"
        if width == PHONE:  # the narrower, the more could be wrong
            page.evaluate(axe)
            found = page.evaluate("axe.run()")["violations"]
            worst = [one for one in found if one["impact"] in {"serious", "critical"}]
            assert [(one["id"], one["nodes"][0]["html"][:200]) for one in worst] == []
        page.close()
