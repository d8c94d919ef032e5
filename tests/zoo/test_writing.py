import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from zoo.errors import OutputError
from zoo.writing import TEMPORARY, check_writable, sweep, temporary_prefix, write, write_tensors


def test_a_full_disk_is_an_error_and_leaves_the_file_before(tmp_path, full_disk):
    path = tmp_path / "checkpoint.safetensors"
    with path.open("wb") as file:
        file.write(b"before")
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors"):
        write_tensors(path, {"x": torch.zeros(1000)}, {})
    with pytest.raises(OutputError, match=r"cannot write .*checkpoint\.safetensors"):
        write(path, "x" * 1000)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's")
def test_a_folder_that_takes_no_files_is_not_said_to_be_missing(tmp_path):
    with pytest.raises(OutputError, match="the folder /proc takes no files"):
        check_writable(Path("/proc/x.json"))
    with pytest.raises(OutputError, match="does not exist; make it first"):
        check_writable(tmp_path / "no" / "x.json")


def test_a_name_that_is_too_long_is_told_before_any_work(tmp_path):
    with pytest.raises(OutputError, match="too long"):
        check_writable(tmp_path / ("x" * 300))
    write(tmp_path / ("x" * 250), "text")
    assert [len(path.name) for path in tmp_path.iterdir()] == [250]


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_process_left_is_removed_by_the_next_write(tmp_path, dead):
    own = temporary_prefix()
    theirs = own.replace(f"-{os.getpid()}-", f"-{dead}-")
    kept = {f"{own}0", f".x.json.{dead}", f"{TEMPORARY}01234567-{dead}-0", ".motion-zoology", "notes.txt"}
    for name in (f"{theirs}0", *kept):
        (tmp_path / name).touch()
    (tmp_path / f"{theirs}1").mkdir()
    (tmp_path / f"{theirs}1" / "x.html").touch()
    write(tmp_path / "x.json", "{}")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"x.json"}


def test_what_another_machine_left_is_removed_after_a_day(tmp_path):
    old, new = (tmp_path / f"{TEMPORARY}01234567-1-{name}" for name in "ab")
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


def test_a_process_that_was_killed_while_it_wrote_leaves_nothing_for_long(tmp_path):
    code = "import os, sys; from pathlib import Path; from zoo.writing import write;"
    code += "Path.replace = lambda *_: os.kill(os.getpid(), 9); write(Path(sys.argv[1]), 'text')"
    command = [sys.executable, "-c", code, str(tmp_path / "x.json")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    write(tmp_path / "x.json", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
