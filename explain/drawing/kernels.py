"""Images of 3D filters: each slice as a small image, so that a filter is a short clip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from explain.drawing.sprites import animation

if TYPE_CHECKING:
    from torch import Tensor


#: Slices per second of an animation, and pixels per weight.
_RATE, _ENLARGED = 3, 8

#: Maximum number of filters in one animation.
MOST = 64


def pictures(kernel: Tensor, *, blue_first: bool = False) -> npt.NDArray[np.uint8]:
    """Return the slices of filters as images: zero is gray, the largest weight of each filter is black or white.

    Filters of three input channels are shown in color; otherwise the channel with the largest weights (sum of squares)
    is shown in gray.

    Args:
        kernel: Filters x channels x D x rows x columns.
        blue_first: Whether three channels are blue, green and red.

    Returns:
        Filters x D x rows x columns x 1 or 3, uint8.
    """
    weights = kernel.detach().float().cpu().numpy()
    if weights.shape[1] != 3:
        strongest = np.square(weights).sum(axis=(2, 3, 4)).argmax(axis=1)
        weights = np.take_along_axis(weights, strongest[:, None, None, None, None], axis=1)
    elif blue_first:
        weights = weights[:, ::-1]
    largest = np.abs(weights).max(axis=(1, 2, 3, 4), keepdims=True)
    shares = weights / np.where(largest > 0, largest, 1)
    images: npt.NDArray[np.uint8] = np.rint(127.5 + 127.5 * shares).astype(np.uint8).transpose(0, 2, 3, 4, 1)
    return images


def strongest_channel(kernel: Tensor, channel: int) -> int:
    """Return the input channel that `pictures` shows for a filter that is not shown in color."""
    return int(kernel[channel].detach().float().square().sum(dim=(1, 2, 3)).argmax())


def strengths(kernel: Tensor, channel: int) -> list[float]:
    """Return the root of the sum of squares of each slice of a filter, relative to its first; 0 if that is zero.

    Resampling blurs and moves weights over the edge, so that later slices may be weak.
    """
    sizes = kernel[channel].detach().double().square().sum(dim=(0, 2, 3)).sqrt()
    return [float(size / sizes[0]) if sizes[0] else 0.0 for size in sizes]


def mosaic(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Arrange filters in rows, in order, as frames D x rows x columns x channels."""
    count, depth, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((depth, rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + 1) + 1, (place % columns) * (width + 1) + 1
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def animated(images: npt.NDArray[np.uint8]) -> bytes:
    """Encode filters side by side, slice after slice, as a looping WebP file."""
    return animation(mosaic(images), frames_per_second=_RATE, scale=_ENLARGED)


def loops(frames: int, images: int) -> int:
    """Return how often the player loops through the slices per clip: a slice lasts about three frames."""
    return max(1, round(frames / (3 * images)))
