"""Blinking MNIST, the dataset of Courtney & Sreenivas, arXiv 2009.07338, section 3.

A 28x28 digit moves through 64x64 frames at S pixels a frame and bounces off the walls. It is visible in every V-th
frame only, beginning with frame 0, and each visible frame shows one of its four quadrants, in an order that repeats.
A network is asked for the digit, the order and the speed.

Everything random is drawn on the CPU from an explicit generator and positions are integers, so the same seed gives the
same bytes on every device; `render` only copies pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from zoo.training.data import mnist

FRAMES = 48
FRAME_SIZE = 64
DIGIT_SIZE = 28
QUADRANT_SIZE = DIGIT_SIZE // 2

#: The six orders of task #2. Quadrants are numbered from 0 here (from 1 in the paper): 0 top left, 1 top right,
#: 2 bottom left, 3 bottom right.
ORDERS: tuple[tuple[int, int, int, int], ...] = (
    (0, 1, 2, 3),
    (0, 1, 3, 2),
    (0, 3, 1, 2),
    (0, 3, 2, 1),
    (0, 2, 1, 3),
    (0, 2, 3, 1),
)

#: Class names of the order head.
ORDER_LABELS: tuple[str, ...] = tuple("-".join(str(quadrant + 1) for quadrant in order) for order in ORDERS)

#: The pairs (S pixels a frame, visible every V frames) that move less than 50 pixels between visible frames.
PAIRS: tuple[tuple[int, int], ...] = tuple(
    (speed, period) for speed in range(1, 7) for period in range(1, 13) if speed * period < 50
)

#: The fixed clips of a split are drawn from this seed.
FIXED_SEED = 2009_07338


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of N clips of T frames; all int64 on the CPU, `visible` bool.

    `image` N: which digit image; `digit` N: its class; `order` N: index into `ORDERS`; `speed` N: pixels a frame;
    `period` N: frames from one visible frame to the next; `position` N x T x 2: (row, column) of the whole digit's top
    left corner; `visible` N x T; `quadrant` N x T: the visible quadrant, -1 for none.
    """

    image: Tensor
    digit: Tensor
    order: Tensor
    speed: Tensor
    period: Tensor
    position: Tensor
    visible: Tensor
    quadrant: Tensor

    def __len__(self) -> int:
        return len(self.digit)

    def __getitem__(self, index: slice | Tensor) -> Parameters:
        """Return the clips that `index` selects."""
        return Parameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def labels(self) -> dict[str, Tensor]:
        """Return the targets of each head: `digit` N and `order` N (int64), `speed` N x 1 (float32, pixels a frame)."""
        return {"digit": self.digit, "order": self.order, "speed": self.speed[:, None].float()}


def reflect(coordinate: Tensor, limit: int) -> Tensor:
    """Reflect a free coordinate between 0 and `limit`: a triangular wave of period 2 * `limit`."""
    return limit - (coordinate.remainder(2 * limit) - limit).abs()


def draw(
    count: int,
    labels: Tensor,
    *,
    generator: torch.Generator,
    frames: int = FRAMES,
    pairs: Sequence[tuple[int, int]] = PAIRS,
    late_start: bool = False,
    distinct: bool = False,
) -> Parameters:
    """Draw `count` clips of `frames` frames over the digits whose classes `labels` (M, int64) gives.

    Speed and period are uniform over `pairs`, the order over `ORDERS`, the starting corner over the positions inside
    the frame, the direction over the circle. `late_start` begins each clip at a random frame of its first four periods
    instead of frame 0 (short training excerpts). `distinct` uses no digit image twice (needs count <= M).
    """
    choice = torch.randint(len(pairs), (count,), generator=generator)
    speed, period = torch.tensor(pairs, dtype=torch.int64)[choice].unbind(1)
    order = torch.randint(len(ORDERS), (count,), generator=generator)
    if distinct:
        image = torch.randperm(len(labels), generator=generator)[:count]
    else:
        image = torch.randint(len(labels), (count,), generator=generator)
    limit = FRAME_SIZE - DIGIT_SIZE
    corner = torch.randint(limit + 1, (count, 2), generator=generator)
    angle = torch.rand(count, generator=generator, dtype=torch.float64) * (2 * torch.pi)
    time = torch.arange(frames).expand(count, frames)
    if late_start:
        offset = torch.rand(count, generator=generator, dtype=torch.float64) * (4 * period)
        time = time + offset.long()[:, None]
    direction = torch.stack((angle.sin(), angle.cos()), dim=1)
    travelled = (speed[:, None] * time).double()
    free = corner[:, None].double() + travelled[:, :, None] * direction[:, None]
    position = reflect(free, limit).round().long()
    visible = time % period[:, None] == 0
    turn = (time // period[:, None]) % 4
    quadrant = torch.tensor(ORDERS)[order].gather(1, turn).masked_fill(~visible, -1)
    return Parameters(image, labels[image], order, speed, period, position, visible, quadrant)


def render(images: Tensor, parameters: Parameters, *, masked: bool = True) -> Tensor:
    """Paint the clips: images M x 28 x 28 (uint8, any device) to N x 1 x T x 64 x 64 (uint8, the same device).

    `masked=False` shows the whole digit in every visible frame (the other row of the paper's figure 1).
    """
    device = images.device
    count, frames = parameters.visible.shape
    clip, time = parameters.visible.nonzero(as_tuple=True)
    row, column = parameters.position[clip, time].unbind(1)
    source = parameters.image[clip].to(device)
    if masked:
        size = QUADRANT_SIZE
        quadrant = parameters.quadrant[clip, time]
        below, right = quadrant // 2, quadrant % 2
        row, column = row + size * below, column + size * right
        tiles = images.unfold(1, size, size).unfold(2, size, size)[source, below.to(device), right.to(device)]
    else:
        size = DIGIT_SIZE
        tiles = images[source]
    corner = ((clip * frames + time) * FRAME_SIZE + row) * FRAME_SIZE + column
    side = torch.arange(size, device=device)
    inside = (side[:, None] * FRAME_SIZE + side).flatten()
    pixels = corner.to(device)[:, None] + inside
    clips = torch.zeros(count * frames * FRAME_SIZE * FRAME_SIZE, dtype=torch.uint8, device=device)
    clips[pixels.flatten()] = tiles.flatten()
    return clips.view(count, 1, frames, FRAME_SIZE, FRAME_SIZE)


def fixed_set(split: str = "test", count: int | None = None) -> tuple[Tensor, Parameters]:
    """Return the fixed clips of a split before rendering: its digit images M x 28 x 28 (uint8), and their parameters.

    There is one clip for every digit of the split, 10,000 for `test`; `count` selects the first ones.

    Raises:
        UsageError: if there are fewer, or `count` is not positive.
    """
    found = mnist.read_fixed(split, count, "blinking_mnist")
    every = len(found.labels)
    parameters = draw(every, found.labels, generator=torch.Generator().manual_seed(FIXED_SEED), distinct=True)
    return found.images, parameters[:count]
