"""No text from outside reaches a terminal as anything but text, whichever command shows it."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys

import pytest

import explain.cli
import zoo.cli
from explain.progress import Line
from zoo.commands.shared import output
from zoo.errors import PluginWarning

#: Sets a window's title, colors, erases the screen (as ESC and as C1), turns the line round, begins a line of its own.
STEERING = "a\x1b]0;OWNED\x07\x1b[31m\x9b2J\u202e\u2066"
HOSTILE = f"{STEERING}\r\nerror: fine"
PROGRAMS = {"zoo": zoo.cli, "explain": explain.cli}
COMMANDS = [
    (program, command) for program, module in PROGRAMS.items() for command in module.commands.list_commands(None)
]


def steering(text):
    """Characters that would do something, and lines that the hostile text began."""
    return re.findall(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]|^error: fine.*", text, re.MULTILINE
    )


@pytest.fixture
def run(monkeypatch, capsys):
    def call(program, *arguments):
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # a command puts a guard before them
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        with pytest.raises(SystemExit) as ended:
            PROGRAMS[program].main()
        shown = capsys.readouterr()
        assert steering(shown.out + "\n" + shown.err) == []
        return ended.value.code, shown.out, shown.err

    return call


@pytest.mark.parametrize(("program", "command"), COMMANDS)
def test_every_command_shows_hostile_arguments_as_text(run, program, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in ([HOSTILE], [f"--{HOSTILE}"], ["--json", HOSTILE], ["conv3d", HOSTILE], [HOSTILE, HOSTILE],
                      ["conv3d", "--device", HOSTILE], ["conv3d", "--weights", HOSTILE]):  # fmt: skip
        code, _, _ = run(program, command, *arguments)
        assert code in (0, 1, 2)


@pytest.fixture
def hostile_plugin(installed, tiny, monkeypatch):
    """A plugin that says hostile things wherever it may say anything, and one that fails with them."""
    said = tiny.replace("def zoo_models():\n        return [entry()]", f"""def zoo_models():
        print({STEERING!r}); import sys; print({STEERING!r}, file=sys.stderr)
        return [entry(summary={STEERING!r}, paper={STEERING!r},
                      outputs=(OutputSpec(name="shape", labels=({STEERING!r}, "b", "c")),)),
                entry({HOSTILE!r})]""")  # fmt: skip
    installed.add("hostile", said)
    installed.add("failing", f"raise RuntimeError({HOSTILE!r})")
    with pytest.warns(PluginWarning):
        installed.use(monkeypatch)


@pytest.mark.parametrize("command", ["list", "info", "load", "predict", "plugins", "check", "card", "verify", "export"])
def test_what_a_plugin_says_is_text(run, hostile_plugin, command, tmp_path, clip):
    named = {
        "list": [],
        "plugins": [],
        "check": ["hostile"],
        "predict": ["tiny", clip, "--weights", "none"],
        "load": ["tiny", "--weights", "none"],
        "export": ["tiny", "--weights", "none", "--out", tmp_path / "a.pt2"],
    }
    for flags in ([], ["--json"] * (command not in ("check",))):
        _, out, err = run("zoo", command, *named.get(command, ["tiny"]), *flags)
        assert "OWNED" in out + err or command in ("export", "verify", "load")


@pytest.fixture
def clip(tmp_path):
    """A folder of images under a hostile name."""
    from PIL import Image

    folder = tmp_path / "clips" / HOSTILE
    folder.mkdir(parents=True)
    for index in range(4):
        Image.new("L", (64, 64), 60 * index).save(folder / f"{index}.png")
    return folder


def test_a_file_with_a_hostile_name_is_shown_and_written_about(run, clip, tmp_path):
    assert run("zoo", "predict", "conv3d", clip, "--weights", "none")[0] == 0
    code, out, _ = run("zoo", "predict", "conv3d", clip, "--weights", "none", "--json")
    assert json.loads(out)
    named = ["conv3d", clip, "--weights", "none", "--method", "saliency"]
    assert run("explain", "attribute", *named, "--out", tmp_path / "maps")[0] == 0
    assert run("explain", "report", *named, "--section", "prediction", "--out", tmp_path / HOSTILE)[0] == 0
    shutil.copytree(clip, clip.with_name("another"))
    code, _, err = run("explain", "report", "conv3d", clip.parent, "--weights", "none", "--section", "predictions",
                       "--out", tmp_path / "many")  # fmt: skip
    assert code == 0
    assert "OWNED" in err


@pytest.mark.parametrize("bars", [True, False])
def test_progress_shows_the_name_of_a_step_as_text(monkeypatch, bars):
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    with Line(bars=bars) as line:
        line.show(HOSTILE, 1, 3)
        line.show(HOSTILE, 3, 3)
    assert "OWNED" in written.getvalue()
    assert steering(written.getvalue().replace("\r", "")) == []
    assert "\n" not in written.getvalue().rstrip("\n")


def test_the_guard_lets_progress_bars_move_and_nothing_else():
    written = io.StringIO()
    terminal = output.Terminal(written)
    for text in ("\rclip 1", "\n\n", "\x1b[A\x1b[A", "a\rb", "\x1b[31m", "\x1b[A evil"):
        terminal.write(text)
    terminal.writelines(["\x07", "end"])
    shown = "\rclip 1\n\n\x1b[A\x1b[Aa\\u000db\\u001b[31m\\u001b[A evil\\u0007end"
    assert written.getvalue() == shown


def test_an_error_that_nobody_expected_is_text(preloaded):
    done = preloaded(
        "zoo",
        code=f"""
import sys
import click
from zoo import cli
@cli.commands.command()
def fails():
    raise LookupError({HOSTILE!r})
sys.argv = ["zoo", "fails"]
cli.main()
""",
    )
    assert done.returncode == 1
    assert "OWNED" in done.stderr
    assert [found for found in steering(done.stderr) if not found.startswith("error: fine")] == []
