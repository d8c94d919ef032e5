"""Progress and interruption: a bar where it is asked for, and everything as it was where a run is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import explain
from explain.progress import Line

#: Each long function on a network of these tests, by name.
LONG = {
    "attribute": lambda model, batch, progress: explain.attribute(
        model, batch, method=["saliency", "occlusion"], batch_size=1, progress=progress
    ),
    "applicability": lambda model, batch, progress: explain.applicability(model, batch, progress=progress),
    "maximize": lambda model, batch, progress: explain.maximize(
        model, "block.0", [0, 1], shape=batch.shape[1:], steps=3, progress=progress
    ),
    "temporal_parameters": lambda model, batch, progress: explain.temporal_parameters(model, progress=progress),
    "view_units": lambda model, batch, progress: explain.view_units(
        model, batch[:1], "stem.0", 1, steps=2, progress=progress
    ),
    "check_faithfulness": lambda model, batch, progress: explain.check_faithfulness(
        model, batch, explain.attribute(model, batch, method="saliency"), steps=2, draws=2, depths=2, progress=progress
    ),
}


@pytest.fixture
def subject(nets):
    model = nets.Rectified().train()
    model.zoo_entry = nets.entry(outputs=nets.DIGIT_AND_SPEED)
    return model, torch.randn(2, 1, 4, 6, 6)


@pytest.mark.parametrize("name", LONG)
def test_a_run_that_is_interrupted_anywhere_leaves_everything_as_it_was(nets, subject, name):
    calls, before = [], nets.fingerprint(subject[0])
    LONG[name](*subject, lambda *told: calls.append(told))
    assert calls
    for ended in sorted({0, len(calls) // 2, len(calls) - 1}):
        passed = 0

        def interrupt(*_, ended=ended):
            nonlocal passed
            if passed == ended:
                raise KeyboardInterrupt
            passed += 1

        with pytest.raises(KeyboardInterrupt):
            LONG[name](*subject, interrupt)
        assert nets.fingerprint(subject[0]) == before


@pytest.mark.parametrize("name", LONG)
def test_true_shows_a_bar_with_the_time_left_and_nothing_else_changes(subject, capsys, name):
    LONG[name](*subject, None)
    assert capsys.readouterr() == ("", "")
    LONG[name](*subject, True)
    out, err = capsys.readouterr()
    assert out == ""
    assert " % |" in err
    assert " left" in err
    assert err.rpartition("\r")[0].rpartition("\r")[2].strip() == ""  # the last bar was wiped away


@pytest.mark.parametrize("name", ["attribute", "check_faithfulness"])
def test_counts_never_fall_within_a_step_and_end_at_their_total(subject, name):
    steps: dict[str, list[tuple[int, int]]] = {}
    LONG[name](*subject, lambda *told: steps.setdefault(told[0] if len(told) == 3 else "", []).append(told[-2:]))
    for told in steps.values():
        assert told[-1][0] == told[-1][1]
        if name != "attribute":  # it tells of two methods
            assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_commands_tell_each_step_once_where_no_terminal_is(capsys):
    with Line(bars=False) as line:
        tell = line.step("one")
        tell(0, 2)
        tell(2, 2)
        line.show("two", 1, 1)
    assert capsys.readouterr() == ("", "one\ntwo\n")


def test_a_bar_begins_again_where_a_step_does(capsys):
    with Line(bars=True) as line:
        for done, total in ((4, 8), (1, 16), (16, 16)):
            line.show("one", done, total)
            assert (line._bar.n, line._bar.total) == (done, total)
    assert "one  100 % |" in capsys.readouterr().err


def test_a_command_ended_by_ctrl_c_says_so_and_leaves_nothing_behind(tmp_path):
    out = tmp_path / "out"
    command = (
        "attribute conv3d sample:blinking_mnist --weights none --device cpu --method rise --n-samples 1000000 --out"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", "from explain.cli import main; main()", *command.split(), str(out)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert run.stderr.readline() == "rise\n"
    time.sleep(0.2)  # into the work
    run.send_signal(signal.SIGINT)
    said, told = run.communicate(timeout=200)
    assert (run.returncode, said) == (130, "")
    assert told.endswith("error: interrupted\n")
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []
