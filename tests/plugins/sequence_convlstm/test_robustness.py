import json

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import zoo
from explain.cli import commands
from zoo import clips

MODEL = "sequence_convlstm_k16"
CHEAP = ("--weights", "none", "--perturbation", "missing_square=36", "--fill", "black", "--device", "cpu", "--json")


def run(*arguments):
    said = CliRunner().invoke(commands, ["robustness", MODEL, *map(str, arguments), *CHEAP])
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout), said.stderr


def errors(model, source):
    """Squared errors against the frame that follows: of the clip as it is, and where all of it is black."""
    frames = zoo.read_clip(source)[:, :, :, :1].float() / 255
    x = frames[:2].permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        found = [model(one)[0, 0, 0] for one in (x, torch.zeros_like(x))]
    return [float((one - frames[2, :, :, 0]).double().square().mean()) for one in found]


def test_a_clip_that_goes_on_says_what_should_have_been_predicted():
    model = zoo.load(MODEL, weights=None)
    found, _ = run("sample:digit_sequences/2")
    (measure,) = found["measures"].values()
    assert "against the true clip" in measure["summary"]
    mean = found["curves"]["missing_square"]["mean"]["output squared error"]
    assert mean == pytest.approx(errors(model, "sample:digit_sequences/2"), rel=1e-4)
    truth = zoo.read_clip("sample:digit_sequences/2")[2, :, :, 0].double() / 255
    assert measure["lines"] == {"a blank clip (zeros)": pytest.approx(float(truth.square().mean()))}


def test_of_many_clips_those_that_end_too_early_are_left_out(tmp_path):
    for name, frames in {"a": 2, "b": 5, "c": 3}.items():
        (tmp_path / name).mkdir()
        save_file(
            {"clip": zoo.read_clip("sample:digit_sequences/4")[:frames, :, :, :1].contiguous()},
            tmp_path / name / "x.safetensors",
        )
    listed = tmp_path / "clips.txt"
    listed.write_text("".join(f"{name}/x.safetensors\n" for name in "abc"))
    found, said = run(listed)
    assert found["samples"] == 2
    assert all("against the true clip" in measure["summary"] for measure in found["measures"].values())
    assert [one["reason"] for one in found["left_out"]] == ["it ends before the frames that the model predicts"]
    assert "a/x.safetensors is left out" in said
    listed.write_text("a/x.safetensors\n")
    found, said = run(listed)
    assert (found["samples"], found["left_out"]) == (1, [])
    assert "not with the truth" in said


def test_a_clip_without_more_frames_is_measured_against_the_unchanged_output(tmp_path):
    path = tmp_path / "short.safetensors"
    save_file({"clip": zoo.read_clip("sample:digit_sequences/4")[:2, :, :, :1].contiguous()}, path)
    found, said = run(path)
    assert found["curves"]["missing_square"]["mean"]["output squared error"][0] == 0
    assert "not with the truth" in said


def test_a_region_of_the_frame_is_followed_alone():
    model = zoo.load(MODEL, weights=None)
    frames = zoo.read_clip("sample:digit_sequences/2")[:, :, :, 0].float() / 255
    with torch.no_grad():
        given = model(frames[None, None, :2])[0, 0, 0]
    expected = float((given - frames[2]).double()[4:20, 10:12].square().mean())
    found, _ = run("sample:digit_sequences/2", "--target", "output[0, 4:20, 10:12]")
    ((name, mean),) = found["curves"]["missing_square"]["mean"].items()
    assert name.endswith("] squared error")
    assert mean[0] == pytest.approx(expected, rel=1e-4)


def test_frames_that_follow_are_those_behind_the_input():
    source = "sample:digit_sequences/1"
    frames = zoo.read_clip(source)[:, :, :, 0].float() / 255
    assert torch.equal(clips.following(source, MODEL, 3), frames[None, None, 2:5])
    assert torch.equal(clips.following(source, MODEL, 14), frames[None, None, 2:])
    assert clips.following(source, MODEL, 15) is None
    assert clips.following("sample:blinking_mnist", "conv3d", 1) is None  # spread over the whole clip
