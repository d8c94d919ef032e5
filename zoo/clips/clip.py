"""A clip: frames, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


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
    #: What the clip shows, if that is known.
    label: str | None = None
    #: Its class by what it is a class of ("digit" -> "4"), where a sample says so.
    classes: Mapping[str, str] = field(default_factory=dict)
    #: What a reader should know, such as frames that are missing.
    warnings: tuple[str, ...] = ()
    #: Seconds of each frame on the clock of the source, T of them in ascending order; None if they are not known.
    times: tuple[float, ...] | None = None
    #: Seconds at which reading began and, if it did not go to the end, stopped.
    start: float = 0.0
    end: float | None = None
