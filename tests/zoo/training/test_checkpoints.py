import dataclasses
import errno
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.errors import OutputError, TrainingError
from zoo.training import checkpoints
from zoo.training.checkpoints import CHECKPOINT, LOG
from zoo.training.loop import train

WEIGHTS, GOLDEN, RECORD = (f"regression.plain{end}" for end in (".safetensors", ".golden.safetensors", ".json"))


@pytest.fixture
def plain(regression):
    return regression.RECIPES[0]


def whole_files(folder):
    """Names of the files that are to be seen, each read."""
    for path in folder.iterdir():
        if path.suffix == ".safetensors" and not path.name.startswith("."):
            assert load_file(path)
        elif path.suffix == ".json" and not path.name.startswith("."):
            assert json.loads(path.read_text()) is not None
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_run_killed_at_the_worst_moments_goes_on_to_the_same_bytes(processes, plain, tmp_path):
    expected = train(plain, tmp_path / "whole", progress=False)
    folder = tmp_path / "killed"
    arguments = ("train", plain.name, "--out", str(folder), "--checkpoint-every", "0", "--device", "cpu")
    steps = []
    for moment, name, count in [
        ("half", CHECKPOINT, 1),
        ("after", CHECKPOINT, 1),
        ("half", CHECKPOINT, 2),
        ("before", CHECKPOINT, 3),
        ("half", LOG, 1),
        ("before", CHECKPOINT, 4),  # in the second stage
        ("half", WEIGHTS, 1),
        ("before", GOLDEN, 1),
        ("half", RECORD, 1),
    ]:
        ended = processes.run("command_killed_at", moment, name, count, *arguments)
        assert (moment, name, ended.status) == (moment, name, -signal.SIGKILL)
        seen = whole_files(folder)
        steps.append(checkpoints.position(plain, folder)["step"] if CHECKPOINT in seen else None)
        assert RECORD not in seen
    assert steps == [None, 1, 2, 4, 5, 1, 0, 0, 0]
    assert processes.run("command", *arguments).status == 0
    for name in (WEIGHTS, GOLDEN):
        assert (folder / name).read_bytes() == (expected.parent / name).read_bytes()
    assert {path.name for path in folder.iterdir()} == {CHECKPOINT, LOG, WEIGHTS, GOLDEN, RECORD}


@pytest.mark.parametrize("full", [CHECKPOINT, LOG, WEIGHTS, GOLDEN, RECORD])
def test_a_disk_that_is_full_at_any_file_costs_nothing_that_was_there(plain, tmp_path, monkeypatch, full):
    expected = train(plain, tmp_path / "whole", progress=False).read_bytes()
    folder = tmp_path / "out"
    train(plain, folder, progress=False, minutes=0)
    before = load_file(folder / CHECKPOINT)
    write = Path.write_bytes

    def part(path, content):
        if path.name.endswith(f"-{full}"):
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", part)
        with pytest.raises(OutputError, match=f"cannot write .*{full}: No space left"):
            train(plain, folder, progress=False)
    assert RECORD not in whole_files(folder)
    if full == CHECKPOINT:
        torch.testing.assert_close(load_file(folder / CHECKPOINT), before, rtol=0, atol=0)
    assert train(plain, folder, progress=False).read_bytes() == expected


def test_the_command_says_in_one_message_that_the_disk_is_full(processes, plain, tmp_path):
    arguments = ("train", plain.name, "--out", str(tmp_path / "out"), "--device", "cpu")
    ended = processes.run("command_on_a_full_disk", 1000, *arguments)
    assert (ended.status, ended.out, len(ended.errors)) == (1, "", 1)
    assert f"cannot write {tmp_path / 'out' / CHECKPOINT}" in ended.errors[0]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_checkpoint_is_four_numbers_a_parameter(plain, tmp_path):
    train(plain, tmp_path, progress=False, until="first")
    after_stage = (tmp_path / CHECKPOINT).stat().st_size
    train(plain, tmp_path, progress=False, minutes=0)
    tensors = load_file(tmp_path / CHECKPOINT)
    names = {name.partition(".")[0] for name in tensors}
    assert names == {"module", "average", "moment"}
    parameters = 3 * 4 + 4 + 4 + 4 + 4 + 1 + 3 + 1
    held = sum(value.numel() for value in tensors.values())
    buffers, counts = 4 + 4 + 1, 8  # BatchNorm's; and AdamW counts steps for each of eight parameters
    assert held == 4 * parameters + buffers + counts
    assert after_stage < (tmp_path / CHECKPOINT).stat().st_size


@pytest.mark.parametrize("cut", [4, 100, -1])
def test_a_truncated_checkpoint_is_named(plain, tmp_path, cut):
    train(plain, tmp_path, progress=False, minutes=0)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TrainingError, match=r"checkpoint\.safetensors is no checkpoint; delete it to start anew"):
        train(plain, tmp_path, progress=False)


def test_a_checkpoint_that_is_a_folder_is_named(plain, tmp_path):
    (tmp_path / CHECKPOINT).mkdir()
    with pytest.raises(TrainingError, match=r"cannot be read|is no checkpoint"):
        train(plain, tmp_path, progress=False)


def test_a_checkpoint_from_before_its_start_was_kept_is_gone_on_from(plain, tmp_path):
    train(plain, tmp_path, progress=False, minutes=0)
    state, tensors = checkpoints.read(tmp_path, plain)
    del state["start"]
    save_file(tensors, tmp_path / CHECKPOINT, metadata={"training": json.dumps(state)})
    assert train(plain, tmp_path, progress=False)


def test_two_runs_do_not_share_a_folder(plain, tmp_path):
    with (
        checkpoints.held(tmp_path),
        pytest.raises(TrainingError, match=r"another run is training in .*choose another folder"),
    ):
        train(plain, tmp_path, progress=False)
    assert train(plain, tmp_path, progress=False)


def test_remains_of_killed_runs_are_cleared_and_nothing_else(plain, tmp_path):
    kept = [".git", ".notes.txt", ".x.7", "a.safetensors.12"]
    folder = tmp_path / "out"
    folder.mkdir()
    for name in (*kept, ".motion-zoo-01234567-4711-0"):
        (folder / name).write_text("")
    checkpoints.clear_remains(folder)
    assert sorted(path.name for path in folder.iterdir()) == kept


def test_a_run_is_finished_where_weights_and_record_are_of_this_recipe(plain, tmp_path):
    def changed(**stage):
        first, second = plain.stages
        return dataclasses.replace(plain, stages=(dataclasses.replace(first, **stage), second))

    train(plain, tmp_path, progress=False, until="second")
    assert checkpoints.finished(plain, tmp_path) is None
    path = train(plain, tmp_path, progress=False)
    assert checkpoints.finished(plain, tmp_path) == path
    assert checkpoints.finished(dataclasses.replace(plain, summary="other words"), tmp_path) == path
    assert checkpoints.finished(plain, tmp_path, start="0" * 64) is None
    assert checkpoints.finished(dataclasses.replace(plain, seed=1), tmp_path) is None
    assert checkpoints.finished(changed(steps=7), tmp_path) is None
    record = json.loads((tmp_path / RECORD).read_text())
    assert record.pop("clips_asked") is None
    del record["recipe"]["stages"][0]["recalibration"]  # a record from before that setting existed
    (tmp_path / RECORD).write_text(json.dumps(record))
    assert checkpoints.finished(plain, tmp_path) == path
    assert checkpoints.finished(plain, tmp_path, clips=500) == path
    for asked, enough in ((None, [1, 500, 501, None]), (500, [1, 500]), ("all", [])):
        (tmp_path / RECORD).write_text(json.dumps({**record, "clips_asked": asked}))
        assert [clips for clips in (1, 500, 501, None) if checkpoints.finished(plain, tmp_path, clips=clips)] == enough
    (tmp_path / RECORD).write_text(json.dumps(record))
    path.unlink()
    assert checkpoints.finished(plain, tmp_path) is None
    (tmp_path / RECORD).write_text("[]")
    assert checkpoints.finished(plain, tmp_path) is None
