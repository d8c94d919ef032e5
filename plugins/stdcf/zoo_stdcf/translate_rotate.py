"""TR-MNIST: two digits that move, bounce and rotate by 45 degrees a frame (Miao et al., NeurIPS 2021, appendix B).

A digit keeps its size, 28 pixels with its margins, in a frame of 28 pixels: it moves evenly, and where its center meets
the border of the frame it turns back, so that half of it, in a corner more, is out of sight for a while. Both digits
rotate clockwise and are upright in the first frame; where they overlap, the brighter one is seen. The appendix leaves
open what it is that hits the border, the speeds, the direction of turning and how overlapping digits add up: these are
choices.

Everything random is drawn on the CPU from an explicit generator; `render` paints on the device of the digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import UsageError
from zoo.training.data import mnist

FRAMES: Final = 8
FRAME_SIZE: Final = 28
#: Digits of a clip.
DIGITS: Final = 2
#: Degrees that a digit turns from one frame to the next, clockwise on the screen.
TURN: Final = 45.0
#: Slowest and fastest, pixels per frame.
SPEEDS: Final = (1.0, 4.0)

#: The fixed clips of a split are drawn from this seed.
FIXED_SEED: Final = 2021_45
#: Fixed clips of each split: each of the digits drawn for them is in one clip alone.
CLIPS: Final[dict[str, int]] = {"train": 10_000, "test": 5_000}


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of N clips, all on the CPU.

    `image` N x 2: which digit images; `digit` N x 2: their classes; `place` N x 2 x 2: the center of each in
    the first frame, pixels from the left and from the top; `velocity` N x 2 x 2: pixels per frame to the right and down
    (float64).
    """

    image: Tensor
    digit: Tensor
    place: Tensor
    velocity: Tensor

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: slice | Tensor) -> Parameters:
        """Return the clips that `index` selects."""
        return Parameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def draw(
    count: int, labels: Tensor, *, generator: torch.Generator, speeds: Sequence[float] = SPEEDS, distinct: bool = False
) -> Parameters:
    """Draw `count` clips over the digits whose classes `labels` (M, int64) gives.

    Places are uniform over the frame, speeds between the two `speeds` (pixels per frame), directions over the circle.
    `distinct` uses no digit image twice (needs 2 count <= M).

    Raises:
        UsageError: for more distinct clips than there are digits for.
    """
    many = DIGITS * count
    if distinct and many > len(labels):
        raise UsageError(f"{count:,} clips of {DIGITS} distinct digits: {len(labels):,} digits are there")
    if distinct:
        image = torch.randperm(len(labels), generator=generator)[:many].view(count, DIGITS)
    else:
        image = torch.randint(len(labels), (count, DIGITS), generator=generator)

    def uniform(*more: int) -> Tensor:
        return torch.rand(count, DIGITS, *more, generator=generator, dtype=torch.float64)

    place = FRAME_SIZE * uniform(2)
    speed = speeds[0] + (speeds[1] - speeds[0]) * uniform()
    direction = 2 * torch.pi * uniform()
    velocity = speed[..., None] * torch.stack((direction.cos(), direction.sin()), dim=-1)
    return Parameters(image=image, digit=labels[image], place=place, velocity=velocity)


def centres(parameters: Parameters, *, frames: int = FRAMES) -> Tensor:
    """Compute the center of each digit: N x 2 x T x 2 (float64), pixels from the left and from the top, bounced."""
    time = torch.arange(frames, dtype=torch.float64)[:, None]
    free = parameters.place[:, :, None] + parameters.velocity[:, :, None] * time
    return FRAME_SIZE - (free.remainder(2 * FRAME_SIZE) - FRAME_SIZE).abs()


def render(images: Tensor, parameters: Parameters, *, frames: int = FRAMES, chunk: int = 500) -> Tensor:
    """Paint the clips: images M x 28 x 28 (uint8, any device) to N x 1 x T x 28 x 28 (uint8, the same device).

    Bilinear; a pixel may differ by one between devices. `chunk` clips are painted at a time.
    """
    parts = [
        _paint(images, parameters[start : start + chunk], frames) for start in range(0, max(1, len(parameters)), chunk)
    ]
    return torch.cat(parts)


def _paint(images: Tensor, parameters: Parameters, frames: int) -> Tensor:
    count, half = len(parameters), FRAME_SIZE / 2
    angle = torch.deg2rad(TURN * torch.arange(frames, dtype=torch.float64)).expand(count, DIGITS, frames)
    # From a point of the frame to one of the digit, both from their centers in halves of 28 pixels, y down.
    back = torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), dim=-1)
    back = back.view(count, DIGITS, frames, 2, 2)
    shift = -(back @ (centres(parameters, frames=frames) / half - 1)[..., None])
    theta = torch.cat((back, shift), dim=-1).flatten(0, 2).to(images.device, torch.float32)
    grid = F.affine_grid(theta, [len(theta), 1, FRAME_SIZE, FRAME_SIZE], align_corners=False)
    grid = grid.view(count * DIGITS, frames * FRAME_SIZE, FRAME_SIZE, 2)
    source = images[parameters.image.flatten().to(images.device)].float()[:, None]
    painted = F.grid_sample(source, grid, align_corners=False).round_().to(torch.uint8)
    return painted.view(count, DIGITS, 1, frames, FRAME_SIZE, FRAME_SIZE).amax(1)


def fixed_set(split: str, count: int | None = None) -> tuple[Tensor, Parameters]:
    """Return the fixed clips of a split before rendering: its digit images M x 28 x 28 (uint8), and their parameters.

    `train`: 10,000 clips of 20,000 random digits of MNIST's training file; `test`: 5,000 clips, each of the 10,000 test
    digits in one of them. `count` selects the first ones.

    Raises:
        UsageError: if there are fewer, or `count` is not positive.
        DataError: if MNIST is missing or damaged.
    """
    if split not in CLIPS:
        raise UsageError(f"no split {split!r} of tr_mnist; expected {' or '.join(CLIPS)}")
    every = CLIPS[split]
    if count is not None and not 0 < count <= every:
        raise UsageError(f"{count:,} clips of tr_mnist {split}: 1 to {every:,} can be measured")
    found = mnist.read(split)
    generator = torch.Generator().manual_seed(FIXED_SEED + list(CLIPS).index(split))
    return found.images, draw(every, found.labels, generator=generator, distinct=True)[:count]
