"""Filters whose motion is known: windows on images that move, with content beyond every border.

Independent of `explain.temporal`: images are drawn and moved by `scipy.ndimage`, far larger than the windows, so that
what enters a window at its border is what the image holds there. Slices of an ordinary convolution are like that; those
of a 3TConv are not (`padded`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage  # type: ignore[import-untyped]  # scipy has no types of its own
from torch import Tensor

#: Pixels of an image beyond its window, on each side.
MARGIN = 12
#: Kinds of motion that `motions` draws.
KINDS = ("shift", "turn", "shrink", "grow", "mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Motion of each filter's pattern in one step; all of one length, the number of filters."""

    #: Factor by which it grows.
    scale: npt.NDArray[np.float64]
    #: Degrees clockwise.
    rotation: npt.NDArray[np.float64]
    #: Pixels to the right, and down.
    right: npt.NDArray[np.float64]
    down: npt.NDArray[np.float64]


def motions(kind: str, filters: int, draw: np.random.Generator) -> Planted:
    """Draw motions of one kind.

    Args:
        kind: "shift" by 0.5 to 1 pixel in any direction; "turn" by 15 degrees either way; "shrink" to 0.9; "grow" to
            1.1; "mixed", all at once: 0.9 to 1.1, up to 15 degrees, 0.5 to 1 pixel.
        filters: How many.
        draw: Source of randomness.
    """
    none = np.zeros(filters)
    angle, length = draw.uniform(0, 2 * math.pi, filters), draw.uniform(0.5, 1, filters)
    right, down = length * np.cos(angle), length * np.sin(angle)
    if kind == "shift":
        return Planted(scale=none + 1, rotation=none, right=right, down=down)
    if kind == "turn":
        return Planted(scale=none + 1, rotation=15 * draw.choice([-1.0, 1.0], filters), right=none, down=none)
    if kind == "mixed":
        scale, rotation = draw.uniform(0.9, 1.1, filters), draw.uniform(-15, 15, filters)
        return Planted(scale=scale, rotation=rotation, right=right, down=down)
    return Planted(scale=none + {"shrink": 0.9, "grow": 1.1}[kind], rotation=none, right=none, down=none)


def images(filters: int, channels: int, k: int, draw: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw smooth images: white noise blurred by a Gaussian of 1.5 to 2 pixels; filters x channels x side x side."""
    side = k + 2 * MARGIN
    noise = draw.standard_normal((filters, channels, side, side))
    for one, sigma in zip(noise, draw.uniform(1.5, 2, filters), strict=True):
        one[...] = ndimage.gaussian_filter(one, (0, sigma, sigma))
    deviation: npt.NDArray[np.float64] = noise.std(axis=(1, 2, 3), keepdims=True)
    return noise / deviation


def windows(
    planted: Planted,
    channels: int,
    k: int,
    draw: np.random.Generator,
    *,
    order: int = 1,
    noise: float = 0.0,
) -> Tensor:
    """Cut two slices from images that move between them.

    Args:
        planted: The motions.
        channels: Channels of a filter, which move alike.
        k: Rows and columns of a slice.
        draw: Source of randomness.
        order: Of the splines that the image is resampled by: 1 (bilinear) or 3 (cubic).
        noise: Deviation of white noise that is added to both slices, as a share of their root mean square.

    Returns:
        Filters x channels x 2 x k x k, float64.
    """
    pictures = images(len(planted.scale), channels, k, draw)
    middle = (pictures.shape[-1] - 1) / 2
    cut = slice(MARGIN, MARGIN + k)
    slices = np.empty((*pictures.shape[:2], 2, k, k))
    for place, picture in enumerate(pictures):
        angle, scale = math.radians(planted.rotation[place]), planted.scale[place]
        # rows come first; a point goes to scale times turned plus the shift, and a pixel is read where it came from
        turned = scale * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        back = np.linalg.inv(turned)
        start = middle - back @ (np.array([planted.down[place], planted.right[place]]) + middle)
        for channel, image in enumerate(picture):
            slices[place, channel, 0] = image[cut, cut]
            slices[place, channel, 1] = ndimage.affine_transform(image, back, start, order=order)[cut, cut]
    size = np.sqrt(np.square(slices).mean(axis=(1, 2, 3, 4), keepdims=True))
    return torch.from_numpy(slices + noise * size * draw.standard_normal(slices.shape))


def unrelated(filters: int, channels: int, k: int, draw: np.random.Generator, *, smooth: bool) -> Tensor:
    """Draw pairs of slices that have nothing to do with each other: filters x channels x 2 x k x k, float64."""
    if not smooth:
        return torch.from_numpy(draw.standard_normal((filters, channels, 2, k, k)))
    cut = slice(MARGIN, MARGIN + k)
    pairs = [images(filters, channels, k, draw)[..., cut, cut] for _ in range(2)]
    return torch.from_numpy(np.stack(pairs, axis=2))


def padded(planted: Planted, slices: Tensor) -> Tensor:
    """Make the second slice as a 3TConv does (arXiv 2006.15983, equations 2 to 5): bilinear, zeros outside.

    Args:
        planted: The motions.
        slices: The first ones, filters x channels x k x k.

    Returns:
        Filters x channels x 2 x k x k.
    """
    half = (slices.shape[-1] - 1) / 2
    scale, turn = 1 / planted.scale, -np.radians(planted.rotation)
    cosine, sine = scale * np.cos(turn), scale * np.sin(turn)
    x, y = -planted.right / half, -planted.down / half
    rows = [[cosine, -sine, cosine * x - sine * y], [sine, cosine, sine * x + cosine * y]]
    theta = torch.from_numpy(np.array(rows)).permute(2, 0, 1).to(slices)
    grid = F.affine_grid(theta, list(slices.shape), align_corners=True)
    return torch.stack([slices, F.grid_sample(slices, grid, align_corners=True)], dim=2)
