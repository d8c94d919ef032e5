"""Progress of long steps on stderr: a bar with the remaining time on a terminal, one line per step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from zoo.errors import one_line

#: Callback signatures: progress(done, total) and tell(step, done, total).
Progress = Callable[[int, int], None]
Tell = Callable[[str, int, int], None]

#: Progress argument of public functions: True shows a bar, None and False show nothing.
Followed = Progress | bool | None
Told = Tell | bool | None

#: Seconds between two updates of the bar.
_EVERY = 0.1
_FORMAT = "{desc}  {percentage:3.0f} % |{bar}| {remaining} left"


class Line:
    """Progress display of the current step: the share that is done and the remaining time. A context manager.

    Args:
        bars: Whether steps are shown as bars; None does so on a terminal.
    """

    def __init__(self, *, bars: bool | None = None) -> None:
        self._bars = sys.stderr.isatty() if bars is None else bars
        self._step: str | None = None
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def step(self, name: str) -> Progress:
        """Return the callback progress(done, total) of the step `name`."""
        return lambda done, total: self.show(name, done, total)

    def show(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` parts of `step` are done; a step may be named after a file."""
        step = one_line(step)
        if step != self._step:
            self._close()
            self._step = step
            if self._bars:
                from tqdm import tqdm

                self._bar = tqdm(
                    total=total,
                    desc=step,
                    leave=False,
                    file=sys.stderr,
                    dynamic_ncols=True,
                    mininterval=_EVERY,
                    bar_format=_FORMAT,
                )
            else:
                sys.stderr.write(f"{step}\n")
                sys.stderr.flush()
        if self._bar is None:
            return
        if done < self._bar.n:  # the step restarted, for example after running out of memory
            self._bar.reset(total)
        self._bar.total = total
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.refresh()

    def _close(self) -> None:
        """Remove the bar, so that later output begins on an empty line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def following(progress: Followed) -> Iterator[Callable[[str], Progress | None]]:
    """Return the callback of each step, by the step's name, for the `progress` argument of a public function.

    Args:
        progress: A function, called as progress(done, total) in every step; True shows a bar for each on stderr; None
            and False show nothing.
    """
    if progress is True:
        with Line(bars=True) as line:
            yield line.step
    else:
        yield lambda _: progress or None


@contextmanager
def telling(progress: Told) -> Iterator[Tell]:
    """Return the same for callbacks of the form progress(step, done, total)."""
    if progress is True:
        with Line(bars=True) as line:
            yield line.show
    else:
        yield progress or (lambda *_: None)
