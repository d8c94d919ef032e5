"""Reports on models whose output is a clip: the output, its difference from the clip, and maps of a region of it."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import explain
import zoo


def sprite(report, name):
    """A picture of the page, frames laid out as they play."""
    html = report.page.read_text()
    (content,) = re.findall(rf'\.sprite-{name}{{background-image:url\("data:image/\w+;base64,([^"]+)"', html)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGBA"))


def test_the_numbers_are_those_of_the_output_and_its_difference(copying, filmed, make_clip):
    model, clip = copying(), make_clip()
    batch = zoo.preprocess(clip, model)
    with torch.no_grad():
        output = model(batch)
    head = filmed.data["sections"]["prediction"]["heads"]["film"]
    assert (head["kind"], head["shape"]) == ("clip", [1, 12, 24, 24])
    over_time = (output - batch)[0, 0].double().square().mean(dim=(1, 2))
    assert head["difference"]["over_time"] == pytest.approx(over_time.tolist(), rel=1e-4)
    assert head["squared_error"] == pytest.approx(float(over_time.mean()), rel=1e-4)
    assert int(over_time.argmax()) == 7
    assert filmed.data["target"] == "film[t=7, y=6:12]"
    assert filmed.data["sections"]["attributions"]["value"] == pytest.approx(float(output[:, :, 7, 6:12].mean()))
    with safe_open(filmed.folder / "tensors.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("prediction/film"), output)
        outside = [frame for frame in range(12) if frame not in {6, 7, 8}]
        assert file.get_tensor("attributions/saliency/map")[0, outside].abs().max() == 0
    assert "mean squared error from its input" in filmed.data["summary"]


def test_the_page_shows_output_difference_and_region_and_says_so(copying, filmed, make_clip):
    html = filmed.page.read_text()
    for said in ("film, the clip that the model gives, 12 frames of 24 by 24 pixels", "film[t=7, y=6:12]"):
        assert said in html
    assert "largest in frame 7" in html
    assert "top:25.000%;left:0.000%;height:25.000%;width:100.000%" in html  # where the region lies, over each map
    assert "before any softmax" not in html
    model, clip = copying(), make_clip()
    with torch.no_grad():
        output = model(zoo.preprocess(clip, model))[0, 0]
    shown = ((output * 0.25 + 0.5).clamp(0, 1) * 255).round().numpy()
    assert np.array_equal(sprite(filmed, "output-0")[:24, 7 * 24 : 8 * 24, 0], shown[7])
    region = sprite(filmed, "region-0")[..., 3]
    frames = [region[:192, frame * 192 : (frame + 1) * 192] > 0 for frame in range(12)]
    assert [frame.any() for frame in frames] == [frame == 7 for frame in range(12)]
    rows = np.flatnonzero(frames[7].any(axis=1))
    assert (rows.min(), rows.max()) == (6 * 8, 12 * 8 - 1)
    assert frames[7].mean() < 0.1, "a line, no area"


def test_an_output_of_another_shape_has_no_difference_and_may_be_longer_than_the_clip(copying, tmp_path, make_clip):
    found = explain.report(copying(late=True), make_clip(), tmp_path / "report", sections=["prediction"])
    head = found.data["sections"]["prediction"]["heads"]["film"]
    assert head["shape"] == [1, 5, 24, 24]
    assert head["squared_error"] is None
    assert head["difference"] is None
    assert found.data["target"] == "film", "the mean of the whole clip, where nothing is asked for"
    assert "has another shape" in found.page.read_text()
    grown = copying()
    grown.register_forward_hook(lambda module, given, output: output.repeat(1, 1, 2, 1, 1))
    longer = explain.report(grown, make_clip(), tmp_path / "longer", sections=["prediction"])
    assert 'data-frames="24" hidden' in longer.page.read_text()


def test_models_are_compared_by_what_they_give(copying, tmp_path, make_clip):
    other = copying(late=True)
    found = explain.compare(
        [copying(), other], tmp_path / "comparison", clip=make_clip(), sections=["predictions"], target="film[0]"
    )
    html = found.page.read_text()
    assert "a clip of 1 × 5 × 24 × 24" in html
    assert html.count("All frames of film of") == 2
    assert len(set(re.findall(r"\.sprite-(output-[\w-]+)\{", html))) == 2


def test_clips_are_collected_with_their_errors(copying, tmp_path, make_file):
    folder = tmp_path / "clips"
    for at in range(3):
        make_file(folder / f"{at}.safetensors", width=3 + at, top=at)
    model = copying()
    found = explain.report(
        model, folder, tmp_path / "report", methods=["saliency"], sections=["predictions", "examples", "clips"]
    )
    errors = [
        zoo.predict(model, zoo.preprocess(folder / f"{at}.safetensors", model))[0].record()["film"]["squared_error"]
        for at in range(3)
    ]
    shown = found.data["sections"]["predictions"]["values"]["film"]
    assert shown["values"]["mean"] == pytest.approx(np.mean(errors))
    assert (shown["least"], shown["most"]) == pytest.approx((min(errors), max(errors)))
    assert (
        found.page.read_text().count("mean squared error from the clip") == 3
    )  # in words, of all, and over those of each
    assert [row["error"] for row in found.data["sections"]["clips"]["clips"]] == sorted(errors, reverse=True)


def test_it_is_reached_by_name_from_the_page_alone(filmed):
    labels = re.findall(r'role="img" aria-label="([^"]+)"', filmed.page.read_text())
    assert any("a frame is drawn around film[t=7, y=6:12]" in label for label in labels)
    assert any(label.startswith("The difference of film from the clip") for label in labels)
