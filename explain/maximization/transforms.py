"""Random changes of the clip at every step: what survives them is what the unit looks for, whatever the pixel grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor

#: (clips U x C x T x H x W, generator on the CPU) -> clips of the same shape.
Transform = Callable[["Tensor", torch.Generator], "Tensor"]

#: Farthest shift of `jitter`, as a share of rows and columns, and in frames.
IN_SPACE = 1 / 16
IN_TIME = 1


def jitter(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Shift all clips alike, cyclically, by up to one frame and a sixteenth of rows and columns."""
    reach = [min(IN_TIME, clips.shape[2] - 1), *(int(size * IN_SPACE) for size in clips.shape[3:])]
    shifts = [int(torch.randint(-far, far + 1, (), generator=generator)) for far in reach]
    return clips.roll(shifts, dims=(2, 3, 4))


def unchanged(clips: Tensor, _generator: torch.Generator) -> Tensor:
    """The clips as they are."""
    return clips


#: Transforms by name.
TRANSFORMS: dict[str, Transform] = {"default": jitter, "none": unchanged}


def find_transform(transform: str | Transform) -> Transform:
    """The transform of that name; a function is taken as it is.

    Raises:
        UnknownNameError: There is none.
    """
    if not isinstance(transform, str):
        return transform
    if transform not in TRANSFORMS:
        raise UnknownNameError("transform", transform, TRANSFORMS)
    return TRANSFORMS[transform]
