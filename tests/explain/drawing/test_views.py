"""The view of a notebook: whole in itself, without a script, readable in light and dark."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from explain.drawing import sprites

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
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', view)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_needs_nothing_else_runs_nothing_and_is_the_same_each_time(made, kind):
    view = made[kind]()._repr_html_()
    assert "<script" not in view
    assert "<img src=x" not in view
    tags = re.sub(r'(?:alt|aria-label)="[^"]*"', "", " ".join(re.findall(r"<[^>]*>|<style>.*?</style>", view)))
    asked = re.findall(r"(?:src|href|url)[=(]\W*(\w[^,\s]*)", tags)
    assert [one for one in asked if not one.startswith("data:image/") and not re.match(r"d[0-9a-f]{8}-\d", one)] == []
    assert view == made[kind]()._repr_html_()
    assert len(view) < 200_000


def test_an_attribution_plays_the_map_over_the_clip_and_says_how_it_was_made(made):
    clip = (20 * torch.arange(12, dtype=torch.uint8)).view(1, 1, 12, 1, 1).expand(2, 1, 12, 6, 8)
    view = made["attribution"](clip=clip)._repr_html_()
    played, still, *_ = pictures(view)
    assert (played.n_frames, still.n_frames) == (12, 1)
    frame = np.asarray(still.convert("RGB"))[:: still.height // 6, :: still.width // 8]
    assert (frame[0, 0] == 60).all()  # 100 dimmed
    assert frame[2, 3].tolist() == [252, 255, 164]  # the last colour
    for said in ("integrated_gradients", "shape = flat", "in frame 5 of 0-11", "window", "1 × 2 × 3", "0.25, 0.25"):
        assert said in view
    assert "Unit of the map: output" in view
    assert "&lt;img src=x" in view
    assert "2 more samples" in made["attribution"](samples=6)._repr_html_()


def test_an_image_and_a_map_without_a_clip_have_a_view(made):
    assert [picture.n_frames for picture in pictures(made["attribution"](frames=1, samples=1)._repr_html_())] == [1]
    assert len(pictures(made["attribution"](clip=None)._repr_html_())) == 4


def test_large_and_long_clips_stay_small(made):
    frames = np.random.default_rng(0).integers(0, 256, (200, 10, 520, 3), dtype=np.uint8)
    from explain.drawing.notebook import film

    made_of = film(frames, "label", "caption")
    content = Image.open(io.BytesIO(base64.b64decode(made_of.uri.partition(",")[2])))
    assert (content.n_frames, content.size) == (64, (173, 3))
    assert (made_of.width, made_of.height) == (173, 3)


def test_faithfulness_says_its_verdict_its_reasons_and_its_numbers(made):
    view = made["faithfulness"]()._repr_html_()
    assert '<span class="badge warn">flagged</span>' in view
    assert "It does not depend." in view
    row = re.search(r"removing pixels of single frames</th>(.*?)</tr>", view)[1]
    assert re.findall("<td>(.*?)</td>", row) == ["0.42", "0.62", "0.62"]  # the mean of two areas, by trapezoids
    assert "nobody knows the method" in view
    assert "<svg" in view


def test_temporal_parameters_show_a_table_of_layers(made):
    view = made["temporal"]()._repr_html_()
    assert view.count('<th scope="row">') == 3  # all layers, and two
    assert "24 steps of filters" in view
    assert "1 convolutions" not in view
    assert "1 convolution that cannot move" in view


def test_a_maximization_plays_each_clip(made):
    result = made["maximization"](units=range(14))
    view = result._repr_html_()
    assert [picture.n_frames for picture in pictures(view)] == [8] * 12
    assert "late/3: from 0 to 8" in view
    assert "2 more" in view
    still = made["maximization"](still=True)
    first = np.asarray(pictures(still._repr_html_())[0].convert("RGB"))
    assert np.array_equal(first[::6, ::6], sprites.as_frames(still.clips[0])[0])


def test_robustness_says_at_which_level_answers_are_lost(made):
    view = made["robustness"]()._repr_html_()
    assert view.count("<td>0.125 / 0.5</td>") == 4
    assert "left out: shuffle" in view


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
