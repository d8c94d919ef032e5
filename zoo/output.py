"""The one place that prints: results on stdout as text or JSON, everything else on stderr."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import gc
import math
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import click

from zoo.errors import FormerNameWarning, NotFiniteWarning, PluginWarning, ZooError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO


#: Characters by which a stranger's text (a label, a licence) could steer a terminal or turn a line round: shown as JSON
#: writes them, so that a document stays the same one.
_STEERING = {
    code: f"\\u{code:04x}"
    for code in (
        *(*range(9), *range(11, 32), *range(127, 160)),
        *(0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)),
        *(*range(0xD800, 0xE000), 0xFFFE, 0xFFFF),  # what no encoding, or no XML, may hold
    )
}


#: Where results go while a command runs.
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
    """From now on, what compiled code writes to descriptor 1 goes to stderr; the process ends with its command."""
    if sys.stdout is not sys.__stdout__ or sys.stdout is None:
        return  # somebody captures what is written
    with contextlib.suppress(OSError):  # one of them is closed
        kept = os.dup(1)
        os.dup2(2, 1)
        sys.stdout = open(kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: PTH123, SIM115


def emit(data: Any, text: str, *, as_json: bool) -> None:
    """Print one result: `data` as JSON and nothing else, or `text`; to nobody where the reader of a pipe left early."""
    if as_json:
        import json

        text = json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        click.echo(visible(text), file=_results)
    except BrokenPipeError:  # the command goes on: it may have files to write
        os.dup2(os.open(os.devnull, os.O_WRONLY), (_results or sys.stdout).fileno())


def plain(value: Any) -> Any:
    """`value` as JSON holds it; data classes become objects, and numbers that are not finite null.

    Raises:
        TypeError: for anything that JSON cannot hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


def note(message: str) -> None:
    """Print a hint or a warning on stderr, where it cannot spoil a result."""
    click.echo(visible(message), err=True)


def visible(text: str) -> str:
    """A text whose control characters, line breaks excepted, and marks of direction can be seen and do nothing."""
    return text.translate(_STEERING)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under a header, columns aligned: numbers to the right, text to the left."""
    rows = list(rows)
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
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
    atexit.register(gc.freeze)  # Python would look for cycles among all objects before it ends, 13 ms of `zoo list`
    try:
        status = commands.main(standalone_mode=False)
    except click.exceptions.Abort:
        stop("interrupted", 130)  # as a shell says of Ctrl-C
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except ZooError as error:
        stop(str(error), error.exit_code)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        stop(f"{error.strerror or error}{where}", 1)
    except (RuntimeError, MemoryError) as error:
        from zoo.devices import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        stop(f"memory ran out: {error}; use a smaller clip, free memory, or another device", 1)
    sys.exit(status if isinstance(status, int) else 0)  # click gives back the status of Context.exit


def stop(message: str, exit_code: int) -> NoReturn:
    """Print `message` as an error and end the process."""
    note(f"error: {message}")
    sys.exit(exit_code)
