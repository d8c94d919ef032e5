import json

import av
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import zoo
from zoo.cli import commands

MODEL = "sequence_convlstm_k16"


def predict(clip, *options):
    said = CliRunner().invoke(commands, ["predict", MODEL, str(clip), "--weights", "none", *options])
    assert said.exit_code == 0, said.output
    return said.stdout


def mean_square(values):
    return float(values.double().square().mean())


def test_a_prediction_is_measured_against_the_frame_that_follows_beside_the_last_one_again():
    model = zoo.load(MODEL, weights=None)
    frames = zoo.read_clip("sample:digit_sequences/2")[:, :, :, 0].float() / 255
    with torch.no_grad():
        given = model(frames[None, None, :2])[0, 0, 0]
    head = json.loads(predict("sample:digit_sequences/2", "--json"))["prediction"]["output"]
    assert head["following_squared_error"] == pytest.approx(mean_square(given - frames[2]), rel=1e-4)
    assert head["repeated_squared_error"] == pytest.approx(mean_square(frames[1] - frames[2]), rel=1e-6)
    text = predict("sample:digit_sequences/2")
    assert f"what follows in the clip {head['following_squared_error']:.3g} (the last frame read, again: " in text


def test_a_clip_that_ends_with_the_input_says_nothing_of_what_follows(tmp_path):
    path = tmp_path / "short.safetensors"
    save_file({"clip": zoo.read_clip("sample:digit_sequences/4")[:2, :, :, :1].contiguous()}, path)
    assert "squared error" not in predict(path)
    assert "following_squared_error" not in json.loads(predict(path, "--json"))["prediction"]["output"]


def test_of_a_part_of_a_video_what_follows_is_looked_for_in_that_part(tmp_path):
    path = tmp_path / "noise.mkv"
    frames = torch.randint(256, (6, 36, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 36, 36, "gray"
        for frame in frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    read = zoo.read_clip(path, start=0.15)[:, :, :, :1].float() / 255
    head = json.loads(predict(path, "--start", "0.15", "--json"))["prediction"]["output"]
    assert torch.equal((read * 255)[..., 0].byte(), frames[2:])
    assert head["repeated_squared_error"] == pytest.approx(mean_square(read[1] - read[2]), rel=1e-3)
    assert "squared error" not in predict(path, "--start", "0.15", "--end", "0.35")
