"""Code of plugins runs without changing this process, and cannot end it by an exception."""

from __future__ import annotations

import locale
import os
import random
import signal
import sys
import warnings

import numpy as np
import pytest
import torch

from zoo.errors import PluginError, ZooError, describe, one_line, shown
from zoo.isolation import contained, guarded


class UnreadableError(Exception):
    """Its message cannot be read, nor the object be shown."""

    def __str__(self):
        raise GeneratorExit

    __repr__ = __str__


class LyingError(Exception):
    """Its message is no str, and it claims to be another class."""

    __class__ = ZooError

    def __str__(self):
        return 7


class Text(str):
    __slots__ = ()

    def split(self, *_):
        raise RuntimeError


class OddError(Exception):
    def __str__(self):
        return Text("two\nlines \x1b[31m")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no"), "ValueError: no"),
        (ZooError("no"), "no"),
        (UnreadableError(), "UnreadableError: (UnreadableError, whose message cannot be read)"),
        (LyingError(), "LyingError: (LyingError, whose message cannot be read)"),
        (OddError(), "OddError: two lines \\x1b[31m"),
        (type("A\x1b[31m", (Exception,), {})("b"), "A\\x1b[31m: b"),
        (ValueError("x" * 10_000), "ValueError: " + "x" * 288),
    ],
)
def test_any_error_is_described_on_one_line(error, said):
    assert describe(error) == said


def test_any_value_is_shown_on_one_line():
    assert shown("a\n") == r"'a\n'"
    assert shown(UnreadableError()) == "a UnreadableError that cannot be shown"
    assert len(shown("x" * 1000)) == 80
    assert one_line(Text("a\tb")) == "a b"


class Skipped(BaseException):
    """As pytest raises it."""


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), KeyboardInterrupt("mine"), Skipped("no GPU")])
@pytest.mark.parametrize("context", [guarded, contained])
def test_what_code_raises_is_an_exception_that_names_it(context, error):
    with pytest.raises(PluginError, match=type(error).__name__) as caught, context():
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(2), ZooError("y")])
def test_an_exception_stays_itself(error):
    with pytest.raises(type(error)) as caught, contained():
        raise error
    assert caught.value is error


def _swallowed():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:  # noqa: BLE001 - as a plugin may
        return


def _changed():
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException as error:
        raise ValueError from error


@pytest.mark.parametrize("code", [lambda: signal.raise_signal(signal.SIGINT), _swallowed, _changed])
def test_ctrl_c_still_interrupts_whatever_the_code_does_with_it(code):
    with pytest.raises(KeyboardInterrupt), contained():
        code()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_a_handler_of_this_process_raises_gets_through():
    def handle(*_):
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        with pytest.raises(SystemExit, match="143"), contained():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is handle
    finally:
        signal.signal(signal.SIGTERM, before)


def _environment():
    os.environ.clear()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _paths():
    sys.path = ["/added", None]
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _streams():
    sys.stderr = sys.stdin = sys.stdout = None


def _signals():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(100)


def _random():
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the state that all code shares
    torch.manual_seed(1)


def _random_state():
    state = np.random.get_state()  # noqa: NPY002 - as above
    return random.getstate(), str(state), torch.get_rng_state().tolist()


def _torch():
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)


#: What code may change, and how to look at it.
CHANGES = {
    "warning filters": (lambda: warnings.simplefilter("once"), lambda: list(warnings.filters)),
    "where warnings go": (lambda: setattr(warnings, "showwarning", print), lambda: warnings.showwarning),
    "working directory": (lambda: os.chdir("/"), os.getcwd),
    "recursion limit": (lambda: sys.setrecursionlimit(sys.getrecursionlimit() // 2), sys.getrecursionlimit),
    "environment": (_environment, lambda: dict(os.environ)),
    "finders": (_paths, lambda: (list(sys.meta_path), list(sys.path_hooks))),
    "streams": (_streams, lambda: (sys.stdin, sys.stdout, sys.stderr)),
    "signals": (_signals, lambda: (signal.getsignal(signal.SIGINT), signal.getitimer(signal.ITIMER_REAL))),
    "locale": (lambda: locale.setlocale(locale.LC_ALL, "C"), lambda: locale.setlocale(locale.LC_ALL)),
    "random": (_random, _random_state),
    "errors of NumPy": (lambda: np.seterr(all="raise"), np.geterr),
    "torch": (_torch, lambda: (torch.get_default_dtype(), torch.is_grad_enabled())),
}


@pytest.fixture
def another_locale():
    before = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.usefixtures("another_locale")
def test_what_code_changes_is_put_back(what, fails):
    change, look = CHANGES[what]
    path, before = list(sys.path), look()
    try:
        with contained():
            change()
            changed = look()
            if fails:
                raise ValueError(what)
    except ValueError:
        assert fails
    assert changed != before
    assert look() == before
    assert sys.path[: len(path)] == path
    sys.path[:] = path


def test_a_recursion_limit_just_above_the_own_depth_is_put_back():
    before = sys.getrecursionlimit()

    def lower():
        for limit in range(20, before):
            try:
                sys.setrecursionlimit(limit)
            except RecursionError:
                continue
            return

    with contained():
        lower()
    assert sys.getrecursionlimit() == before


def test_folders_that_code_adds_come_last():
    before = list(sys.path)
    with contained():
        sys.path.insert(0, "/added")
    assert sys.path == [*before, "/added"]
    sys.path.remove("/added")


def test_what_code_prints_goes_to_stderr(capfd):
    with contained():
        print("loud")  # noqa: T201 - what is tested
    assert capfd.readouterr() == ("", "loud\n")
