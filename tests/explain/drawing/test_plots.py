"""`.plot()`: what is drawn is what the results hold, and nothing of matplotlib is left changed."""

from __future__ import annotations

import dataclasses
import io

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from explain.drawing import colours, figures, sprites
from zoo.errors import UsageError

KINDS = (
    "attribution", "faithfulness", "temporal", "maximization", "unit", "robustness", "effective_field", "top_clips"
)  # fmt: skip


def images(figure):
    """The pictures of a figure, in the order drawn."""
    return [np.asarray(image.get_array()) for axes in figure.axes for image in axes.get_images()]


def texts(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def line(figure, ylabel, at=0):
    """A line of the axes of that label: places and values."""
    (axes,) = [axes for axes in figure.axes if axes.get_ylabel() == ylabel]
    return axes.lines[at].get_data()


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_one_of_its_own_and_the_same_result_gives_the_same_bytes(made, kind):
    before = dict(mpl.rcParams), pyplot.get_fignums()
    drawn = [made[kind]().plot() for _ in range(2)]
    assert all(isinstance(figure, Figure) for figure in drawn)
    assert drawn[0]._repr_png_() == drawn[1]._repr_png_()
    assert drawn[0]._repr_png_()[:4] == b"\x89PNG"
    assert (dict(mpl.rcParams), pyplot.get_fignums()) == before


@pytest.mark.parametrize("kind", KINDS)
def test_colours_are_real_ones_and_nothing_is_cut_off(made, kind):
    figure = made[kind]().plot()
    assert to_hex(figure.get_facecolor()) == "#ffffff"
    box = figure.get_tightbbox()  # inches of all that is drawn
    assert (box.x0, box.y0) >= (-0.05, -0.05)
    assert (box.x1, box.y1) <= (figure.get_figwidth() + 0.05, figure.get_figheight() + 0.05)
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    placeholders = {figures.INK, figures.SOFT, figures.LINE, figures.CARD, *figures.SERIES}
    assert [colour for colour in placeholders if colour in file.getvalue().decode()] == []


def test_attribution_shows_of_each_eighth_the_frame_where_the_map_is_largest(made):
    result = made["attribution"]()
    figure = result.plot()
    assert "frame 5" in texts(figure)
    clip, over = images(figure)[:8], images(figure)[8:16]
    (at,) = [place for place, picture in enumerate(over) if len(np.unique(picture)) > 1]
    assert [text for text in texts(figure) if text.startswith("frame ")][at] == "frame 5"
    assert (clip[at] == 100).all()
    assert (over[at][2, 3] == colours.magnitude().palette[-1, :3]).all()
    assert (np.delete(over[at].reshape(-1, 3), 2 * 8 + 3, axis=0) == 60).all()  # the rest is the dimmed frame
    places, values = line(figure, "sum over the frame\n(output)")
    assert places.tolist() == list(range(12))
    assert values.tolist() == result.time[0].tolist()


def test_attribution_shows_the_sample_and_the_frames_asked_for(made):
    result = made["attribution"]()
    figure = result.plot(sample=-1, frames=[9, 0])
    over = images(figure)[2:4]
    assert [text for text in texts(figure) if text.startswith("frame ")] == ["frame 9", "frame 0"]
    assert (over[0][1, 1] == colours.signed().palette[0, :3]).all()
    share = 1 / np.quantile([1, 4], 0.99)  # not opaque: the dimmed frame shines through
    painted = sprites.blended(np.full((1, 1, 1), 100, np.uint8), np.full((1, 1), share), colours.signed())[0, 0]
    assert (over[0][4, 6] == painted).all()
    assert (over[1] == 60).all()
    assert "integrated_gradients: shape = flat" in texts(figure)
    assert any(
        "sample 1 of 2" in text and "window 1 × 2 × 3" in text and "baseline zeros" in text for text in texts(figure)
    )
    with pytest.raises(UsageError, match="sample 2 is not there: samples are 0 to 1"):
        result.plot(2)
    with pytest.raises(UsageError, match="frame 12 is not there: frames are 0 to 11"):
        result.plot(frames=[12])


@pytest.mark.parametrize(
    ("method", "settings", "unit"),
    [
        ("integrated_gradients", {}, "output"),
        ("saliency", {}, "output per unit of input"),
        ("grad_cam", {}, "no unit"),
        ("smooth_grad", {"smooth": "input_x_gradient"}, "output"),
        ("of_nobody", {}, ""),
    ],
)
def test_attribution_names_the_unit_of_its_map(made, method, settings, unit):
    figure = made["attribution"](method=method, settings=settings).plot()
    (bar,) = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == unit


def test_attribution_without_a_clip_of_an_image_of_zeros_and_of_nothing_finite_can_be_drawn(made):
    alone = made["attribution"](clip=None).plot()
    assert len(images(alone)) == 8
    assert images(alone)[0].max() == 0
    image = made["attribution"](frames=1, samples=1)
    assert len(images(image.plot())) == 2
    assert not any("magnitude" in text for text in texts(image.plot()))
    zero = dataclasses.replace(image, map=torch.zeros_like(image.map))
    assert any("the map is zero everywhere" in text for text in texts(zero.plot()))
    dataclasses.replace(image, map=torch.full_like(image.map, torch.nan)).plot()


def test_attribution_says_by_how_much_its_sum_misses_what_it_should_be(made):
    result = made["attribution"](delta=torch.tensor([1.0, 0.2]))  # sums 2 and -3 where 1 and -3.2 were promised
    assert any(
        "its sum misses 100 % of the output's change" in text.replace("\n", " ") for text in texts(result.plot())
    )
    assert not any("its sum misses" in text for text in texts(result.plot(1)))


def test_faithfulness_draws_means_or_one_sample_with_the_controls(made):
    result = made["faithfulness"]()
    at = torch.linspace(0, 1, 5).double()
    for sample, own in ((None, ((1 - at) + (1 - at) ** 2) / 2), (1, (1 - at) ** 2)):
        figure = result.plot(sample)
        axes = next(axes for axes in figure.axes if axes.get_title() == "deletion: pixels of single frames")
        drawn = {one.get_label(): one.get_ydata() for one in axes.lines}
        assert np.allclose(drawn["this map"], own)
        assert np.allclose(drawn["random orders"], own + 0.2)
        assert np.allclose(drawn["the middle first"], own + 0.2)
        _, correlations = line(figure, "rank correlation")
        assert np.allclose(correlations, [0.8, 0.4, 0.0] if sample is None else [0.7, 0.3, -0.1])
    assert f"saliency: {result.target}, sample 1 \N{EN DASH} flagged" in texts(figure)
    assert {"1: layer1", "\n3: layer3", "4: layer4"} <= set(texts(figure))
    assert any("It does not depend." in text for text in texts(figure))
    with pytest.raises(UsageError, match="sample 2"):
        result.plot(2)


def test_faithfulness_with_parts_missing_can_be_drawn(made):
    for fields in ({"curves": {}}, {"randomization": ()}, {"curves": {}, "randomization": ()}):
        made["faithfulness"](**fields).plot()
    assert "nothing could be tested" in texts(made["faithfulness"](curves={}, randomization=()).plot())
    blank = made["faithfulness"]()
    unknown = tuple(dataclasses.replace(one, correlation=torch.full((2,), torch.nan)) for one in blank.randomization)
    dataclasses.replace(blank, randomization=unknown).plot()


def test_temporal_parameters_draw_all_motions_and_the_filters_that_move_most(made):
    parameters = made["temporal"]()
    figure = parameters.plot(filters=3)
    assert sum("channel" in text for text in texts(figure)) == 3
    assert any(text.endswith("24 steps of filters") for text in texts(figure))
    bars = next(axes for axes in figure.axes if axes.get_xlabel() == "size (factor a step)").patches
    bottom = figure.axes[0].get_ylim()[0]
    assert sum(bar.get_height() + bottom for bar in bars) == pytest.approx(1)
    assert sum("channel" in text for text in texts(made["temporal"](still=True).plot())) == 0


def test_maximization_draws_the_clips_asked_for_and_how_they_rose(made):
    result = made["maximization"](units=range(8))
    figure = result.plot(clips=[7])
    assert np.array_equal(images(figure)[0], sprites.as_frames(result.clips[7])[0])
    assert len(images(figure)) == 6
    steps, values = line(figure, "activation")
    assert (list(steps), values.tolist()) == ([0, 1, 2, 3, 4], [0.0, 7.0, 8.0, 9.0, 10.0])
    assert line(figure, "activation", 1)[1] == [12.0, 12.0]
    assert "late/7\n0 → 12" in texts(figure)
    several = made["maximization"](units=range(8), still=True).plot()
    assert len(images(several)) == 6
    assert any(text.startswith("2 more clips") for text in texts(several))
    with pytest.raises(UsageError, match="clip 8 is not there"):
        result.plot([8])


def test_a_unit_is_drawn_with_its_frame_its_map_and_its_image(made):
    view = made["unit"]()
    figure = view.plot()
    frame, over, image = images(figure)
    assert np.array_equal(frame[..., :1], sprites.as_frames(view.picture[:, None])[0])
    assert (over[5, 5] == colours.magnitude().palette[-1, :3]).all()
    assert (image == 128).all()
    assert "frame 6" in texts(figure)
    assert len(made["unit"](frames=1).plot().axes) == 3


def test_robustness_draws_every_perturbation_measure_by_measure(made):
    result = made["robustness"]()
    figure = result.plot()
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")] == [
        f"Noise {place}" for place in range(4)
    ]
    assert len(figure.axes) == 4 * 2
    for place in range(4):
        shares, errors = (axes.lines[0].get_ydata() for axes in figure.axes[2 * place : 2 * place + 2])
        assert np.allclose(shares, [1, 0.875, 0.75, 0.625, 0.5])
        assert np.allclose(errors, np.array([0, 0.125, 0.25, 0.375, 0.5]) * place)
    assert "Robustness on 3 clips" in texts(figure)
    assert "no perturbation applies" in texts(made["robustness"](curves=0).plot())


def test_an_effective_field_is_drawn_over_the_clip_and_over_time(made):
    field = made["effective_field"]()
    clip = torch.ones(3, 6, 8, 10)
    (picture,), (black,) = images(field.plot(clip)), images(field.plot())
    assert picture[0, 0] == pytest.approx([0.6 * 255] * 3)  # the dimmed frame
    assert black[0, 0] == pytest.approx([0.0] * 3)
    assert picture[3, 4] == pytest.approx(colours.magnitude().palette[-1, :3])
    bars = next(axes for axes in field.plot().axes if axes.get_ylabel() == "% of gradients").patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0, 0, 0, 100, 0, 0])
    assert len(made["effective_field"](frames=1).plot().axes) == 1
    with pytest.raises(UsageError, match="the clip is 3 × 5 × 8 × 10; expected channels and the field's 6 × 8 × 10"):
        field.plot(clip[:, :5])


def test_top_clips_are_drawn_by_unit_with_the_map_over_the_frame_on_the_unit_s_scale(made):
    found = made["top_clips"](units=range(8))
    figure = found.plot(units=[7, 2])
    drawn = images(figure)
    assert len(drawn) == 4
    for first, second in (drawn[:2], drawn[2:]):
        assert (first[0, 0] == colours.magnitude().palette[-1, :3]).all()  # the unit's highest of all its clips
        half = sprites.blended(np.full((1, 1, 1), 100, np.uint8), np.full((1, 1), 0.5), colours.magnitude())[0, 0]
        assert (second[0, 0] == half).all()
        assert (first[4:, 4:] == 60).all()  # the dimmed frame
    said = texts(figure)
    assert [text.splitlines()[0] for text in said if "frame 3" in text] == ["late/7", "", "late/2", ""]
    assert any("mean 0.125, 4 in frame 3" in text for text in said)
    assert any("9 clips looked at; 1 left out" in text.replace("\n", " ") for text in said)
    assert len(images(found.plot())) == 12
    assert any(text.startswith("2 more units") for text in texts(found.plot()))
    with pytest.raises(UsageError, match="unit 8 was not looked for: units are 0, 1, 2"):
        found.plot(units=[8])


def test_top_clips_without_frames_and_units_that_are_never_active_can_be_drawn(made):
    (picture, _) = images(made["top_clips"](units=[3], known=False).plot())
    assert picture.shape == (32, 32, 3)
    assert (picture[0, 0] == colours.magnitude().palette[-1, :3]).all()
    found = made["top_clips"](units=[3])
    silent = tuple(dataclasses.replace(clip, map=0 * clip.map, highest=0.0) for clip in found.clips[0])
    assert all((picture == 60).all() for picture in images(dataclasses.replace(found, clips=(silent,)).plot()))
