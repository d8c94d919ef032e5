"""Pictures of 3D filters: each slice as a small image, so that a filter is a short clip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from explain.drawing.sprites import animation

if TYPE_CHECKING:
    from torch import Tensor


#: Slices a second of an animation, and pixels for each weight.
_RATE, _ENLARGED = 3, 8

#: Filters in one animation, at most.
MOST = 64


def pictures(kernel: Tensor, *, blue_first: bool = False) -> npt.NDArray[np.uint8]:
    """The slices of filters as images: grey is a weight of zero, the largest of each filter is black or white.

    Filters of three input channels are seen in colour; of any other number of channels, the one of the largest weights
    (sum of squares) is shown, grey.

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
    """The input channel that `pictures` shows of a filter that is not seen in colour."""
    return int(kernel[channel].detach().float().square().sum(dim=(1, 2, 3)).argmax())


def strengths(kernel: Tensor, channel: int) -> list[float]:
    """Root of the sum of squares of each slice of a filter, as a share of its first one's; 0 where that is zero.

    Resampling blurs and pushes weights over the edge, so that later slices may count for little.
    """
    sizes = kernel[channel].detach().double().square().sum(dim=(0, 2, 3)).sqrt()
    return [float(size / sizes[0]) if sizes[0] else 0.0 for size in sizes]


def mosaic(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Filters beside each other, row after row in their order, as frames D x rows x columns x channels."""
    count, depth, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.full((depth, rows * (height + 1) + 1, columns * (width + 1) + 1, channels), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top, left = (place // columns) * (height + 1) + 1, (place % columns) * (width + 1) + 1
        sheet[:, top : top + height, left : left + width] = image
    return sheet


def animated(images: npt.NDArray[np.uint8]) -> bytes:
    """Filters beside each other, slice after slice, as a looping WebP file."""
    return animation(mosaic(images), frames_per_second=_RATE, scale=_ENLARGED)


def loops(frames: int, images: int) -> int:
    """How often the player shows all slices while it plays the clip once: a slice stays for about three frames."""
    return max(1, round(frames / (3 * images)))
