"""When a map says that the model looked: said only where the map's own test of frames bears it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: A curve whose highest frame has less than so many times an even share is flat.
PEAKED: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The frame that a map marks most strongly."""

    #: Counted from 0.
    frame: int
    #: When it is shown, on the clock of the clip's source; None where that is not known.
    seconds: float | None
    #: Its share of the whole clip's attribution, and the share of each frame of an even one.
    share: float
    even: float


def shares_of(time: Tensor) -> Tensor:
    """Each frame's share of a map's sizes over time (`Attribution.time` of one sample, T); zeros where all are."""
    sizes = time.detach().double().abs()
    total = sizes.sum()
    return sizes / total if float(total) else sizes


def strongest(time: Tensor, verdict: str | None, times: Sequence[float] | None = None) -> Moment | None:
    """The frame to name as strongest, or None.

    Args:
        time: `Attribution.time` of one sample: T.
        verdict: How the map's test of frames ended ("passes", ...); None where it was not tested. Of any other map, an
            order of frames drawn at random may find what matters as well: no frame is named.
        times: Seconds of each frame, where they are known.
    """
    shares = shares_of(time)
    at = int(shares.argmax())
    seconds = None if times is None else times[at]
    found = Moment(frame=at, seconds=seconds, share=float(shares[at]), even=1 / len(shares))
    return found if verdict == "passes" and found.share >= PEAKED * found.even else None
