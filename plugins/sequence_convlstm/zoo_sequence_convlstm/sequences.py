"""Digits that rotate, move and change their brightness at random, frame by frame, under noise, for prediction.

Angle, place and the logarithm of the brightness each follow a stationary autoregressive process of order two, so that
they continue as they began, and revert to the mean. Independent Gaussian noise is added to every pixel of every frame.

Everything random is drawn on the CPU from an explicit generator; `render` paints on the device of the digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import torch
from torch import Tensor

from zoo.errors import UsageError
from zoo_motion_mnist import motion

FRAMES: Final = 16
FRAME_SIZE: Final = 36

#: Roots of the processes: x_t = (r + s) x_(t-1) - r s x_(t-2) + shock.
ROOTS: Final = (0.9, 0.8)
#: Standard deviations of the processes: degrees, pixels (right and down each), logarithm of the brightness.
ANGLE: Final = 25.0
PLACE: Final = 4.0
BRIGHTNESS: Final = 0.15
#: Standard deviation of the noise; full ink is 1.
NOISE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of N sequences of T frames, all on the CPU.

    `image` N: which digit image. In each frame (float64): `angle` N x T: degrees clockwise on the screen; `place`
    N x T x 2: pixels right of and below the center; `brightness` N x T: the value of full ink.
    """

    image: Tensor
    angle: Tensor
    place: Tensor
    brightness: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: slice | Tensor) -> Parameters:
        """Return the sequences that `index` selects."""
        return Parameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def draw(
    count: int, labels: Tensor, *, generator: torch.Generator, digit: int | None = None, frames: int = FRAMES
) -> Parameters:
    """Draw `count` sequences, each of another digit image, over digits whose classes `labels` (M, int64) gives.

    Args:
        count: Sequences.
        labels: Classes of the digits at hand.
        generator: On the CPU.
        digit: Takes digits of this class alone.
        frames: Of a sequence.

    Raises:
        UsageError: if there are fewer such digits, or a count is not positive.
    """
    at_hand = torch.arange(len(labels)) if digit is None else (labels == digit).nonzero().flatten()
    if not 0 < count <= len(at_hand):
        of = "digits" if digit is None else f"digits {digit}"
        raise UsageError(f"{count:,} sequences of different {of}: 1 to {len(at_hand):,} can be drawn")
    if frames < 1:
        raise UsageError(f"frames must be at least 1, got {frames}")
    chosen = at_hand[torch.randperm(len(at_hand), generator=generator)[:count]]
    walks = walk(count, 4, frames, generator=generator)
    return Parameters(
        image=chosen,
        angle=ANGLE * walks[:, 0],
        place=PLACE * walks[:, 1:3].transpose(1, 2),
        brightness=(BRIGHTNESS * walks[:, 3]).exp(),
    )


def walk(count: int, processes: int, frames: int, *, generator: torch.Generator) -> Tensor:
    """Stationary autoregressive processes of order two with `ROOTS`, variance 1: count x processes x frames (float64).

    Also the first frames are drawn from the stationary distribution (Yule-Walker equations).
    """
    first, second = sum(ROOTS), -math.prod(ROOTS)
    near = first / (1 - second)  # the correlation of neighbors
    far = first * near + second
    shock = math.sqrt(1 - first * near - second * far)
    drawn = torch.randn(frames, count, processes, generator=generator, dtype=torch.float64)
    values: list[Tensor] = []
    for t, fresh in enumerate(drawn):
        if t == 0:
            values.append(fresh)
        elif t == 1:
            values.append(near * values[0] + math.sqrt(1 - near**2) * fresh)
        else:
            values.append(first * values[-1] + second * values[-2] + shock * fresh)
    return torch.stack(values, dim=-1)


def render(
    images: Tensor, parameters: Parameters, *, generator: torch.Generator | None = None, noise: float = NOISE
) -> Tensor:
    """Render the sequences: images M x 28 x 28 (uint8, any device) to N x 1 x T x 36 x 36 (float32, the same device).

    Full ink is the brightness of its frame, paper 0; with `generator` (on the CPU), noise of that standard deviation is
    added, and nothing is cut off. Bilinear.
    """
    device = images.device
    painted = motion.paint(
        images[parameters.image.to(device)],
        size=torch.ones_like(parameters.angle),
        angle=parameters.angle,
        place=parameters.place,
        side=FRAME_SIZE,
    )
    painted *= parameters.brightness.to(device, torch.float32)[:, None, :, None, None] / 255
    if generator is not None:
        painted += noise * torch.randn(painted.shape, generator=generator).to(device)
    return painted
