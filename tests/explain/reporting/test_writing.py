"""Folders of results appear whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from explain.reporting import writing
from zoo.errors import OutputError


def write(folder, content=b"page"):
    return writing.write(folder, "report", {"answer": 42}, {"report.html": content})


def contents(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_folder_holds_the_files_and_the_index(tmp_path):
    folder = write(tmp_path / "deep" / "out")
    assert contents(folder) == ["report.html", "report.json"]
    index = json.loads((folder / "report.json").read_text())
    assert index == {"kind": "motion-zoo report", "files": ["report.html", "report.json"], "answer": 42}
    assert contents(folder.parent) == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    assert contents(write(tmp_path / "out")) == ["report.html", "report.json"]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_folder_that_is_there_stays_itself(tmp_path, monkeypatch, earlier):
    """The current folder, and a mounted one whose surroundings are not to be touched: it is never renamed."""
    (tmp_path / "out").mkdir(mode=0o775)
    monkeypatch.chdir(tmp_path / "out")
    if earlier:
        writing.write(".", "report", {}, {"old.html": b"old"})
    before = (tmp_path / "out").stat()
    monkeypatch.setattr(writing.Path, "rename", None)
    writing.check(".", "report")
    write(".")
    assert contents(tmp_path / "out") == ["report.html", "report.json"]
    assert ((tmp_path / "out").stat().st_ino, (tmp_path / "out").stat().st_mode) == (before.st_ino, before.st_mode)
    assert contents(tmp_path) == ["out"]


def test_what_a_killed_run_left_in_a_folder_is_not_in_the_way(tmp_path):
    (tmp_path / "out" / ".motion-zoo-1234").mkdir(parents=True)
    writing.check(tmp_path / "out", "report")
    assert (write(tmp_path / "out") / "report.html").read_bytes() == b"page"


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "._report.html",
        "Thumbs.db",
        "thumbs.db",
        "desktop.ini",
        ".ipynb_checkpoints",
        ".nfs0000a1",
        "@eaDir",
    ],
)
@pytest.mark.parametrize("kind", ["report", "attribution", "maximization"])
@pytest.mark.parametrize("earlier", [False, True])
def test_what_desktops_and_notebooks_leave_is_neither_in_the_way_nor_touched(tmp_path, name, kind, earlier):
    folder = tmp_path / "out"
    if earlier:
        writing.write(folder, kind, {}, {"old.html": b"old"})
    folder.mkdir(exist_ok=True)
    (folder / name).mkdir() if "check" in name else (folder / name).touch()
    writing.check(folder, kind)
    writing.write(folder, kind, {}, {"new.html": b"new"})
    assert contents(folder) == sorted([name, "new.html", f"{kind}.json"])


KILLED = """
import os, signal, sys
from explain.reporting import writing
from pathlib import Path

calls = 0
def killed(function):
    def call(*arguments, **options):
        global calls
        calls += 1
        if calls > int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

for name in ("replace", "unlink", "rename"):
    setattr(Path, name, killed(getattr(Path, name)))
writing.write(sys.argv[1], "report", {"run": 2}, {"both.html": b"2", "second.bin": b"2", "more.bin": b"2"})
"""


@pytest.mark.parametrize("calls", range(6))
@pytest.mark.parametrize("earlier", [False, True])
def test_a_folder_killed_between_any_two_renames_is_still_one_of_results(tmp_path, calls, earlier):
    folder = tmp_path / "out"
    if earlier:
        writing.write(folder, "report", {"run": 1}, {"both.html": b"1", "first.bin": b"1"})
    else:
        folder.mkdir()
    command = [sys.executable, "-c", KILLED, str(folder), str(calls)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == (0 if calls >= 4 + earlier else -signal.SIGKILL), done.stderr
    writing.check(folder, "report")
    writing.write(folder, "report", {"run": 3}, {"both.html": b"3"})
    assert contents(folder) == ["both.html", "report.json"]
    assert json.loads((folder / "report.json").read_text())["run"] == 3
    assert contents(tmp_path) == ["out"]


def test_the_index_comes_last(tmp_path, monkeypatch):
    folder, order, replace = write(tmp_path / "out"), [], writing.Path.replace

    def noted(self, target):
        order.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(writing.Path, "replace", noted)
    write(folder)
    assert order == ["report.html", "report.json"]


def test_an_index_that_lists_files_elsewhere_removes_none(tmp_path):
    folder = write(tmp_path / "out")
    (tmp_path / "thesis.tex").write_text("years of work")
    index = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**index, "files": [*index["files"], "../thesis.tex"]}))
    write(folder, b"new")
    assert contents(tmp_path) == ["out", "thesis.tex"]


def test_an_earlier_report_is_replaced(tmp_path):
    writing.write(tmp_path / "out", "report", {}, {"old.html": b"old"})
    write(tmp_path / "out", b"new")
    assert contents(tmp_path / "out") == ["report.html", "report.json"]
    assert (tmp_path / "out" / "report.html").read_bytes() == b"new"
    assert contents(tmp_path) == ["out"]


def test_a_folder_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        assert write(tmp_path / "out").stat().st_mode & 0o777 == 0o755
    finally:
        os.umask(before)


@pytest.mark.parametrize("function", [writing.check, lambda folder, kind: write(folder)])
def test_other_files_are_never_touched(tmp_path, function):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.tex"):
        function(tmp_path / "out", "report")
    assert contents(tmp_path / "out") == ["thesis.tex"]
    assert contents(tmp_path) == ["out"]


def test_a_report_with_a_file_added_is_not_replaced(tmp_path):
    folder = write(tmp_path / "out")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        write(folder, b"new")
    assert (folder / "report.html").read_bytes() == b"page"


def test_results_of_another_kind_are_not_replaced(tmp_path):
    folder = writing.write(tmp_path / "out", "maximization", {}, {})
    with pytest.raises(OutputError, match="other files"):
        write(folder)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="is a file"):
        writing.check(tmp_path / "out", "report")


def test_looking_leaves_nothing_behind(tmp_path):
    writing.check(tmp_path / "deep" / "out", "report")
    assert contents(tmp_path) == []


def test_a_folder_below_a_file_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        writing.check(tmp_path / "file" / "out", "report")


def test_an_unwritable_folder_is_told_before_any_work(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(OutputError, match="cannot write"):
        writing.check(locked / "out", "report")


def test_a_disk_that_fills_up_leaves_the_earlier_report(tmp_path):
    """A limit on the size of files stands for a full disk: a write fails half-way, the same way."""
    write(tmp_path / "out", b"earlier")
    code = f"""
        import resource, signal
        from explain.reporting import writing
        from zoo.errors import OutputError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            writing.write({str(tmp_path / "out")!r}, "report", {{}}, {{"report.html": b"x" * 9000}})
        except OutputError as error:
            print(error)
    """
    told = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True).stdout
    assert "cannot write" in told
    assert (tmp_path / "out" / "report.html").read_bytes() == b"earlier"
    assert contents(tmp_path) == ["out"]


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_leaves_no_half_report(tmp_path, kill, earlier):
    """Killed between two files, before anything was renamed."""
    if earlier:
        write(tmp_path / "out", b"earlier")
    code = f"""
        import os, signal
        from explain.reporting import writing

        signal.signal(signal.SIGINT, signal.default_int_handler)
        real_open = writing.Path.open
        def open_(self, *arguments, **keywords):
            if self.name == "second":
                os.kill(os.getpid(), {int(kill)})
            return real_open(self, *arguments, **keywords)
        writing.Path.open = open_
        writing.write({str(tmp_path / "out")!r}, "report", {{}}, {{"first": b"half", "second": b"never"}})
    """
    ended = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, check=False)
    assert ended.returncode != 0
    if earlier:
        assert (tmp_path / "out" / "report.html").read_bytes() == b"earlier"
    else:
        assert not (tmp_path / "out").exists()
    if kill == signal.SIGINT:
        assert contents(tmp_path) == (["out"] if earlier else [])


def test_numbers_that_json_cannot_hold_become_null():
    assert writing.plain({"a": [1, float("nan"), (float("inf"), 2.5)], "b": None}) == {
        "a": [1, None, [None, 2.5]],
        "b": None,
    }


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="set"):
        writing.plain({"a": {1}})
