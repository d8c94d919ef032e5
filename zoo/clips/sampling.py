"""Choose the frames of a clip that a model takes: by time where times are known, else by index.

An instant gets the frame nearest to it in time; of two equally near ones the one with the even index, as `round` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zoo.entries import InputSpec

Times: TypeAlias = Sequence[float] | npt.NDArray[Any]
Frame = TypeVar("Frame")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Selection of a source's frames; all of them by default."""

    #: This many, spread evenly over the source.
    spread: int | None = None
    #: This many from the beginning ...
    count: int | None = None
    #: ... each this many seconds after the one before; None takes each frame.
    interval: float | None = None

    def of(self, total: int, times: Times | None) -> list[int]:
        """Return the indices kept of `total` frames, in ascending order."""
        if self.spread is not None:
            known = np.arange(total) if times is None else times
            return sorted(set(evenly(known, self.spread))) if self.spread < total else list(range(total))
        if self.count is None:
            return list(range(total))
        if self.interval is None or times is None:
            return list(range(min(total, self.count)))
        return [index for index, _, _ in pick(((time, None) for time in times), self.interval, self.count)]


def wanted(spec: InputSpec, *, is_timed: bool) -> Wanted:
    """Return the frames of a source that an input uses, with known or unknown times."""
    if spec.sampling == "uniform":
        return Wanted(spread=spec.frames)
    if spec.frame_rate is not None and is_timed:
        return Wanted(count=spec.frames, interval=step(spec))
    return Wanted(count=(spec.frames - 1) * spec.stride + 1)  # up to the last one; `sampled` takes every stride-th


def sampled(total: int, spec: InputSpec, *, fps: float | None = None, times: Times | None = None) -> list[int]:
    """Return the indices of the frames that an input takes from a clip; the last is repeated when they run out.

    Args:
        total: Number of frames of the clip.
        spec: The input: `frames`, `sampling`, `stride` and `frame_rate`.
        fps: Frames per second of the clip, if it is constant; None is unknown.
        times: Seconds of each frame, `total` of them in ascending order; they take precedence over `fps`.

    Returns:
        `spec.frames` indices. Without `fps` and `times`, the clip is assumed to have the input's frame rate.
    """
    if times is None and fps is None:
        if spec.sampling == "uniform":
            return spread(total, spec.frames)
        return [min(index * spec.stride, total - 1) for index in range(spec.frames)]
    known = np.asarray(times, dtype=float) if times is not None else np.arange(total) / (fps or 1.0)
    if spec.sampling == "uniform":
        return evenly(known, spec.frames)
    if spec.frame_rate is None:
        return sampled(total, spec)
    return nearest(known, known[0] + np.arange(spec.frames) * step(spec))


def step(spec: InputSpec) -> float:
    """Return the seconds from one frame of an input to the next.

    Raises:
        ValueError: for an input without `frame_rate`.
    """
    if spec.frame_rate is None:
        raise ValueError("the input has no frame_rate")
    return spec.stride / spec.frame_rate


def spread(total: int, count: int) -> list[int]:
    """Return `count` evenly spread indices from the first to the last of `total`; frames repeat if count > total."""
    if count == 1:
        return [(total - 1) // 2]
    return [round(index * (total - 1) / (count - 1)) for index in range(count)]


def evenly(times: Times, count: int) -> list[int]:
    """Return the indices of the frames nearest to `count` instants spread evenly from the first to the last of `times`.

    A single instant is in the middle, and of two equally near frames gets the first.
    """
    if count == 1:
        middle = np.interp((times[0] + times[-1]) / 2, times, np.arange(len(times)))
        return [int(np.ceil(middle.round(6) - 0.5))]
    return nearest(times, np.linspace(times[0], times[-1], count))


def nearest(times: Times, instants: Times, *, first: int = 0) -> list[int]:
    """Return the index of the frame nearest to each instant; `times` are ascending, the first of frame `first`."""
    places = np.interp(instants, times, np.arange(first, first + len(times)))
    return [int(place) for place in places.round(6).round()]


def pick(frames: Iterable[tuple[float, Frame]], interval: float, count: int) -> Iterator[tuple[int, float, Frame]]:
    """Yield the frames that `nearest` chooses for instants at equal distances, reading no further than needed.

    Args:
        frames: Seconds and content of each frame, in ascending order.
        interval: Seconds from one instant to the next; the first is at the first frame.
        count: Number of instants.

    Yields:
        Index, seconds and content of each frame that is nearest to at least one instant.
    """
    before: tuple[int, float, Frame] | None = None
    is_wanted, start, done = False, 0.0, 0
    for index, (time, frame) in enumerate(frames):
        is_next_wanted = False
        if before is None:
            start = time
        while done < count and start + done * interval <= time + 1e-9:
            instant = start + done * interval
            if before is not None and nearest((before[1], time), [instant], first=index - 1) == [index - 1]:
                is_wanted = True
            else:
                is_next_wanted = True
            done += 1
        if before is not None and is_wanted:
            yield before
        before, is_wanted = (index, time, frame), is_next_wanted
        if done == count:
            break
    if before is not None and (is_wanted or done < count):  # the last frame represents all later instants
        yield before
