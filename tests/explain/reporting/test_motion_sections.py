"""The sections on motion: what is told of which filters, that its numbers are right, what is said where none move."""

from __future__ import annotations

import copy
import dataclasses
import math
import re

import pytest
import torch
from safetensors import safe_open
from torch import nn

import explain
from explain.drawing.kernels import loops
from explain.temporal import temporal_parameters


def section(report):
    return report.data["sections"]["motion"]


def page(report):
    return report.page.read_text(encoding="utf-8")


def report_on(model, clip, out, **options):
    return explain.report(model, clip, out, sections=["motion"], unit_steps=2, **options)


def test_statistics_and_parameters_are_those_of_the_model(moving, moving_model):
    told = section(moving)
    found = temporal_parameters(moving_model)
    assert told["kinds"] == ["3tconv"]
    assert told["statistics"]["parameters"]["translate_x"]["absolute_mean"] == pytest.approx(
        found.statistics().parameters["translate_x"].absolute_mean
    )
    motions = torch.cat([moving_model.early.motions, moving_model.late.motions]).double()
    shift = motions[:, 2:].square().sum(dim=1).sqrt()  # kernels of three pixels: a shift of 1 is one pixel
    assert told["mean_motion"]["shift"] == pytest.approx(float(shift.mean()), rel=1e-6)
    assert told["mean_motion"]["turn"] == pytest.approx(float(motions[:, 1].abs().mean().rad2deg()), rel=1e-6)
    assert told["mean_motion"]["growth"] == pytest.approx(float((1 / motions[:, 0] - 1).abs().mean()), rel=1e-6)
    with safe_open(moving.folder / "tensors.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("motion/early/rotation"), found.layers["early"].rotation)
        assert file.get_tensor("motion/late/identified").all()


def test_the_most_moving_filters_are_listed_and_said_in_words(moving):
    told = section(moving)
    listed = told["most_moving"]
    assert [one["displacement"] for one in listed] == sorted((one["displacement"] for one in listed), reverse=True)
    by_place = {(one["layer"], one["channel"]): one for one in listed}
    assert by_place["early", 0]["sentence"] == "Follows a pattern that moves 0.5 pixels right per frame."
    assert (
        by_place["early", 1]["sentence"]
        == f"Follows a pattern that turns {math.degrees(0.3):.2g}° clockwise per frame."
    )
    assert by_place["early", 2]["sentence"] == "Follows a pattern that grows by 25 % per frame."
    assert ("early", 3) not in by_place  # it stands still
    assert by_place["early", 0]["sentence"] in page(moving)


def test_each_layer_shows_its_most_moving_filter_with_its_single_frames(moving, moving_model, clip):
    import zoo
    from explain.maximization.unit_views import view_units

    told = section(moving)
    assert [one["layer"] for one in told["shown"]] == ["early", "late"]
    batch = zoo.preprocess(clip, moving_model)
    for one in told["shown"]:
        (view,) = view_units(moving_model, batch, one["layer"], one["channel"], steps=3)
        assert one["view"]["frame"] == view.frame
        assert one["view"]["activation"] == pytest.approx(view.activation, rel=1e-4)
        with safe_open(moving.folder / "tensors.safetensors", framework="pt") as file:
            image = file.get_tensor(f"motion/{one['layer']}/{one['channel']}/image")
        assert torch.allclose(image, view.image, atol=1e-4)
    # The pooling between them makes one pixel of the later layer two of the clip.
    assert [one["spacing"] for one in told["shown"]] == [[1, 1, 1], [1, 2, 2]]
    assert "One pixel of this layer stands for 2 × 2 pixels of the clip, one step for 1 frame." in page(moving)


def test_distributions_curves_and_slices_are_on_the_page(moving):
    html = page(moving)
    assert len(re.findall(r'<svg class="drawn"[^>]*aria-label="Distribution of', html)) == 3
    assert len(re.findall(r'<svg class="drawn"[^>]*aria-label="Way of the pattern', html)) == 2
    assert len(re.findall(r'class="film sprite sprite-filter-\d-slices"', html)) == 2
    assert len(re.findall(r"sprite-kernel-\d+\"[^>]*data-loops", html)) == 4
    assert "to the right, down, clockwise and growing are positive" in html


def test_numbers_shown_are_those_of_the_json(moving):
    def numbers(data):
        if isinstance(data, dict | list):
            return set().union(*map(numbers, data.values() if isinstance(data, dict) else data))
        return {float(data)} if isinstance(data, int | float) and not isinstance(data, bool) else set()

    main = page(moving).partition('<section id="motion"')[2].partition("</section>")[0]
    shown = {float(value) for value in re.findall(r'<data value="([^"]+)"', main)}
    assert len(shown) > 30
    assert shown <= numbers(section(moving))


def test_motion_that_cannot_be_told_is_not_shown(model, clip, tmp_path):
    """Random slices do not follow from one another."""
    report = report_on(model, clip, tmp_path / "out")
    told, found = section(report), temporal_parameters(model)
    assert told["kinds"] == ["fit"]
    known = int(sum(layer.identified.sum() for layer in found.layers.values()))
    assert told["told"] == known < 20
    whole = {
        (name, channel)
        for name, layer in found.layers.items()
        for channel in layer.identified.all(dim=0).nonzero()[:, 0].tolist()
    }
    assert {(one["layer"], one["channel"]) for one in told["most_moving"]} == whole
    html = page(report)
    assert "Distribution of" not in html
    assert "R² tells how well it does" in html


def test_a_model_in_which_nothing_moves_says_so(moving_model, clip, tmp_path):
    for layer in (moving_model.early, moving_model.late):
        layer.motions = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(layer.out_channels, 1)
    report = report_on(moving_model, clip, tmp_path / "out")
    assert section(report)["mean_motion"] == {"shift": 0, "turn": 0, "growth": 0}
    assert section(report)["shown"] == section(report)["most_moving"] == []
    assert "Nothing moves: each filter repeats its first slice" in page(report)


class Smooth(nn.Module):
    """Dense filters whose smooth pattern moves a pixel to the left from slice to slice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(1, 12, (3, 9, 9), padding=(1, 4, 4))
        self.head = nn.Linear(12, 2)
        at = torch.arange(9.0)
        with torch.no_grad():
            for time in range(3):
                rows, columns = (at[:, None] - 4).square(), (at - 5 + time).square()
                self.stem.weight[:, 0, time] = torch.exp(-(rows + 2 * columns) / 6)

    def forward(self, clips):
        return self.head(self.stem(clips).mean(dim=(2, 3, 4)))


def test_fitted_motion_is_shown_with_how_well_it_fits(tmp_path):
    report = report_on(Smooth(), torch.rand(1, 1, 6, 16, 16), tmp_path / "out")
    told = section(report)
    assert told["statistics"]["identified"] == 1
    (one,) = told["shown"]
    assert one["shift"] == pytest.approx([-1, 0], abs=0.05)
    assert min(one["r2"]) > 0.95 > max(one["r2_still"])
    assert one["sentence"].startswith("Follows a pattern that moves 1 pixel left")
    html = page(report)
    assert "The motion explains" in html
    assert "Where it can be told" in html


def test_strides_and_dilation_say_what_a_step_and_a_pixel_stand_for(tmp_path):
    model = Smooth()
    model.stem.stride, model.stem.dilation = (2, 1, 2), (2, 2, 1)  # only the dilation parts the slices
    report = report_on(model, torch.rand(1, 1, 6, 16, 16), tmp_path / "out")
    (one,) = section(report)["shown"]
    assert one["spacing"] == [2, 2, 1]
    assert one["sentence"] == "Follows a pattern that moves 1 pixel left per step."
    assert "One pixel of this layer stands for 2 × 1 pixels of the clip, one step for 2 frames." in page(report)


def test_a_model_without_3d_filters_says_so_in_one_line(tmp_path):
    flat = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    report = report_on(flat, torch.rand(1, 3, 9, 9), tmp_path / "out")
    assert list(section(report)) == ["reason"]
    html = page(report)
    assert re.search(r"<p>The model has no 3D filters .* it has Conv2d x 1, Linear x 1\.</p>", html)
    assert "Layer by layer" not in html


def test_a_filter_that_the_clip_leaves_silent_keeps_its_curves(moving_model, clip, tmp_path):
    with torch.no_grad():
        moving_model.early.weight.zero_()
    report = report_on(moving_model, clip, tmp_path / "out")
    early = next(one for one in section(report)["shown"] if one["layer"] == "early")
    assert early["view"] is None
    assert "What it looks at in this clip cannot be shown: " in page(report)
    assert "Motion of channel 0 of early, step 1" in page(report)


def test_the_same_model_gives_the_same_section(moving_model, clip, tmp_path):
    one, two = (report_on(moving_model, clip, tmp_path / name) for name in ("one", "two"))
    assert section(one) == section(two)
    start, end = '<section id="motion"', "</section>"
    assert page(one).partition(start)[2].partition(end)[0] == page(two).partition(start)[2].partition(end)[0]


def test_images_are_made_in_fewer_steps_where_passes_are_long(moving_model, clip, tmp_path, monkeypatch):
    def steps(name, **options):
        report = explain.report(moving_model, clip, tmp_path / name, sections=["motion"], **options)
        return {one["steps"] for one in section(report)["shown"]}

    assert steps("short", unit_steps=9) == {9}
    monkeypatch.setattr("explain.reporting.topics.motion._WORK", 1.0)
    assert steps("long", unit_steps=9) == {8}
    assert steps("asked", unit_steps=2) == {2}


@pytest.mark.parametrize(("frames", "slices", "expected"), [(16, 3, 2), (16, 7, 1), (64, 3, 7), (1, 3, 1)])
def test_a_filter_plays_whole_times_over_the_clip(frames, slices, expected):
    assert loops(frames, slices) == expected


def test_models_are_compared_on_the_same_axes_and_those_without_filters_are_named(moving_model, clip, tmp_path):
    other = copy.deepcopy(moving_model)
    for layer in (other.early, other.late):
        layer.motions[:, 2:] *= 0.1
    other.zoo_entry = dataclasses.replace(other.zoo_entry, name="slow_watcher")
    flat = copy.deepcopy(moving_model)
    flat.early, flat.late = nn.Conv3d(1, 4, 1), nn.Conv3d(4, 6, 1)
    flat.zoo_entry = dataclasses.replace(flat.zoo_entry, name="flat_watcher")
    report = explain.compare(
        [moving_model, other, flat], tmp_path / "out", clip=clip, sections=["motion"], methods=["saliency"]
    )
    fast, slow, none = section(report)["models"]
    assert slow["mean_motion"]["shift"] == pytest.approx(0.1 * fast["mean_motion"]["shift"], rel=1e-5)
    assert "no 3D filters" in none["reason"]
    html = page(report)
    assert "flat_watcher</span>: the model has no 3D filters" in html
    drawn = re.findall(r'<svg class="drawn"[^>]*aria-label="Distribution of the shifts.*?</svg>', html, re.DOTALL)
    assert len(drawn) == 2
    ticks = [re.findall(r"<text[^>]*>([^<]+)</text>", one) for one in drawn]
    assert ticks[0] == ticks[1]
    with safe_open(report.folder / "tensors.safetensors", framework="pt") as file:
        assert file.get_tensor("motion/slow_watcher/early/translate_x").shape == (2, 4)
