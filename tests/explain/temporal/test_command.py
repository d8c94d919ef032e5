"""`explain temporal`: what it prints, where, and how it ends."""

import json
import sys

import pytest
from torch import nn

from explain import cli
from explain.temporal import TemporalParameters
from zoo.commands.shared import output

FIRST = ("--layers", "body.res1_1.*", "--weights", "none", "--device", "cpu")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; gives its exit status, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["explain", "temporal", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            output.run(cli.commands)
        return ended.value.code, *capsys.readouterr()

    return call


def test_each_model_has_a_table_of_its_layers_and_one_of_what_patterns_do(run):
    status, out, _ = run("conv3d", "ts_conv3d_xl", *FIRST)
    assert status == 0
    for model, filters in (("conv3d", "16"), ("ts_conv3d_xl", "36")):
        part = out[out.index(f"{model}\n") :]
        row = next(line.split() for line in part.splitlines() if line.startswith("body.res1_1.main.conv"))
        assert row[1:8] == ["fit", "3", "x", "3", "x", "3", filters]
    assert out.count("all layers") == out.count("body.res1_1.main.conv") == 4


def test_json_is_the_only_thing_on_stdout_and_the_same_seed_gives_the_same(run):
    _, out, _ = run("conv3d", "conv3d", *FIRST, "--json", "--seed", 3)
    models = json.loads(out)["models"]
    assert list(models) == ["conv3d"]
    assert models["conv3d"]["statistics"]["motions"] == 32
    assert models["conv3d"]["layers"]["body.res1_1.main.conv"]["kernel_size"] == [3, 3, 3]
    assert list(models["conv3d"]["left_out"]) == ["body.res1_1.main.expand", "body.res1_1.shortcut"]
    assert run("conv3d", *FIRST, "--json", "--seed", 3)[1] == out
    assert run("conv3d", *FIRST, "--json", "--seed", 4)[1] != out


def test_a_folder_keeps_every_parameter_and_is_replaced_by_the_next_run(run, tmp_path):
    folder = tmp_path / "out"
    status, _, said = run("conv3d", *FIRST, "--out", folder)
    assert status == 0, said
    kept = json.loads((folder / "temporal.json").read_text())
    layer = kept["models"]["conv3d"]["layers"]["body.res1_1.main.conv"]
    assert [len(layer["parameters"]["scale"]), len(layer["pattern"]["rotation"][0])] == [2, 16]
    read = TemporalParameters.load(folder / "conv3d").layers["body.res1_1.main.conv"]
    assert read.scale.tolist() == layer["parameters"]["scale"]
    assert sorted(kept["files"]) == sorted(path.name for path in folder.iterdir())
    assert run("conv3d", *FIRST, "--out", folder)[0] == 0
    (folder / "mine.txt").touch()
    status, _, said = run("conv3d", *FIRST, "--out", folder)
    assert (status, "mine.txt" in said) == (1, True)


def test_a_model_that_is_one_layer_is_drawn(run, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.load", lambda *_, **__: nn.Conv3d(1, 2, 3))
    status, out, said = run("conv3d", "--out", tmp_path / "out")
    assert status == 0, said
    assert "(the model)" in out
    assert (tmp_path / "out" / "conv3d.model.webp").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("conv2d", "--weights", "none"), 1, "conv2d: the model has no 3D filters"),
        (("conv2d", "--weights", "none"), 1, "Conv3d (1 x 3 x 3) x 8"),
        (("conv3d", "--weights", "none", "--layers", "body.rse1_1"), 2, "conv3d: unknown layer 'body.rse1_1'; did you"),
        (("conv3d", "conv3"), 2, "unknown model 'conv3'"),
        ((), 2, "Missing argument"),
    ],
)
def test_a_mistake_is_one_message(run, arguments, status, said):
    ended, out, error = run(*arguments)
    assert (ended, out) == (status, "")
    assert said in error
    assert "Traceback" not in error
