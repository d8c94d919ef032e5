"""A region of an output that is a clip: a pixel, a frame, or a box in time and space, whose mean is what is explained.

In text, `output[3]` is frame 3, `output[3, 10:18, 4:12]` rows 10 to 17 and columns 4 to 11 of it, `output[y=5, x=7]`
one pixel in all frames. Whole axes are left out or written ":"; as in Python, the end of a range is not part of it and
negative numbers count from the end, but what lies outside is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Final

from zoo.errors import UsageError

#: First index, and the one behind the last; for frames, rows and columns.
Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

#: What may be said of one axis; None is all of it, and so is an end of a range that is not said.
Part = int | tuple[int | None, int | None] | slice | None

_AXES: Final = {"t": "frames", "y": "rows", "x": "columns"}

_TEXT: Final = re.compile(r"(?P<head>.*)\[(?P<parts>[^\[\]]*)\]", re.DOTALL)

_PART: Final = re.compile(
    r"\s*(?:(?P<axis>[tyx])\s*=)?\s*(?P<start>-?\d+)?\s*(?:(?P<range>:)\s*(?P<stop>-?\d+)?\s*)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an output clip, N x C x T x H x W or, of one frame, N x C x H x W; all channels belong to it.

    `Region("output", t=3)`, `Region("output", 3, slice(10, 18), (4, 12))`, `Region(t=-1)`.

    Raises:
        UsageError: A part is neither a number, a range of two numbers, a slice without a step, nor None.
    """

    #: The output; None is the first that is a clip.
    head: str | None = None
    #: Frames, rows and columns.
    t: Part = None
    y: Part = None
    x: Part = None

    def __post_init__(self) -> None:
        """Slices become pairs, so that regions can be compared and kept."""
        if self.head is not None and not isinstance(self.head, str):
            raise UsageError(f"the output of a region is a name, not {self.head!r}; for example Region('output', t=3)")
        for axis in _AXES:
            object.__setattr__(self, axis, _plain(axis, getattr(self, axis)))

    def __str__(self) -> str:
        """As it is written on a command line."""
        said = ", ".join(f"{axis}={_written(part)}" for axis in _AXES if (part := getattr(self, axis)) is not None)
        return f"{self.head or ''}[{said}]" if said or not self.head else self.head

    def bounds(self, shape: Sequence[int], head: str) -> Bounds:
        """What it is of an output of this shape.

        Raises:
            UsageError: The output is no clip, or the region lies outside, or holds nothing.
        """
        if len(shape) not in {4, 5}:
            raise UsageError(
                f"a region is part of a clip; output {head!r} is {_shown(shape)}, neither N x C x T x H x W nor "
                "N x C x H x W: give a callable target"
            )
        extent = (shape[2] if len(shape) == 5 else 1, *shape[-2:])
        times, rows, columns = (
            _limits(axis, getattr(self, axis), size, head) for axis, size in zip(_AXES, extent, strict=True)
        )
        return times, rows, columns

    def frames(self, count: int, head: str) -> tuple[int, int]:
        """What it is of an output with a row for each of `count` frames: the first, and the one behind the last.

        Raises:
            UsageError: It asks for rows or columns, or frames that there are not.
        """
        if self.y is not None or self.x is not None:
            raise UsageError(f"output {head!r} has no rows and columns, only frames; for example '{head}[3]'")
        return _limits("t", _plain("t", self.t), count, head)


def said(head: str, bounds: Bounds, shape: Sequence[int]) -> str:
    """A region of an output of this shape as text, which `parse` reads again: "output[t=3, y=10:18]".

    The output's name alone stands for all of it.
    """
    extent = (shape[2] if len(shape) == 5 else 1, *shape[-2:])
    parts = [
        f"{axis}={start}" if stop == start + 1 else f"{axis}={start}:{stop}"
        for axis, (start, stop), size in zip(_AXES, bounds, extent, strict=True)
        if (start, stop) != (0, size)
    ]
    return f"{head}[{', '.join(parts)}]" if parts else head


def parse(text: str) -> Region | None:
    """The region that a text asks for; None where it asks for none, as it does not end in brackets.

    Raises:
        UsageError: What stands in the brackets is no region.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    asked: dict[str, Part] = {}
    named = False
    for place, part in enumerate(found["parts"].split(",")):
        match = _PART.fullmatch(part)
        axis = match["axis"] if match else None
        named = named or axis is not None
        if axis is None and not named and place < len(_AXES):
            axis = list(_AXES)[place]
        if match is None or axis is None or axis in asked or not (match["start"] or match["range"]):
            raise UsageError(
                f"{text!r} is no region of an output: in brackets stand frames, rows and columns, each a number, "
                f"START:STOP or ':', in this order or by name; for example {found['head']}[3, 10:18, 4:12] or "
                f"{found['head']}[t=3]"
            )
        start, stop = (None if match[end] is None else int(match[end]) for end in ("start", "stop"))
        asked[axis] = (start, stop) if match["range"] else start
    return Region(found["head"] or None, asked.get("t"), asked.get("y"), asked.get("x"))


def _plain(axis: str, part: Any) -> int | tuple[int | None, int | None] | None:
    """A part as a number or a pair; None for a whole axis."""
    if isinstance(part, slice):
        ends: Any = (part.start, part.stop) if part.step in {None, 1} else None
    else:
        ends = part
    try:
        if isinstance(part, bool) or (ends is None and part is not None):
            raise TypeError
        if isinstance(ends, tuple | list):
            start, stop = (None if end is None else index(end) for end in ends)
            return None if start is None and stop is None else (start, stop)
        return None if ends is None else index(ends)
    except (TypeError, ValueError):
        raise UsageError(
            f"{axis} of a region is a number, two of them (the second is not part of it), a slice without a step or "
            f"None, not {part!r}"
        ) from None


def _written(part: int | tuple[int | None, int | None]) -> str:
    return ":".join("" if end is None else str(end) for end in part) if isinstance(part, tuple) else str(part)


def _limits(axis: str, part: int | tuple[int | None, int | None] | None, size: int, head: str) -> tuple[int, int]:
    """First index and the one behind the last, among `size`."""
    if part is None:
        return 0, size
    what = f"{axis}={_written(part)} is not in output {head!r}, whose {_AXES[axis]} are 0 to {size - 1}"
    if isinstance(part, int):
        start = part + size if part < 0 else part
        if not 0 <= start < size:
            raise UsageError(what)
        return start, start + 1
    ends = [default if end is None else end for end, default in zip(part, (0, size), strict=True)]
    start, stop = (end + size if end < 0 else end for end in ends)
    if not (0 <= start <= size and 0 <= stop <= size):
        raise UsageError(what)
    if start >= stop:
        raise UsageError(f"{axis}={_written(part)} of output {head!r} holds no {_AXES[axis]}: STOP is not part of it")
    return start, stop


def _shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
