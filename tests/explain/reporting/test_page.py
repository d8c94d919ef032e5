"""The page in a browser: it plays, it is reachable by keyboard, it passes axe, it works without JavaScript."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture
def opened(chromium, written):
    """Opens the report; gives the page, whose `.said` holds messages, errors and requests."""
    contexts = []

    def open_(report=written, **options):
        context = chromium.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options})
        contexts.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.said.append(request.url))
        page.goto(report.page.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()


def frame(page):
    return int(page.locator("#frame").input_value())


def played(page):
    """Wait until the player has moved on by itself."""
    before = frame(page)
    for _ in range(100):
        page.wait_for_timeout(50)
        if frame(page) != before:
            return
    pytest.fail("the player does not move")


def positions(page, selector=".stage > .sprite[data-frames]:not([data-loops])"):
    return page.locator(selector).evaluate_all("all => all.map(one => one.style.backgroundPosition)")


def test_it_opens_from_disk_and_asks_for_nothing_else(opened, written):
    page = opened()
    requested = [said for said in page.said if not said.startswith("data:")]
    assert requested == [written.page.as_uri()]
    assert "square_watcher" in page.title()


def test_nothing_from_labels_runs(opened):
    page = opened()
    assert page.title() != "harmed"
    assert page.locator("img").count() == 0
    assert page.get_by_text("<img src=x").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("kind", ["written", "moving", "filmed", "compared", "collected"])
def test_axe_finds_nothing_serious(request, opened, axe, scheme, viewport, kind):
    page = opened(request.getfixturevalue(kind), color_scheme=scheme, viewport=viewport)
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    worst = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in {"serious", "critical"}]
    assert worst == []


def test_axe_finds_nothing_serious_without_javascript(chromium, axe, written):
    """The page's own script is taken out, so that axe can still run."""
    page = chromium.new_context(viewport=DESKTOP).new_page()
    html = written.page.read_text(encoding="utf-8")
    start, end = html.index("<script>"), html.index("</script>")
    policy = html.index('<meta http-equiv="Content-Security-Policy"')
    page.set_content(html[:policy] + html[html.index(">", policy) + 1 : start] + html[end + len("</script>") :])
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    assert [one["id"] for one in found if one["impact"] in {"serious", "critical"}] == []
    page.context.close()


def test_all_panels_show_the_frame_of_the_slider(opened):
    page = opened()
    page.locator("#frame").fill("7")
    shown = positions(page)
    assert len(shown) > 10
    assert len(set(shown)) == 1
    page.locator("#frame").fill("3")
    assert set(positions(page)).isdisjoint(shown)
    assert page.locator("#frame-number").inner_text() == "frame 3 / 11"


def test_a_model_that_sees_fewer_frames_goes_along(opened, compared):
    """Of twelve frames and of six, the same moment is shown."""
    page = opened(compared)
    for frame_, own in ((11, 5), (5, 2)):
        page.locator("#frame").fill(str(frame_))
        shown = positions(page, "#predictions .stage > .sprite")
        across = [float(position.partition("%")[0]) for position in shown]
        assert across == pytest.approx([100 * frame_ / 11, 100 * own / 5], abs=0.01)


def test_it_stands_still_where_motion_is_unwanted_and_plays_elsewhere(opened):
    still, moving = opened(), opened(reduced_motion="no-preference")
    played(moving)
    assert moving.get_by_role("button", name="Pause").is_visible()
    assert frame(still) == 0
    assert still.get_by_role("button", name="Play").is_visible()


def test_play_and_pause_by_mouse(opened):
    page = opened()
    page.locator("#play").click()
    played(page)
    page.locator("#play").click()
    at = frame(page)
    page.wait_for_timeout(300)
    assert frame(page) == at


def test_the_speed_is_that_chosen(opened):
    """Frames shown in half a second of a clock that only the test turns, modulo the twelve there are."""
    page = opened()
    page.clock.install(time=0)
    page.reload()
    page.clock.pause_at(3_600_000)
    for speed in (6, 24):
        page.locator("#speed").select_option(str(speed))
        page.locator("#frame").fill("0")
        page.locator("#play").click()
        page.clock.run_for(500)
        page.locator("#play").click()
        late = (speed // 2 - frame(page)) % 12
        assert late <= 1, f"{speed} frames a second"


def test_the_player_works_by_keyboard_alone(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#frame").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert frame(page) == 2
    page.keyboard.press("End")
    assert frame(page) == 11
    assert page.locator("#frame").get_attribute("aria-valuetext") == "frame 11 of 0 to 11"
    page.locator("#opacity").focus()
    page.keyboard.press("Home")
    assert page.locator(".overlay").first.evaluate("one => getComputedStyle(one).opacity") == "0"
    page.keyboard.press("ArrowRight")
    assert page.locator(".overlay").first.evaluate("one => getComputedStyle(one).opacity") == "0.05"
    page.locator("#play").focus()
    page.keyboard.press("Space")
    assert page.get_by_role("button", name="Pause").count() == 1


def test_space_and_arrows_work_anywhere_on_the_page(opened):
    page = opened()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowLeft")
    assert frame(page) == 11
    page.keyboard.press("ArrowRight")
    assert frame(page) == 0
    page.keyboard.press("Space")
    assert page.get_by_role("button", name="Pause").count() == 1


def test_every_control_is_reached_by_tab(opened):
    page = opened()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    assert {"play", "frame", "speed", "opacity"} <= reached


def test_opacity_by_mouse_leaves_the_clip_alone(opened):
    page = opened()
    slider = page.locator("#opacity")
    box = slider.bounding_box()
    slider.click(position={"x": 1, "y": box["height"] / 2})
    assert page.locator(".overlay").first.evaluate("one => getComputedStyle(one).opacity") == "0"
    assert page.locator(".stage > .sprite-clip").first.evaluate("one => getComputedStyle(one).opacity") == "1"


def test_a_click_on_a_curve_goes_to_its_frame(opened):
    page = opened()
    chart = page.locator(".timeline .chart").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 5.5 / 12, box["y"] + box["height"] / 2)
    assert frame(page) == 5
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 9.5 / 12, box["y"] + 2)
    page.mouse.up()
    assert frame(page) == 9
    middle = chart.evaluate("one => getComputedStyle(one, '::after').left")
    assert abs(float(middle.removesuffix("px")) / box["width"] - 9.5 / 12) < 0.01


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("javascript", [True, False])
@pytest.mark.parametrize("kind", ["written", "moving", "compared", "collected"])
def test_no_page_is_wider_than_its_screen(request, opened, width, javascript, kind):
    page = opened(
        request.getfixturevalue(kind), viewport={"width": width, "height": 800}, java_script_enabled=javascript
    )
    if javascript:
        page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_all_is_there_to_read(opened, written):
    page = opened(java_script_enabled=False)
    assert not page.locator("#player").is_visible()
    strips = page.locator("details.strip .cells")
    assert strips.count() == 7
    assert all(strip.is_visible() for strip in strips.all())
    for heading in page.locator("h2").all():
        assert heading.is_visible()
    assert page.locator(".chart polyline").count() >= 12
    for method in written.data["sections"]["attributions"]["methods"]:
        assert page.locator(f"#method-{method['method']}").is_visible()


def test_without_javascript_each_panel_shows_its_strongest_frame(opened, written):
    page = opened(java_script_enabled=False)
    for method in written.data["sections"]["attributions"]["methods"]:
        shown = page.locator(f"#method-{method['method']} .stage .overlay").get_attribute("style")
        column = method["peak"] % 12
        assert f"{100 * column / 11:.4f}%" in shown


def test_numbers_shown_equal_those_of_the_json(opened, written):
    page = opened()
    data = json.loads((written.folder / "report.json").read_text(encoding="utf-8"))
    head = data["sections"]["prediction"]["heads"]["shape"]["top"]
    shown = (
        page.locator("#prediction .bars")
        .first.locator("tbody tr")
        .evaluate_all(
            "rows => rows.map(row => [row.querySelector('th').textContent, Number(row.querySelector('data').value)])"
        )
    )
    assert shown == [[one["label"], one["probability"]] for one in head]
    fields = page.locator("#fields tbody tr").evaluate_all(
        "rows => rows.map(row => [row.querySelector('th').textContent, ...[...row.querySelectorAll('data')].slice(3, 6)"
        ".map(one => Number(one.value))])"
    )
    assert fields == [[row["layer"], *row["field"]] for row in data["sections"]["fields"]["layers"]]


def test_landmarks_headings_and_names_are_there(opened):
    page = opened()
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("navigation", name="Sections").count() == 1
    assert page.get_by_role("region", name="Player").count() == 1
    assert page.get_by_role("slider", name="Frame").count() == 1
    assert page.get_by_role("slider", name="Overlay").count() == 1
    assert page.get_by_role("combobox", name="Speed").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    for stage in page.locator(".stage, .cells, .chart").all():
        assert stage.get_attribute("role") == "img"
        assert len(stage.get_attribute("aria-label")) > 10


def test_links_of_the_contents_lead_somewhere(opened):
    page = opened()
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1


def test_filters_play_along_and_begin_again(opened, moving):
    """Three slices over twelve frames, once."""
    page = opened(moving)
    kernels = "#motion .stage > .sprite[data-loops]"
    seen = []
    for at in (0, 4, 8, 11):
        page.locator("#frame").fill(str(at))
        (shown,) = set(positions(page, kernels))
        seen.append(float(shown.partition("%")[0]))
    assert seen == pytest.approx([0, 50, 100, 100])
    page.locator("[data-loops]").evaluate_all("all => all.forEach(one => one.dataset.loops = 2)")
    page.evaluate("dispatchEvent(new Event('DOMContentLoaded'))")
    page.locator("#frame").fill("6")
    assert set(positions(page, kernels)) == {"0% 0%"}


def test_without_javascript_all_slices_of_filters_are_there(opened, moving):
    page = opened(moving, java_script_enabled=False)
    films = page.locator("#motion .film")
    assert films.count() == 2 + 4
    assert all(film.is_visible() and film.bounding_box()["height"] > 10 for film in films.all())
    still = page.locator("#motion .looks .sprite").first.get_attribute("style")
    assert "background-position" in still


def test_headings_of_the_table_of_clips_sort_it(opened, collected):
    page = opened(collected)
    rows = page.locator("#clips tbody tr th")
    first = rows.all_inner_texts()
    page.get_by_role("button", name="clip", exact=True).focus()
    page.keyboard.press("Enter")
    assert rows.all_inner_texts() == sorted(first)
    assert page.locator("#clips thead th").first.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert rows.all_inner_texts() == sorted(first, reverse=True)
    page.get_by_role("button", name="sure", exact=True).click()
    sure = page.locator("#clips tbody tr td:nth-child(5) data").evaluate_all("all => all.map(one => Number(one.value))")
    assert sure == sorted(sure)
