"""Colours as real pictures mix them: a step in one direction of the numbers moves red, green and blue together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

#: `measure` on 24 photographs and 24 videos, 8 frames of each (`benchmarks/colours.py`): rows red, green and blue,
#: columns the axes of greatest spread, which read grey, yellow-blue and green-magenta.
AXES = (
    (0.5745, 0.1958, 0.0615),
    (0.5840, -0.0101, -0.1311),
    (0.5735, -0.1859, 0.0719),
)


def measure(pictures: Iterable[Tensor]) -> Tensor:
    """The matrix that gives independent numbers of spread 1 the colour statistics of pictures.

    It is A S, with A the orthonormal eigenvectors of the covariance of red, green and blue over all pixels and S the
    square roots of its eigenvalues, largest first, divided by the largest of them. Each picture counts the same.

    Args:
        pictures: RGB frames, uint8, T x H x W x 3 each.

    Returns:
        3 x 3, float64: rows red, green and blue; the first row is positive.
    """
    means, squares = [], []
    for frames in pictures:
        pixels = frames.reshape(-1, 3).double() / 255
        means.append(pixels.mean(dim=0))
        squares.append(pixels.T @ pixels / len(pixels))
    mean = torch.stack(means).mean(dim=0)
    spread, axes = torch.linalg.eigh(torch.stack(squares).mean(dim=0) - torch.outer(mean, mean))
    axes = (axes * spread.clamp_min(0).sqrt()).flip(1) / spread[-1].sqrt()
    signed: Tensor = axes * torch.where(axes[0] < 0, -1.0, 1.0)
    return signed


def independent(signal: Tensor) -> Tensor:
    """The inverse of `correlated`."""
    axes = torch.tensor(AXES, dtype=signal.dtype, device=signal.device)
    found: Tensor = (signal.transpose(1, 4) @ torch.linalg.inv(axes).T).transpose(1, 4)
    return found


def correlated(signal: Tensor) -> Tensor:
    """Independent numbers, U x 3 x T x H x W, as red, green and blue that vary together as in real pictures."""
    axes = torch.tensor(AXES, dtype=signal.dtype, device=signal.device)
    return (signal.transpose(1, 4) @ axes.T).transpose(1, 4)
