"""Progress of long steps on stderr: one line that changes on a terminal, one line a step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds between two changes of the line.
_EVERY = 0.1


class Line:
    """Shows which step runs, how much of it is done, and how long it will take. A context manager."""

    def __init__(self) -> None:
        self._step = ""
        self._start = self._shown = 0.0
        self._changing = sys.stderr.isatty()
        self._wide = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._print("")

    def step(self, name: str) -> Callable[[int, int], None]:
        """The function to be called as progress(done, total) during the step `name`."""
        return lambda done, total: self.show(name, done, total)

    def show(self, step: str, done: int, total: int) -> None:
        """Tell that `done` of `total` parts of `step` are done."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._start, self._shown = step, now, 0.0
            if not self._changing:
                click.echo(step, err=True)
        if now - self._shown < _EVERY and done < total:
            return
        self._shown = now
        left = (now - self._start) * (total - done) / done if 0 < done < total else 0.0
        share = f"  {100 * done // total} %" if 0 < done < total else ""
        self._print(f"{step}{share}" + (f"  {left:.0f} s left" if left >= 1 else ""))

    def _print(self, text: str) -> None:
        if self._changing:
            click.echo(f"\r{text.ljust(self._wide)}", err=True, nl=False)
            self._wide = len(text)
            if not text:
                click.echo("\r", err=True, nl=False)
