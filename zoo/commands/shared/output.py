"""Output of all commands: results on stdout as text or JSON, everything else on stderr."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn, TextIO, cast

import click

from zoo.errors import FormerNameWarning, NotFiniteWarning, PluginWarning, ZooError
from zoo.plain import plain, unbroken, visible

#: Sequences that only tqdm may write, to place its bars: a leading carriage return, and moves up a line.
_MOVES = re.compile(r"(?:\n|\x1b\[A)*")

#: Stream of results while a command runs.
_results: TextIO | None = None


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """Meanwhile, only `emit` writes to stdout: what a plugin or a network prints goes to stderr."""
    global _results
    before, _results = _results, sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _results = before


def _keep_stdout() -> None:
    """Redirect writes of compiled code to descriptor 1 to stderr, until the process ends."""
    if sys.stdout is not sys.__stdout__ or sys.stdout is None:
        return  # somebody captures what is written
    with contextlib.suppress(OSError):  # one of them is closed
        kept = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = open(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: PTH123, SIM115


class Terminal:
    """A text stream that shows control characters and marks of direction instead of passing them on.

    Commands put it before stdout and stderr, so that no text of a file, a plugin, a server or a library steers a
    terminal, whoever writes it. Everything but writing is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text; a progress bar may begin it with a carriage return."""
        begins = text.startswith("\r")
        shown = text if _MOVES.fullmatch(text) else "\r" * begins + visible(text[begins:])
        self._stream.write(shown)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


def emit(data: Any, text: str | Sequence[str], *, as_json: bool) -> None:
    """Print one result: `data` as JSON and nothing else, or `text`; a pipe closed by its reader is ignored.

    A text that includes names, labels or other texts of files and plugins is passed as a list of lines: line breaks
    inside an element are escaped.
    """
    if not isinstance(text, str):
        text = "\n".join(map(unbroken, text))
    if as_json:
        import json

        text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        click.echo(visible(text), file=_results)
    except BrokenPipeError:  # the command continues: it may have files to write
        _discard(_results or sys.stdout)


def _discard(stream: TextIO | Terminal | None) -> None:
    """Let what a stream still holds go nowhere: at its end, Python would fail to write it once more."""
    with contextlib.suppress(OSError, ValueError):  # closed, or not a file
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def note(message: str) -> None:
    """Print a hint or a warning on one line of stderr, where it cannot disturb a result."""
    click.echo(unbroken(visible(message)), err=True)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format rows under a header, columns aligned: numbers to the right, text to the left."""
    rows = list(rows)
    cells = [[f"{cell:,}" if isinstance(cell, int) else visible(unbroken(cell)) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *cells]) for column in range(len(header))]
    numeric = [
        bool(rows) and all(isinstance(row[column], int | float) for row in rows) for column in range(len(header))
    ]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, cells)])


def run(commands: click.Group) -> NoReturn:
    """Run a command line: a `ZooError`, a full disk or Ctrl-C ends in one message and exit status 1, 2 or 130."""
    # Before torch loads OpenMP: threads that wait hand their core over; spinning makes busy machines far slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.simplefilter("ignore")  # a library's warnings are for its callers; a plugin's concern the user
    for category in (PluginWarning, FormerNameWarning, NotFiniteWarning):
        warnings.simplefilter("always", category)
    warnings.showwarning = lambda message, *_: note(f"warning: {message}")
    _keep_stdout()
    sys.stdout, sys.stderr = (
        stream if stream is None or isinstance(stream, Terminal) else cast("TextIO", Terminal(stream))
        for stream in (sys.stdout, sys.stderr)
    )
    atexit.register(gc.freeze)  # Python would look for cycles among all objects before it ends, 13 ms of `zoo list`
    try:
        status = commands.main(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # errors of a full disk are reported here, not at exit
    except click.exceptions.Abort:
        stop("interrupted", 130)  # the shell's code for Ctrl-C
    except click.ClickException as error:
        with io.StringIO() as shown:
            error.show(file=shown)
            usage = shown.getvalue().rstrip("\n")
        said = click.unstyle(error.format_message())  # as `show` writes it
        click.echo(visible(usage.replace(said, unbroken(said))), err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except ZooError as error:
        stop(str(error), error.exit_code)
    except OSError as error:
        _discard(sys.stdout)
        where = f" ({error.filename})" if error.filename else ""
        stop(f"{error.strerror or error}{where}", 1)
    except (RuntimeError, MemoryError, ImportError) as error:
        from zoo.devices import is_out_of_memory, shortage

        if shortage(error) is None:
            raise
        short = "memory" if is_out_of_memory(error) else "memory, threads or open files"
        stop(f"{short} ran out: {error}; use a smaller clip, free memory, or another device", 1)
    sys.exit(status if isinstance(status, int) else 0)  # click gives back the status of Context.exit


def stop(message: str, exit_code: int) -> NoReturn:
    """Print `message` as an error and end the process."""
    try:
        note(f"error: {message}")
    except OSError:  # stderr takes nothing either
        _discard(sys.stderr)
    sys.exit(exit_code)
