"""Reports on models that predict how a clip goes on: predictions stand beside it, and clips are ranked by error."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch import nn

import explain
import zoo
from explain.reporting import reading
from zoo.clips import decode
from zoo.entries import OutputSpec

METHODS = {"methods": ["saliency"]}


class Next(nn.Module):
    """Moves what the last of three frames shows a little; gives one frame, with or without an axis of time, or two."""

    def __init__(self, frames):
        super().__init__()
        self.conv = nn.Conv3d(1, 1, (1, 3, 3), padding=(0, 1, 1))
        self.frames = frames

    def forward(self, clips):
        given = self.conv(clips)[:, :, -1:]
        return given[:, :, 0] if self.frames == 0 else given.expand(-1, -1, self.frames, -1, -1) * 1


@pytest.fixture
def predicting(copying):
    """Makes a model that predicts so many frames of twelve from three; 0 is one without an axis of time."""

    def make(frames):
        entry = copying().zoo_entry
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Next(frames).eval()
        model.zoo_entry = dataclasses.replace(
            entry,
            name="next",
            input=dataclasses.replace(entry.input, frames=3, sampling="consecutive"),
            outputs=(OutputSpec(name="film", kind="clip", follows=True),),
        )
        return model

    return make


def errors(model, path, count):
    """Mean squared errors of the prediction and of the last frame again, from the definition."""
    spec = dataclasses.replace(model.zoo_entry.input, frames=12)
    clip = zoo.preprocess(path, dataclasses.replace(model.zoo_entry, input=spec)).double()
    with torch.no_grad():
        given = model.double()(clip[:, :, :3]).reshape(1, 1, count, 24, 24)
    model.float()
    truth = clip[:, :, 3 : 3 + count]
    return [float((one - truth).square().mean()) for one in (given, clip[:, :, 2:3].expand_as(truth))]


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_prediction_is_measured_from_what_follows(predicting, make_file, tmp_path, frames):
    model, path = predicting(frames), tmp_path / "clip.safetensors"
    make_file(path, width=5, top=3)
    report = explain.report(model, path, tmp_path / "report", sections=["prediction", "robustness"])
    own, again = errors(model, path, max(frames, 1))
    said = report.data["sections"]["prediction"]["heads"]["film"]
    assert (said["squared_error"], said["last_frame_again"]) == pytest.approx((own, again), rel=1e-4)
    assert said["difference"]["squared_error"] == pytest.approx(own, rel=1e-4)
    curve = report.data["sections"]["robustness"]["curves"]["gaussian_noise"]
    assert curve["mean"]["film squared error"][0] == pytest.approx(own, rel=1e-4)
    page = report.page.read_text(encoding="utf-8")
    assert page.count("How the clip goes on.") == 1
    what = {0: "the frame that follows", 1: "the frame that follows", 2: "the 2 frames that follow"}[frames]
    assert f"Mean squared error from {what}" in page
    assert ("the prediction is better" in page) == (own < again)
    assert "the last frame again has" in report.data["summary"]


def test_nothing_is_known_of_a_clip_that_ends_or_that_is_no_beginning(predicting, make_file, tmp_path):
    model, path = predicting(2), tmp_path / "clip.safetensors"
    make_file(path, width=5, top=3)
    clip = decode(path, spec=model.zoo_entry.input)
    assert reading.following(model, clip, 9).shape == (1, 1, 9, 24, 24)
    assert reading.following(model, clip, 10) is None
    later = dataclasses.replace(clip, frames=clip.frames.flip(0))
    assert reading.following(model, later, 2) is None
    report = explain.report(model, later, tmp_path / "report", sections=["prediction"])
    assert report.data["sections"]["prediction"]["heads"]["film"]["squared_error"] is None
    assert report.data["summary"] == "It gives: the next 2 frames, 24 by 24 pixels."
    assert "nobody knows what was right" in report.page.read_text(encoding="utf-8")


def test_many_clips_are_ranked_by_error_and_those_without_one_come_last(predicting, make_file, tmp_path, plugin):
    plugin("further", PLUGIN)
    model, folder = predicting(1), tmp_path / "clips"
    for at, (width, bright) in enumerate(((4, 200), (10, 100), (3, 255), (12, 80))):
        make_file(folder / f"{at}.safetensors", width=width, bright=bright, top=at)
    short = zoo.read_clip(folder / "0.safetensors")[:3]
    from safetensors.torch import save_file

    save_file({"clip": short[..., :1].contiguous()}, folder / "short.safetensors")
    found = explain.report(
        model, folder, tmp_path / "report", sections=["predictions", "examples", "clips"], target="film", **METHODS
    )
    expected = {f"{at}.safetensors": errors(model, folder / f"{at}.safetensors", 1) for at in range(4)}
    rows = found.data["sections"]["clips"]["clips"]
    worst_first = sorted(expected, key=lambda name: -expected[name][0])
    assert [row["clip"] for row in rows] == ["short.safetensors", *worst_first]
    assert [row["error"] for row in rows[1:]] == pytest.approx([expected[name][0] for name in worst_first], rel=1e-4)
    assert rows[0]["error"] is None
    scores = [row["score"] for row in rows[1:]]
    assert scores not in (sorted(scores), sorted(scores, reverse=True)), "the number explained has another order"
    cards = found.data["sections"]["examples"]
    assert [card["clip"] for card in cards["worst"] + cards["best"][::-1]] == worst_first
    shown = found.data["sections"]["predictions"]["values"]["film"]
    assert shown["last_frame_again"]["mean"] == pytest.approx(sum(one[1] for one in expected.values()) / 4, rel=1e-4)
    assert found.data["summary"].startswith("Its mean squared error from the frame that follows is ")
    assert found.data["summary"].endswith("on average over 4 clips.")
    page = found.page.read_text(encoding="utf-8")
    assert re.search("sections “Good &lt;b&gt;news”\\s+are about one clip", page)
    assert page.count("as predicted</figcaption>") == 4


PLUGIN = """
    import explain
    from zoo import hookimpl

    @hookimpl
    def explain_sections(context):
        return [
            explain.Section(name="early", title="Good <b>news", one=f"{__name__}:build", after="prediction"),
        ]

    def build(context):
        return explain.Content(html="news")
"""


def test_a_plugins_section_stands_where_it_asks_to(predicting, make_file, tmp_path, plugin):
    plugin("further", PLUGIN)
    make_file(tmp_path / "clip.safetensors", width=5, top=3)
    found = explain.report(
        predicting(1), tmp_path / "clip.safetensors", tmp_path / "out", sections=["conversion", "prediction", "early"]
    )
    assert list(found.data["sections"]) == ["prediction", "early", "conversion"]


def test_models_that_predict_are_compared_on_one_scale(predicting, make_file, tmp_path):
    make_file(tmp_path / "clip.safetensors", width=5, top=3)
    other = predicting(1)
    with torch.no_grad():
        other.conv.weight.mul_(2)
    found = explain.compare(
        [predicting(1), other], tmp_path / "out", clip=tmp_path / "clip.safetensors", sections=["predictions"]
    )
    page = found.page.read_text(encoding="utf-8")
    assert page.count("How the clip goes on.") == 1
    names = re.findall(r"\.sprite-([\w-]+)\{", page)
    assert len(names) == len(set(names))
    used = set(re.findall(r'class="sprite(?: under)? sprite-([\w-]+)', page))
    assert used <= set(names), "every picture that the page shows is in it"
    assert {"apart-0", "apart-1"} <= set(names)


def test_one_that_judges_by_classes_has_no_error(collected):
    assert all(row["error"] is None for row in collected.data["sections"]["clips"]["clips"])
