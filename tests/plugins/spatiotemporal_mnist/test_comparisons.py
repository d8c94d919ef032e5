"""Figures 6 to 9 and those of section 5.1: the numbers measured, the paper's sign, one scale, nothing where none is."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

import explain
from explain.reporting.context import Subject
from explain.reporting.intervals import interval
from zoo.errors import WeightsError
from zoo_spatiotemporal_mnist import comparisons
from zoo_spatiotemporal_mnist.blinking import PAIRS

#: Twenty clips in the first cell and one more in each further one, so that weights matter.
CLIPS = {pair: 20 + place for place, pair in enumerate(PAIRS)}


def subject(name, error=lambda speed, period: 0.01 * (speed + period), *, order=None, breakdown=None):
    """A model whose error in each cell `error(speed, period)` gives, whose order accuracy `order(period)` gives."""
    pairs = [
        {
            "speed": speed,
            "period": period,
            "clips": CLIPS[speed, period],
            "digit accuracy": 0.9,
            "order accuracy": order(period, speed) if order else 0.95,
            "speed mean absolute error": error(speed, period),
        }
        for speed, period in PAIRS
    ]
    digits = [{"digit": digit, "clips": 50, "digit accuracy": 0.9 + digit / 100} for digit in range(10)]
    tables = {"speed and period": pairs, "digit": digits} if breakdown is None else breakdown
    return Subject(name=name, entry=None, evaluation={"metrics": [], "breakdown": tables})


def texts(svg):
    """What an SVG writes."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def cells(svg):
    """Colour of each cell of a heat map, from its upper left to its lower right, as (x, y, colour)."""
    found = re.findall(r'<path d="M ([\d.]+) ([\d.]+)[^"]*"[^>]*style="fill: (#[0-9a-f]{6}); stroke: var', svg)
    return [(float(x), float(y), colour) for x, y, colour in found]


def svgs(content):
    return re.findall(r'<svg class="drawn".*?</svg>', content.html)


@pytest.mark.parametrize(
    ("subjects", "expected"),
    [
        ([], []),
        ([subject("a", breakdown={}), Subject(name="b", entry=None)], []),
        ([subject("a"), subject("b", breakdown={})], []),
        ([subject("a"), subject("b")], ["speed_errors", "speed_differences", "digits_and_orders"]),
    ],
)
def test_sections_are_those_that_have_something_to_show(subjects, expected):
    assert [section.name for section in comparisons.sections(subjects)] == expected


def test_what_one_model_alone_has_is_no_comparison():
    one, other = subject("a"), subject("b")
    del other.evaluation["breakdown"]["digit"]
    content = comparisons.digits_and_orders([one, other])
    assert content.data["models"][0]["digit_error"] == []
    assert "Digit errors by class" not in content.html
    assert "Order accuracy by V" in content.html
    for row in other.evaluation["breakdown"]["speed and period"]:
        del row["order accuracy"]
    assert [section.name for section in comparisons.sections([one, other])] == ["speed_errors", "speed_differences"]


@pytest.mark.parametrize(
    ("table", "row", "wrong", "said"),
    [
        ("speed and period", 0, {"speed": "fast"}, "row 1: speed 'fast' is no number"),
        ("speed and period", 2, {"period": None}, "row 3: period None is no number"),
        ("speed and period", 0, {"clips": "many"}, "row 1: clips 'many' is no number"),
        ("speed and period", 0, {"clips": -1}, "row 1: clips -1 is negative"),
        ("speed and period", 0, {"clips": 1.5}, "row 1: clips 1.5 is no whole number"),
        (
            "speed and period",
            0,
            {"speed mean absolute error": -0.1},
            "row 1: speed mean absolute error -0.1 is negative",
        ),
        ("digit", 9, {"digit": "nine"}, "row 10: digit 'nine' is no number"),
    ],
)
def test_a_corrupt_table_is_named_before_anything_is_written(tmp_path, table, row, wrong, said):
    files = []
    for name in ("good", "bad"):
        told = {"model": name, **subject(name).evaluation}
        if name == "bad":
            told["breakdown"][table][row].update(wrong)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(told))
    with pytest.raises(WeightsError, match=re.escape(f"bad.json, table '{table}', {said}; measure again")):
        explain.compare(files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_errors_are_those_measured_and_stand_in_their_cells():
    content = comparisons.speed_errors([subject("a.x"), subject("b.x", lambda speed, period: 0.02 * speed)])
    one, other = content.data["models"]
    assert {(row["speed"], row["period"]): row["error"] for row in one["cells"]} == {
        (speed, period): 0.01 * (speed + period) for speed, period in PAIRS
    }
    assert {row["clips"] for row in one["cells"]} == set(CLIPS.values())
    assert (content.data["fewest_clips"], content.data["most_clips"]) == (20, 20 + len(PAIRS) - 1)
    assert content.data["scale"] == [0.02, pytest.approx(0.16)]
    for svg, told in zip(svgs(content), (one, other), strict=True):
        written = texts(svg)
        assert [text for text in written if "." in text] == [f"{row['error']:.2f}" for row in told["cells"]]
    assert '<h3 class="name">a</h3>' in content.html  # a tag that all share is left out


def test_cells_outside_the_data_are_left_blank():
    (svg,) = svgs(comparisons.speed_errors([subject("a")]))
    assert len(cells(svg)) == len(PAIRS) == 65
    assert 6 * 8 < 50 <= 6 * 9
    columns = sorted({x for x, _, _ in cells(svg)})
    assert [sum(x == column for x, _, _ in cells(svg)) for column in columns] == [12, 12, 12, 12, 9, 8]


def test_a_cell_without_clips_is_left_blank():
    told = subject("a")
    told.evaluation["breakdown"]["speed and period"][3].update(
        {"clips": 0, "order accuracy": None, "speed mean absolute error": None}
    )
    content = comparisons.speed_errors([told])
    assert len(content.data["models"][0]["cells"]) == 64
    assert len(cells(svgs(content)[0])) == 64


def test_one_colour_means_one_number_in_all_panels():
    alone = svgs(comparisons.speed_errors([subject("a")]))[0]
    beside, wide = svgs(comparisons.speed_errors([subject("a"), subject("b", lambda speed, period: 1.0 * speed)]))
    assert cells(alone) != cells(beside)  # the other's larger errors stretch the scale
    same, _ = svgs(comparisons.speed_errors([subject("b", lambda speed, period: 1.0 * speed), subject("a")]))
    assert [colour for *_, colour in cells(same)] == [colour for *_, colour in cells(wide)]
    by_value = dict(zip((row[2] for row in cells(wide)), [speed for speed, _ in sorted(PAIRS)], strict=True))
    assert len(by_value) == 6


def test_differences_have_the_sign_of_the_paper():
    """Section 5.2: positive values indicate greater performance by the second, (A - B) / A."""
    first = subject("first", lambda speed, period: 0.4)
    second = subject("second", lambda speed, period: 0.1 if speed < 3 else 0.4 if speed < 5 else 0.5)
    content = comparisons.speed_differences([first, second])
    (pair,) = content.data["pairs"]
    found = {(row["speed"], row["period"]): row["difference"] for row in pair["cells"]}
    assert found[1, 1] == pytest.approx(0.75)
    assert found[3, 1] == 0
    assert found[6, 1] == pytest.approx(-0.25)
    assert (pair["first"], pair["second"]) == ("first", "second")
    assert (pair["second_better"], pair["first_better"]) == (24, 17)
    written = texts(svgs(content)[0])
    assert {"+75", "0", "\N{MINUS SIGN}25"} <= set(written)


def test_the_scale_of_differences_is_symmetric_and_the_same_for_all_pairs():
    def lighter(colour):
        return sum(bytes.fromhex(colour[1:]))

    first = subject("first", lambda speed, period: 0.4)
    half = subject("half", lambda speed, period: 0.2)
    worse = subject("worse", lambda speed, period: 4.0)
    content = comparisons.speed_differences([first, half, worse])
    assert content.data["limit"] == 1.0  # ten times the error takes the last colour, and its cells say so
    better, clipped, _ = (cells(svg)[0][2] for svg in svgs(content))
    assert texts(svgs(content)[1]).count("\N{MINUS SIGN}900") == 65
    alone = cells(svgs(comparisons.speed_differences([first, half]))[0])[0][2]
    assert comparisons.speed_differences([first, half]).data["limit"] == 0.5
    assert lighter(alone) < lighter(better)  # +50 % is the last colour alone, half-way where the scale is longer
    assert clipped != better
    middle = to_hex(colormaps["PuOr"](0.5))
    equal = comparisons.speed_differences([first, subject("same", lambda speed, period: 0.4 if speed < 6 else 0.9)])
    assert [colour for *_, colour in cells(svgs(equal)[0])].count(middle) == 57


@pytest.mark.parametrize(("models", "widest", "halves"), [(2, 520, True), (3, 453, False)])
def test_two_heat_maps_share_the_width(models, widest, halves):
    subjects = [subject(f"m{place}") for place in range(models)]
    for content in (comparisons.speed_errors(subjects), comparisons.speed_differences(subjects)):
        assert all(f"max-width:{widest}px" in svg for svg in svgs(content))
        assert ('class="grid halves"' in content.html) == halves


def test_cells_of_few_clips_are_pale_and_not_counted():
    first = subject("first", lambda speed, period: 0.4)
    second = subject("second", lambda speed, period: 0.2 if period > 1 else 4.0)
    for row in second.evaluation["breakdown"]["speed and period"]:
        row["clips"] = 19 if row["period"] == 1 else 20
    content = comparisons.speed_differences([first, second])
    (pair,) = content.data["pairs"]
    assert (pair["second_better"], pair["first_better"], pair["counted"], pair["pale"]) == (59, 0, 59, 6)
    assert content.data["limit"] == 0.5  # chance does not stretch the scale
    (svg,) = svgs(content)
    assert len(re.findall(r"fill: #[0-9a-f]{6}; fill-opacity: 0.25", svg)) == 6
    assert len(re.findall(r"fill: var\(--soft\)[^>]*>\N{MINUS SIGN}900<", svg)) == 6
    assert "second has the smaller error in 59 of 59 cells" in content.html
    assert "6 pale cells of fewer than 20 clips are not counted" in content.html
    told = re.sub(r"<[^>]+>", "", content.html)
    assert "20 and 19 clips" in told
    assert "19 clips" in re.sub(r"<[^>]+>", "", comparisons.speed_errors([first, second]).html)


@pytest.mark.parametrize(("models", "pairs"), [(2, 1), (3, 3), (4, 6), (5, 4), (7, 6)])
def test_every_pair_of_up_to_four_is_drawn_then_the_first_with_each(models, pairs):
    content = comparisons.speed_differences([subject(f"m{place}") for place in range(models)])
    assert len(content.data["pairs"]) == len(svgs(content)) == pairs
    if models > 4:
        assert {pair["first"] for pair in content.data["pairs"]} == {"m0"}


def test_a_model_without_any_error_makes_no_division_by_zero():
    content = comparisons.speed_differences([subject("a", lambda speed, period: 0.0), subject("b")])
    assert content.data["pairs"][0]["cells"] == []
    assert (
        comparisons.speed_errors([subject("a", lambda speed, period: 0.0)]).data["models"][0]["cells"][0]["error"] == 0
    )


def test_orders_by_period_follow_from_the_pairs_where_their_table_is_missing():
    told = subject("a", order=lambda period, speed: 0.7 if period == 1 and speed == 1 else 0.9)
    rows = comparisons.digits_and_orders([told, subject("b")]).data["models"][0]["order_accuracy"]
    clips = [CLIPS[speed, 1] for speed in range(1, 7)]
    expected = (0.7 * clips[0] + 0.9 * sum(clips[1:])) / sum(clips)
    assert rows[0] == {
        "period": 1,
        "share": pytest.approx(expected),
        "low": pytest.approx(interval(expected, sum(clips))[0]),
        "high": pytest.approx(interval(expected, sum(clips))[1]),
        "clips": sum(clips),
    }
    assert [row["period"] for row in rows] == list(range(1, 13))
    told.evaluation["breakdown"]["period"] = [{"period": 1, "clips": 40, "order accuracy": 0.5}]
    (row,) = comparisons.digits_and_orders([told, subject("b")]).data["models"][0]["order_accuracy"]
    assert (row["share"], row["clips"]) == (0.5, 40)


def test_digit_errors_are_what_is_missing_to_all():
    content = comparisons.digits_and_orders([subject("a"), subject("b")])
    for model in content.data["models"]:
        assert [row["share"] for row in model["digit_error"]] == pytest.approx(
            [0.1 - digit / 100 for digit in range(10)]
        )
        assert all(row["low"] < row["share"] < row["high"] for row in model["digit_error"])
    orders, digits = svgs(content)
    assert {"a", "b"} <= set(texts(orders)) & set(texts(digits))
    assert len(re.findall(r"fill: var\(--series-[12]\)\"", digits)) >= 20


@pytest.mark.parametrize("section", ["speed_errors", "speed_differences", "digits_and_orders"])
def test_numbers_shown_are_in_the_data_and_the_bytes_are_the_same_each_time(section):
    def numbers(data):
        if isinstance(data, dict | list):
            return set().union(*map(numbers, data.values() if isinstance(data, dict) else data))
        return {data} if isinstance(data, int | float) else set()

    subjects = [subject("a"), subject("b", lambda speed, period: 0.03 * period, order=lambda period, _: 0.8)]
    content = getattr(comparisons, section)(subjects)
    shown = {float(value) for value in re.findall(r'<data value="([^"]+)"', content.html)}
    assert len(shown) > 20
    assert shown <= {float(number) for number in numbers(json.loads(json.dumps(content.data)))}
    assert getattr(comparisons, section)(subjects).html == content.html


def test_names_are_text():
    page = comparisons.speed_errors([subject("<b>bold"), subject("plain", breakdown={})]).html
    assert "<b>" not in page
    assert "Not measured by speed and visibility: plain" in page


def test_the_stored_evaluation_of_conv3d_is_compared_without_torch(tmp_path):
    """The bundled record against one measured elsewhere, through the plugin's hook."""
    told = {"model": "other", "metrics": [], "breakdown": subject("other").evaluation["breakdown"]}
    (tmp_path / "other.json").write_text(json.dumps(told))
    code = (
        "import explain, sys; explain.compare(['conv3d', sys.argv[1]], sys.argv[2]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "other.json", tmp_path / "out"], check=True)
    data = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert data["problems"] == []
    from zoo.training.evaluation import stored

    measured = stored("conv3d")["breakdown"]["speed and period"]
    assert [row["error"] for row in data["sections"]["speed_errors"]["models"][0]["cells"]] == [
        row["speed mean absolute error"] for row in measured
    ]
