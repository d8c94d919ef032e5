"""Moments are named by time and index, and every command that takes a clip takes a part of one."""

from __future__ import annotations

import dataclasses
import html
import inspect
import json
import re

import av
import click
import numpy as np
import pytest
import torch
from matplotlib.text import Text

import explain
import zoo
from explain.cli import commands as explain_commands
from explain.maximization.unit_views import view_units
from explain.reporting.topics import maximization
from explain.reporting.topics.robustness import write_page
from explain.robustness.perturbed_clips import Spoiled
from zoo.cli import commands as zoo_commands
from zoo.clips import instant, moment, preprocess, timed, times_of
from zoo.entries import InputSpec, OutputSpec

#: Seconds of the twelve frames of the clip, which begins at 100 s of its source.
TIMES = tuple(100 + frame / 25 for frame in range(12))
#: A frame by its index, and the time before that.
NAMED = re.compile(r"(?:(?P<time>\d+\.\d\d) s, )?frame (?P<frame>\d+)", re.IGNORECASE)
#: Keys of JSON that hold a frame, and those that hold when it is shown.
KEYS = {"frame": "seconds", "peak": "peak_seconds", "worst": "worst_seconds"}


def test_a_moment_is_named_by_its_time_if_that_is_known():
    times = [frame / 30 for frame in range(48)]
    assert moment(46, 48, times) == "at 1.53 s, frame 46 of 0-47"
    assert moment(46, 48, None) == "in frame 46 of 0-47"
    assert moment(3, 8, times) == "in frame 3 of 0-7"  # of a map with other frames than the clip
    assert moment(46, 48, times, [time + 0.1 for time in times]) == "at 1.53-1.63 s, frame 46 of 0-47"
    assert moment(46, 48, times, times) == "at 1.53 s, frame 46 of 0-47"
    assert moment(46, 48, times, None) == "in frame 46 of 0-47"
    assert instant(46, times) == "1.53 s, frame 46"
    assert instant(46, None) == "frame 46"
    assert instant(46, times, 47) == "1.53-1.57 s, frames 46-47"
    assert instant(46, None, 47) == "frames 46-47"


def test_a_batch_knows_when_its_frames_are_shown(make_clip):
    spec = InputSpec(frames=6, size=(8, 8), frame_rate=12.5, sampling="consecutive")
    batch = preprocess(make_clip(times=TIMES, fps=25.0), spec)
    assert times_of(batch) == TIMES[::2]
    assert times_of(batch.flip(2)) is None
    assert times_of(batch.detach()) is None
    assert times_of(preprocess(make_clip(), spec)) is None
    batch[:, :, 0] = batch[:, :, 1]
    assert times_of(batch) is None
    with torch.inference_mode():
        assert times_of(preprocess(make_clip(times=TIMES), spec)) is None
    assert times_of(timed(torch.zeros(2), (0.0, 1.0))) == (0.0, 1.0)


def video(path, frames=24):
    """A film of a square that moves, whose second half is the clip."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 24, 24, "gray"
        for at in range(frames):
            picture = np.zeros((24, 24), np.uint8)
            picture[8:14, at % 12 : at % 12 + 6] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode())
    return path


class PerFrame(torch.nn.Module):
    """Two classes of each frame, by its brightness."""

    def forward(self, clips):
        bright = clips.mean(dim=(1, 3, 4))
        return torch.stack([bright + torch.linspace(-1, 1, bright.shape[1]), -bright], dim=2)


def seen(figure):
    figure.draw_without_rendering()  # which makes the texts of axes
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def page(report):
    """What a page says, to those who see and to those who hear it, and all numbers beside it."""
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>", "", report.page.read_text(), flags=re.DOTALL)
    return html.unescape(re.sub(r"</?(strong|data|span)\b[^>]*>", "", shown)), report.data


@pytest.fixture
def places(fresh_watcher, moving_model, copying, make_clip, tmp_path):
    """Every place that names frames: text, and data, of a clip with these times."""

    def shown(place, times):
        model, _ = fresh_watcher()
        clip = make_clip(times=times)
        batch = preprocess(clip, model)
        out = tmp_path / f"{place}-{times is None}"
        match place:
            case "report":
                return page(explain.report(model, clip, out, methods=["saliency"], n_steps=2, unit_steps=2))
            case "film":
                given = {"sections": ["prediction", "attributions"], "methods": ["saliency"]}
                return page(explain.report(copying(), clip, out, target="film[t=7]", **given))
            case "motion":
                return page(explain.report(moving_model, clip, out, sections=["motion"], unit_steps=2))
            case "comparison":
                return page(explain.compare([model, moving_model], out, clip=clip, n_steps=2))
            case "robustness":
                result = explain.check_robustness(model, batch, levels=2, draws=1)
                spoiled = Spoiled(model, batch, fill="grey", seed=0)
                about = {"model": "watcher", "clips": "square.mp4", "sha256": None, "left_out": ()}
                write_page(out, model, result, spoiled, about, "")
                return (out / "robustness.html").read_text(), {}
            case "target":
                model = PerFrame()
                spec = dataclasses.replace(fresh_watcher()[0].zoo_entry.input, layout="NCTHW")
                model.zoo_entry = dataclasses.replace(
                    fresh_watcher()[0].zoo_entry, outputs=(OutputSpec(name="calls", per_frame=True),), input=spec
                )
                found = explain.attribute(model, batch, method="saliency", target="calls:max")
                return str(found.target), {}
        (method,) = [name for name in ("attribution", "unit", "top", "field") if place.startswith(name)]
        result = {
            "attribution": lambda: explain.attribute(model, batch, method="saliency"),
            "unit": lambda: view_units(model, batch, "late", 3, steps=2)[0],
            "top": lambda: explain.top_clips(model, "late", [1], [clip], by="max"),
            "field": lambda: explain.effective_field(model, "late", batch, draws=1),
        }[method]()
        if place.endswith("again"):
            result = type(result).load(result.save(out.with_suffix(".safetensors")))
        if place.endswith("view"):
            return result._repr_html_(), {}
        return seen(result.plot()), {}

    return shown


PLACES = ("report", "film", "motion", "comparison", "robustness", "target")
RESULTS = [f"{result} {way}" for result in ("attribution", "unit", "top") for way in ("figure", "view", "again")]


def keyed(data):
    """Pairs of a frame and its seconds in nested data."""
    if isinstance(data, dict):
        for key, seconds in KEYS.items():
            if isinstance(data.get(key), int):
                yield data[key], data[seconds]
        for value in data.values():
            yield from keyed(value)
    elif isinstance(data, list):
        for value in data:
            yield from keyed(value)


@pytest.mark.parametrize("place", [*PLACES, *RESULTS])
@pytest.mark.filterwarnings("ignore::zoo.errors.ClipWarning")
def test_every_place_names_a_frame_by_its_time_and_index(places, place):
    text, data = places(place, TIMES)
    named = [(found["time"], int(found["frame"])) for found in NAMED.finditer(text)]
    assert named
    assert {(time, frame) for time, frame in named if time != f"{TIMES[frame]:.2f}"} == set()
    assert all(seconds == TIMES[frame] for frame, seconds in keyed(json.loads(json.dumps(data))))
    text, data = places(place, None)
    assert {found["time"] for found in NAMED.finditer(text)} == {None}
    assert all(seconds is None for _, seconds in keyed(json.loads(json.dumps(data))))


@pytest.mark.parametrize("result", ["attribution", "unit", "field"])
def test_axes_of_frames_give_times(places, result):
    assert re.search(r"(\d+)\n100\.\d\d s", places(f"{result} figure", TIMES)[0])
    assert " s\n" not in places(f"{result} figure", None)[0]


def test_maximization_names_moments_of_real_clips(fresh_watcher, tmp_path):
    model, _ = fresh_watcher()
    path = video(tmp_path / "square.mkv")
    made = explain.maximize(model, "late", [1, 2], steps=1)
    top = explain.top_clips(model, "late", [1, 2], [path], start=0.48)
    written = maximization.write(tmp_path / "out", model, made, name="watcher", top=top)
    found = [clip for row in maximization.rows(made, top) for clip in row["clips"]]
    assert found
    for clip in found:
        assert clip["seconds"] == pytest.approx(0.48 + clip["frame"] / 25)
        assert clip["moment"] == f"{clip['seconds']:.2f} s, frame {clip['frame']}"
        assert f"at {clip['moment']} of 0-11" in written.page.read_text()


def test_a_folder_names_moments_of_all_its_clips(fresh_watcher, tmp_path, monkeypatch):
    from explain.reporting.topics import when_and_where

    monkeypatch.setattr(when_and_where, "_peak", lambda *_: 7)
    model, _ = fresh_watcher()
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        video(tmp_path / "clips" / f"{name}.mkv")
    report = explain.report(model, tmp_path / "clips", tmp_path / "out", methods=["saliency"], start=0.48, n_steps=2)
    text, data = page(report)
    assert "most at 0.76 s, frame 7 of 0-11" in text
    (group, *_) = data["sections"]["time"]["groups"]
    assert group["methods"][0]["peak_seconds"] == pytest.approx([0.76, 0.76])
    for clip in data["sections"]["clips"]["clips"]:
        assert all(
            one is None or one["seconds"] == pytest.approx(0.48 + one["frame"] / 25)
            for one in clip["strongest"].values()
        )


@pytest.mark.parametrize("program", [zoo_commands, explain_commands], ids=["zoo", "explain"])
def test_every_command_that_takes_a_clip_takes_a_part_of_it(program):
    found = {}
    for name, command in program.commands.items():
        names = {parameter.name for parameter in command.params}
        takes_clip = any(
            parameter.name in {"clip", "clips"} and not isinstance(parameter.type, click.types.IntParamType)
            for parameter in command.params
        )
        if takes_clip:
            found[name] = {"start", "end"} <= names
    assert found
    assert all(found.values()), found


@pytest.mark.parametrize("package", [zoo, explain, zoo.clips])
def test_every_function_that_reads_a_clip_takes_a_part_of_it(package):
    """Those that take a clip by its file; others take a `Clip`, or a batch, which `zoo.preprocess` cuts."""
    found = {}
    for name in package.__all__:
        function = getattr(package, name)
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters
        reads = [parameters[one] for one in ("clip", "clips", "path", "source") if one in parameters]
        if any("PathLike" in str(one.annotation) or "Path" in str(one.annotation) for one in reads):
            found[name] = [(parameters[one].default if one in parameters else "missing") for one in ("start", "end")]
    assert found
    found.pop("check_exists", None)  # which reads nothing
    assert all(part == [0.0, None] for part in found.values()), found
