"""A clip: frames, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

#: The attribute of a batch that holds the seconds of its frames, and how often the batch had been changed by then.
_TIMES = "zoo_times"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames and where they come from."""

    #: uint8, T x H x W x 3, RGB.
    frames: Tensor
    #: The path or sample name as it was given.
    source: str
    #: Index of each frame in the source (from `start` on), T of them.
    indices: tuple[int, ...]
    #: Frames in the source (between `start` and `end`); as its header declares where reading stopped before the end.
    total: int
    #: Frames per second of the source, if it has a rate.
    fps: float | None = None
    #: Label of the clip, if known.
    label: str | None = None
    #: Class by category ("digit" -> "4"), if a sample has one.
    classes: Mapping[str, str] = field(default_factory=dict)
    #: Warnings for readers, such as missing frames.
    warnings: tuple[str, ...] = ()
    #: Seconds of each frame on the clock of the source, T of them in ascending order; None if they are not known.
    times: tuple[float, ...] | None = None
    #: Seconds at which reading began and, if it did not go to the end, stopped.
    start: float = 0.0
    end: float | None = None


def instant(frame: int, times: Sequence[float] | Mapping[int, float] | None, last: int | None = None) -> str:
    """Format a frame by its time and index, or a run of frames up to `last`; without times by index alone.

    "1.53 s, frame 46", "frame 46", "1.53-1.67 s, frames 46-50".
    """
    ends = (frame,) if last is None or last == frame else (frame, last)
    index = f"frame{'s' * (len(ends) > 1)} {'-'.join(map(str, ends))}"
    return index if times is None else f"{'-'.join(f'{times[end]:.2f}' for end in ends)} s, {index}"


def moment(frame: int, count: int, *times: Sequence[float] | None) -> str:
    """Format the time of one of `count` frames: "at 1.53 s, frame 46 of 0-47", or "in frame 46 of 0-47" without times.

    Args:
        frame: Index of the frame.
        count: Number of frames.
        times: Seconds of each frame, for each clip in question. Of several clips the earliest and the latest are given:
            "at 1.53-1.60 s, frame 46 of 0-47".
    """
    index = f"frame {frame} of 0-{count - 1}"
    seconds = [known[frame] for known in times if known is not None and len(known) == count]
    if not seconds or len(seconds) < len(times):
        return f"in {index}"
    ends = dict.fromkeys(f"{second:.2f}" for second in (min(seconds), max(seconds)))
    return f"at {'-'.join(ends)} s, {index}"


def timed(batch: Tensor, times: Sequence[float] | None) -> Tensor:
    """Record the source times in seconds of the frames of a batch of one sample, for `times_of`."""
    if times is not None and not batch.is_inference():
        setattr(batch, _TIMES, (tuple(times), batch._version))  # noqa: SLF001  # torch's only count of changes
    return batch


def noted(batch: Tensor) -> tuple[float, ...] | None:
    """Return the seconds recorded by `timed`; None for a tensor computed from the batch, or changed since."""
    times, version = getattr(batch, _TIMES, (None, None))
    return times if times is not None and version == batch._version else None  # noqa: SLF001  # as above
