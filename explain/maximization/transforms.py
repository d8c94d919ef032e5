"""Random changes of the clip at every step: what survives them is what the unit looks for, whatever the pixel grid.

All clips of a batch are changed alike, and numbers are drawn on the CPU: a clip comes out the same alone and among
others, and on every device. What leaves the picture on one side comes back on the other. Only sums in a fixed order
take part, forward and backward, so that a GPU repeats them to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import UnknownNameError, UsageError

#: (clips U x C x T x H x W, generator on the CPU) -> clips of the same shape.
Transform = Callable[["Tensor", torch.Generator], "Tensor"]


def jitter(space: float = 1 / 16, time: int = 1) -> Transform:
    """Shifts by up to so many frames, and up to a share of rows and columns, by whole steps."""

    def shifted(clips: Tensor, generator: torch.Generator) -> Tensor:
        reach = [min(time, clips.shape[2] - 1), *(int(size * space) for size in clips.shape[3:])]
        shifts = [int(torch.randint(-far, far + 1, (), generator=generator)) for far in reach]
        return clips.roll(shifts, dims=(2, 3, 4))

    return shifted


def scale(lowest: float = 0.9, highest: float = 1.1) -> Transform:
    """Enlarges about the centre by a factor between `lowest` and `highest`, every frame alike (bilinear).

    Raises:
        UsageError: The factors are not positive numbers in order.
    """
    if not 0 < lowest <= highest < math.inf:
        raise UsageError(f"scale takes two positive factors, the lower one first, not {lowest} and {highest}")

    def scaled(clips: Tensor, generator: torch.Generator) -> Tensor:
        factor = lowest + (highest - lowest) * _uniform(generator)
        down, across = (_enlarging(size, factor, clips) for size in clips.shape[3:])
        return down @ clips @ across.T

    return scaled


def rotation(degrees: float = 5.0) -> Transform:
    """Turns about the centre by up to so many degrees, every frame alike: three shears (Paeth 1986), each linear.

    Raises:
        UsageError: Not between 0 and 45 degrees.
    """
    if not 0 <= degrees <= 45:
        raise UsageError(f"rotation takes 0 to 45 degrees, not {degrees}")

    def rotated(clips: Tensor, generator: torch.Generator) -> Tensor:
        angle = math.radians(degrees) * (2 * _uniform(generator) - 1)
        across, down = -math.tan(angle / 2), math.sin(angle)
        clips = _sheared(clips, across)
        clips = _sheared(clips.transpose(3, 4), down).transpose(3, 4)
        return _sheared(clips, across)

    return rotated


def unchanged(clips: Tensor, _generator: torch.Generator) -> Tensor:
    """The clips as they are."""
    return clips


def compose(*transforms: Transform) -> Transform:
    """One after the other, first one first."""

    def composed(clips: Tensor, generator: torch.Generator) -> Tensor:
        for transform in transforms:
            clips = transform(clips, generator)
        return clips

    return composed


#: Transforms by name.
TRANSFORMS: dict[str, Transform] = {
    "default": compose(jitter(), scale(), rotation()),
    "jitter": jitter(),
    "scale": scale(),
    "rotation": rotation(),
    "none": unchanged,
}


def find_transform(transform: str | Transform | Sequence[str | Transform]) -> Transform:
    """The transform of that name, or several composed; a function is taken as it is.

    Raises:
        UnknownNameError: There is none.
    """
    if isinstance(transform, str):
        if transform not in TRANSFORMS:
            raise UnknownNameError("transform", transform, TRANSFORMS)
        return TRANSFORMS[transform]
    return transform if callable(transform) else compose(*(find_transform(one) for one in transform))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _enlarging(size: int, factor: float, like: Tensor) -> Tensor:
    """The matrix, size x size, that enlarges a row of pixels about its centre by `factor`."""
    centre = (size - 1) / 2
    read = centre + (torch.arange(size, dtype=torch.float64) - centre) / factor
    whole = read.floor()
    part = (read - whole)[:, None]
    first = torch.nn.functional.one_hot(whole.long() % size, size)
    second = torch.nn.functional.one_hot((whole.long() + 1) % size, size)
    return (first * (1 - part) + second * part).to(like)


def _sheared(clips: Tensor, slope: float) -> Tensor:
    """Every row shifted to the right by `slope` times how far it lies below the centre."""
    rows = clips.shape[3]
    shifts = slope * (torch.arange(rows, dtype=torch.float64) - (rows - 1) / 2)
    sheared: Tensor = _Shear.apply(clips, shifts)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return sheared


class _Shear(torch.autograd.Function):
    """Cyclic shift of each row by a number of pixels of its own, linear in between; it gathers in both directions.

    The shift's transpose is the shift back: backward sums in a fixed order, which autograd's own does not on GPUs.
    """

    @staticmethod
    def forward(ctx: Any, clips: Tensor, shifts: Tensor) -> Tensor:
        ctx.shifts = shifts
        return _shift(clips, shifts, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _shift(gradients[0], ctx.shifts, -1), None


def _shift(clips: Tensor, shifts: Tensor, sign: int) -> Tensor:
    """Row y shifted right by shifts[y]; with sign -1 the transpose of that."""
    columns = clips.shape[4]
    whole = shifts.floor()
    part = (shifts - whole).to(clips)[:, None]
    place = torch.arange(columns)[None, :] - sign * whole.long()[:, None]
    first, second = (index.remainder(columns).to(clips.device).expand_as(clips) for index in (place, place - sign))
    return clips.gather(4, first) * (1 - part) + clips.gather(4, second) * part
