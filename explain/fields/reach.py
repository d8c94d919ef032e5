"""How far the positions held in one tensor see, along time, rows and columns, and how operations change that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: T, H or W. Lengths are in positions of the input."""

    #: Positions that the tensor has along the axis.
    extent: int
    #: From one position to the next; a fraction behind upsampling.
    jump: Fraction = Fraction(1)
    #: Whether each position sees the whole axis, however long.
    whole: bool = False
    #: Field of what was upsampled last; 1 where nothing was.
    base: int = 1
    #: Jump of what was upsampled last: finer positions add to the field by whole multiples of it.
    grain: Fraction = Fraction(1)
    #: What windows have added since then, before it is cut to multiples of the grain.
    span: Fraction = Fraction(0)
    #: Where the field of the first position begins; below 0 in padding. Behind upsampling, to within one `grain`.
    first: Fraction = Fraction(0)

    @property
    def field(self) -> int:
        """Positions of the input that one position depends on, at the worst alignment."""
        return self.base + int(self.span // self.grain * self.grain)

    def through(self, size: int, stride: Fraction, left: int, padding: int = 0) -> Axis:
        """Through a window over `size` neighbouring positions, moved by `stride` of them, with `left` results."""
        span = self.span if self.whole else self.span + (size - 1) * self.jump
        first = self.first - padding * self.jump
        return dataclasses.replace(self, span=span, jump=self.jump * stride, extent=left, first=first)

    def seen(self, position: int, length: int, field: int) -> tuple[int, int]:
        """The first and the last of the input's `length` positions that one position depends on.

        A `field` larger than the axis' own lies around the same middle.
        """
        if self.whole:
            return 0, length - 1
        first = math.floor(self.first + position * self.jump) - (field - self.field) // 2
        return min(max(first, 0), length - 1), min(max(first + field - 1, 0), length - 1)

    def upsampled(self, size: int, factor: Fraction, left: int) -> Axis:
        """To positions `factor` times as dense, each of the former reaching over `size` of the new ones."""
        jump = self.jump / factor
        if self.whole:
            return dataclasses.replace(self, jump=jump, extent=left)
        return Axis(left, jump, base=self.field, grain=self.jump, span=(size - 1) * jump, first=self.first)

    def over_all(self, length: int, *, reduced: bool) -> Axis:
        """Seeing all `length` positions of the input; `reduced`: one position is left."""
        seen = Axis(self.extent, self.jump, whole=True, base=max(self.field, length))
        return dataclasses.replace(seen, extent=1, jump=Fraction(length)) if reduced else seen


@dataclass(frozen=True, slots=True)
class View:
    """What the positions held in a tensor see of the input."""

    #: T, H, W.
    axes: tuple[Axis, Axis, Axis]
    #: Channels, when the tensor last had such an axis.
    channels: int

    @classmethod
    def of_input(cls, extent: Triple, channels: int) -> View:
        """The input itself: every position sees itself."""
        time, height, width = extent
        return cls((Axis(time), Axis(height), Axis(width)), channels)

    @property
    def extent(self) -> Triple:
        """Positions along T, H, W."""
        return self.axes[0].extent, self.axes[1].extent, self.axes[2].extent

    @property
    def field(self) -> Triple:
        """Field along T, H, W."""
        return self.axes[0].field, self.axes[1].field, self.axes[2].field

    @property
    def whole(self) -> tuple[bool, bool, bool]:
        """Whether T, H, W are seen whole."""
        return self.axes[0].whole, self.axes[1].whole, self.axes[2].whole

    @property
    def stride(self) -> tuple[float, float, float]:
        """Jump along T, H, W: integers but behind upsampling."""
        jumps = [int(axis.jump) if axis.jump.denominator == 1 else float(axis.jump) for axis in self.axes]
        return jumps[0], jumps[1], jumps[2]

    def with_axis(self, place: int, axis: Axis) -> View:
        """The view with one axis (0, 1, 2 for T, H, W) exchanged."""
        axes = [axis if k == place else mine for k, mine in enumerate(self.axes)]
        return View((axes[0], axes[1], axes[2]), self.channels)

    def with_channels(self, channels: int) -> View:
        """The view with another number of channels."""
        return View(self.axes, channels)

    def over_all(self, places: Iterable[int], size: Triple, *, reduced: bool) -> View:
        """Seeing all of some axes of an input of that size; `reduced`: one position is left there."""
        view = self
        for place in places:
            view = view.with_axis(place, view.axes[place].over_all(size[place], reduced=reduced))
        return view


def merge(views: list[View]) -> View:
    """Where paths meet: along each axis the largest field; positions as on the path that has the most of them."""
    finest = max(views, key=lambda view: math.prod(view.extent))
    for place, mine in enumerate(finest.axes):
        widest = max((view.axes[place] for view in views), key=lambda axis: axis.field)
        whole = any(view.axes[place].whole for view in views)
        finest = finest.with_axis(place, dataclasses.replace(widest, extent=mine.extent, jump=mine.jump, whole=whole))
    return finest
