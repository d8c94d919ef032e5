"""Size limits of clips."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import ClipError
from zoo.limits import LONGEST_SIDE

#: Bytes of a decoded clip; longer ones are sampled, or cut with `start` and `end`.
MAX_BYTES = 2 * 1024**3
#: Frames of a clip, of which those that are kept count as bytes.
MAX_FRAMES = 2**20
#: Pixels of one frame; no side is longer than `LONGEST_SIDE`.
MAX_PIXELS = 2**26


def check_size(source: str | Path, height: int, width: int, count: int = 1) -> None:
    """Raise ClipError if frames of this size, or `count` of them together, are too large."""
    if height * width > MAX_PIXELS or max(height, width) > LONGEST_SIDE:
        raise ClipError(
            f"{source} has frames of {width} x {height} pixels; expected at most {LONGEST_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in all: scale it down first"
        )
    if 3 * count * height * width > MAX_BYTES:
        raise ClipError(
            f"{source} takes more than {MAX_BYTES // 1024**2:,} MiB decoded; take fewer `frames`, "
            "or a part of it with `start` and `end`"
        )


def check_count(source: str | Path, count: int) -> None:
    """Raise ClipError if a clip has too many frames."""
    if count > MAX_FRAMES:
        raise ClipError(f"{source} has {count:,} frames; expected at most {MAX_FRAMES:,}: cut it into shorter clips")
