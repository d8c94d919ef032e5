"""`zoo new-plugin` writes a package that is whole, installable and keeps the contract; else it writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo
from zoo import cli
from zoo.authors import scaffolding, testing
from zoo.errors import OutputError, UsageError
from zoo.registry import catalog, plugins


def test_a_new_plugin_passes_every_check(generated):
    outcomes = list(testing.run(testing.cases("my_clips")))
    assert {outcome.result for outcome in outcomes} == {"passed"}, outcomes
    assert {outcome.subject for outcome in outcomes} == {"my_clips"}
    assert zoo.info("zoo-my-clips:my_clips").card == "zoo_my_clips:cards/my_clips.md"
    assert zoo.load("my_clips", weights=None).classifier.out_features == 2


def test_a_new_plugin_passes_its_own_tests(generated, tmp_path):
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{generated}"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=generated,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(testing.PLUGIN_CHECKS) + len(testing.MODEL_CHECKS)} passed" in done.stdout


def command(monkeypatch, *arguments):
    """Run a command of `zoo` in this process; gives its exit status."""
    monkeypatch.setattr(sys, "argv", ["zoo", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_weights_of_a_new_plugin_are_trained_copied_and_listed(generated, tmp_path, monkeypatch, capsys):
    package = generated / "zoo_my_clips"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, before, after in (
        ("__init__.py", "steps=150", "steps=2"),
        ("__init__.py", "batch_size=16", "batch_size=2"),
        ("training.py", "1, 200\n", "1, 6\n"),
    ):
        text = (package / name).read_text()
        assert text.count(before) == 1
        (package / name).write_text(text.replace(before, after))
    assert command(monkeypatch, "train", "my_clips.squares", "--out", tmp_path / "run") == 0
    assert 'zoo.bundled_weights("zoo_my_clips")' in capsys.readouterr().err

    for made in (tmp_path / "run").glob("my_clips.squares.*"):
        (package / "weights" / made.name).write_bytes(made.read_bytes())
    for name in [name for name in sys.modules if name.startswith("zoo_my_clips")]:
        del sys.modules[name]
    plugins.registry.cache_clear()
    catalog.listings.cache_clear()
    assert command(monkeypatch, "card", "my_clips", "--write") == 0
    outcomes = list(testing.run(testing.cases("my_clips")))
    assert {outcome.result for outcome in outcomes} == {"passed"}, outcomes
    assert "1 metrics, recipe my_clips.squares" in {outcome.detail for outcome in outcomes}
    capsys.readouterr()
    assert command(monkeypatch, "evaluate", "my_clips") == 0
    assert "always left" in capsys.readouterr().out
    assert command(monkeypatch, "train", "my_clips.squares", "--out", tmp_path / "run") == 0
    assert "bundled_weights" not in capsys.readouterr().err  # they are listed


def test_a_new_plugin_keeps_our_style(generated):
    root = Path(__file__).parents[3]
    command = ["ruff", "check", "--config", str(root / "pyproject.toml"), str(generated / "zoo_my_clips")]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_holds_every_file_and_nothing_else(tmp_path):
    files = scaffolding.new_plugin("my_clips", tmp_path / "new")
    assert [str(path.relative_to(tmp_path / "new")) for path in files] == [
        "README.md",
        "pyproject.toml",
        "tests/test_conformance.py",
        "zoo_my_clips/__init__.py",
        "zoo_my_clips/cards/my_clips.md",
        "zoo_my_clips/networks.py",
        "zoo_my_clips/py.typed",
        "zoo_my_clips/training.py",
        "zoo_my_clips/weights/README.md",
    ]
    assert not any("{{" in path.read_text() for path in files)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    mode = (tmp_path / "new").stat().st_mode
    (tmp_path / "plain").mkdir()
    assert mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("My-Plugin", "my_plugin"),
        ("3d", "such as d"),
        ("../up", "such as up"),
        ("class", "my_models"),
        ("", "my_models"),
        ("a__b", "a_b"),
        ("a_", "such as a"),
        ("é", "my_models"),
        ("a b; import os", "a_b_import_os"),
        ("a\n", "such as a"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_one_that_can(tmp_path, name, near):
    with pytest.raises(UsageError, match=near):
        scaffolding.new_plugin(name, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for place in ("file", "full"):
        with pytest.raises(UsageError, match="not empty, and nothing is overwritten"):
            scaffolding.new_plugin("my_clips", tmp_path / place)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert len(scaffolding.new_plugin("my_clips", tmp_path / "empty")) == 9


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(OutputError, match="make it first"):
        scaffolding.new_plugin("my_clips", tmp_path / "no" / "such")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        scaffolding.new_plugin("my_clips", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_the_command_names_the_files_and_the_next_step(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["zoo", "new-plugin", "my_clips", "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert stopped.value.code == 0
    assert "pyproject.toml" in json.loads(captured.out)["files"]
    assert "pip install --editable my_clips && zoo check my_clips" in captured.err
    assert (tmp_path / "my_clips" / "pyproject.toml").is_file()
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2


@pytest.mark.parametrize("name", ["all", "a" * 101])
def test_a_plugin_has_no_name_that_its_model_could_not_have(tmp_path, name):
    with pytest.raises(UsageError, match=name[:10]):
        scaffolding.new_plugin(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()
