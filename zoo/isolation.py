"""Run the code of plugins without letting it change this process, or in a process of its own.

What cannot be contained is listed in SECURITY.md: code in this process may still end it (`os._exit`, a crash in
compiled code), replace functions of other modules, and leave threads or open files behind.
"""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, NamedTuple

from zoo.errors import PluginExitError, describe

#: Signals whose handlers are put back.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGPIPE", "SIGCHLD", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # not all systems have all of them
]
#: One thread at a time: standard streams, filters and the working directory belong to the whole process.
_one_at_a_time = threading.RLock()


@contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever the code inside raises into an Exception, except what a real signal raises.

    A KeyboardInterrupt, SystemExit or other BaseException that the code raises itself becomes a PluginExitError. What
    the process's own signal handlers raise (Ctrl-C, a SIGTERM that ends a training run) is raised again at the end,
    even where the code inside caught it. Handlers that the code installs are removed at the end.
    """
    raised: list[BaseException] = []

    def noting(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        def handle(number: int, frame: FrameType | None) -> Any:
            try:
                return handler(number, frame)
            except BaseException as error:
                raised.append(error)
                raise

        return handle

    main = threading.current_thread() is threading.main_thread()  # Python runs signal handlers there alone
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    timer = signal.getitimer(signal.ITIMER_REAL) if main and hasattr(signal, "getitimer") else None
    try:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, noting(handler))
        yield
    except Exception:
        if not raised:
            raise
    except BaseException as error:
        if not raised:
            raise PluginExitError(describe(error)) from error
    finally:
        if timer == (0.0, 0.0):
            signal.setitimer(signal.ITIMER_REAL, 0)  # an alarm that the code left would end the process
        for number, handler in handlers.items():
            if handler is not None:  # None: installed by compiled code, which Python cannot put back
                signal.signal(number, handler)
    if raised:
        raise raised[0]


@contextmanager
def contained() -> Iterator[None]:
    """Run code of a plugin as `guarded` does, and put back afterwards what it changed in this process.

    Restored are: the recursion limit, standard streams, warning filters, the working directory, environment variables,
    the locale, what `sys.path` and import hooks held (added folders stay, behind the others), and, of libraries loaded
    before, the state of random generators (random, NumPy, torch's on the CPU), NumPy's handling of floating-point
    errors, and torch's default type and gradient mode. What the code prints goes to stderr.
    """
    with _one_at_a_time, ExitStack() as restoring:
        for state in _STATES:
            module = sys.modules.get(state.module)
            with suppress(Exception):  # not loaded, or only in part; or there is no such state, as no working directory
                restoring.callback(_write, state, module, state.read(module))
        restoring.enter_context(warnings.catch_warnings())
        sys.stdout = sys.stderr
        restoring.enter_context(guarded())
        limit = sys.getrecursionlimit()
        try:
            yield
        finally:
            sys.setrecursionlimit(limit)  # before anything else, which may need more calls than are left


class _State(NamedTuple):
    """A piece of this process's state: the module it belongs to, how to read it, how to write it back."""

    module: str
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], Any]


def _write(state: _State, module: Any, value: Any) -> None:
    with suppress(Exception):  # such as a working directory that is gone
        state.write(module, value)


def _write_environment(module: Any, before: dict[str, str]) -> None:
    for name in set(module.environ) - set(before):
        del module.environ[name]
    for name, value in before.items():
        if module.environ.get(name) != value:
            module.environ[name] = value


def _read_imports(module: Any) -> list[tuple[str, list[Any], list[Any]]]:
    return [(name, getattr(module, name), list(getattr(module, name))) for name in ("path", "meta_path", "path_hooks")]


def _write_imports(module: Any, before: list[tuple[str, list[Any], list[Any]]]) -> None:
    for name, entries, kept in before:
        added = [entry for entry in getattr(module, name) if not any(entry is one or entry == one for one in kept)]
        # A folder that was added must not hide modules of others; a finder that was added is meant to come first.
        entries[:] = (
            [*kept, *(entry for entry in added if isinstance(entry, str))] if name == "path" else [*added, *kept]
        )
        setattr(module, name, entries)


def _write_streams(module: Any, before: tuple[Any, Any, Any]) -> None:
    module.stdin, module.stdout, module.stderr = before
    if module.stderr is not None and module.stderr.closed:
        module.stderr = open(2, "w", closefd=False, encoding=module.stderr.encoding, errors="backslashreplace")  # noqa: SIM115 - it stays open


#: Read and written as functions of the module, which may not be loaded.
_STATES = (
    _State("torch", lambda module: module.get_rng_state(), lambda module, value: module.set_rng_state(value)),
    _State("torch", lambda module: module.is_grad_enabled(), lambda module, value: module.set_grad_enabled(value)),
    _State("torch", lambda module: module.get_default_dtype(), lambda module, value: module.set_default_dtype(value)),
    _State("numpy.random", lambda module: module.get_state(), lambda module, value: module.set_state(value)),
    _State("numpy", lambda module: module.geterr(), lambda module, value: module.seterr(**value)),
    _State("random", lambda module: module.getstate(), lambda module, value: module.setstate(value)),
    _State(
        "locale",
        lambda module: module.setlocale(module.LC_ALL),
        lambda module, value: module.setlocale(module.LC_ALL, value),
    ),
    _State("os", lambda module: dict(module.environ), _write_environment),
    _State("os", lambda module: module.getcwd(), lambda module, value: module.chdir(value)),
    _State("sys", _read_imports, _write_imports),
    _State("sys", lambda module: (module.stdin, module.stdout, module.stderr), _write_streams),
)
