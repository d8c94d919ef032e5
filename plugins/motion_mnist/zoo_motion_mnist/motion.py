"""Motion MNIST: real digits that zoom, rotate, move or are static, at known rates per frame.

Size, angle and position are drawn for the middle of a clip, and motion is uniform before and after it. So a motion and
its opposite show the same frames in reverse: they cannot be distinguished by a single frame, or by shuffled frames.

Everything random is drawn on the CPU from an explicit generator; `render` paints on the device of the digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import UsageError
from zoo.training.data import mnist
from zoo_motion_mnist import KINDS as KINDS
from zoo_motion_mnist import MOTIONS as MOTIONS

FRAMES = 16
FRAME_SIZE = 64

#: Slowest and fastest of each kind, per frame: growth as a logarithm, degrees, pixels.
RATES: dict[str, tuple[float, float]] = {"zoom": (0.025, 0.05), "rotation": (3.0, 8.0), "translation": (0.6, 1.6)}
#: In the middle of a clip: smallest and largest size (1 is 28 pixels), farthest angle (degrees) and place (pixels).
SIZES = (0.8, 1.3)
FARTHEST_ANGLE = 30.0
FARTHEST_PLACE = 6.0

#: The fixed clips of a split are drawn from this seed.
FIXED_SEED = 2006_15983


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of N clips, all on the CPU.

    `image` N: which digit image; `digit` N: its class; `present` N x 9 (bool): which of `MOTIONS` the clip shows.
    Per frame (float64): `zoom` N: growth of the logarithm of the size; `rotation` N: degrees, clockwise on the screen;
    `translation` N x 2: pixels to the right, pixels down. In the middle of the clip (float64): `size` N, times 28
    pixels; `angle` N: degrees clockwise; `place` N x 2: pixels right of and below the center of the frame.
    """

    image: Tensor
    digit: Tensor
    present: Tensor
    zoom: Tensor
    rotation: Tensor
    translation: Tensor
    size: Tensor
    angle: Tensor
    place: Tensor

    def __len__(self) -> int:
        return len(self.digit)

    def __getitem__(self, index: slice | Tensor) -> Parameters:
        """Return the clips that `index` selects."""
        return Parameters(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def draw(
    count: int,
    labels: Tensor,
    *,
    generator: torch.Generator,
    motions: Sequence[str] = MOTIONS,
    several: bool = False,
    distinct: bool = False,
) -> Parameters:
    """Draw `count` clips over the digits whose classes `labels` (M, int64) gives.

    Each clip shows one of `motions`, each as often as the others. With `several`, it shows any number of them at once:
    none or one of each kind, each kind's absence as likely as each of its motions. Rates, sizes, angles and places are
    uniform over their ranges. `distinct` uses no digit image twice (needs count <= M).

    Raises:
        UsageError: for a motion that does not exist, or none at all, or more distinct clips than digits.
    """
    unknown = [name for name in motions if name not in MOTIONS]
    if unknown or not motions:
        raise UsageError(f"motions {', '.join(unknown) or '(none)'}: expected some of {', '.join(MOTIONS)}")
    if distinct and count > len(labels):
        raise UsageError(f"{count:,} clips of distinct digits: {len(labels):,} digits are there")

    def uniform(low: float, high: float, *more: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *more, generator=generator, dtype=torch.float64)

    present = torch.zeros(count, len(MOTIONS), dtype=torch.bool)
    rows = torch.arange(count)
    if several:
        for kind in ("zoom", "rotation", "translation"):
            known = [MOTIONS.index(name) for name in KINDS[kind] if name in motions]
            choice = torch.randint(len(known) + 1, (count,), generator=generator)
            for place, index in enumerate(known):
                present[:, index] = choice == place
        present[:, -1] = ~present.any(1)
    else:
        chosen = torch.tensor([MOTIONS.index(name) for name in motions])
        present[rows, chosen[torch.randint(len(motions), (count,), generator=generator)]] = True
    if distinct:
        image = torch.randperm(len(labels), generator=generator)[:count]
    else:
        image = torch.randint(len(labels), (count,), generator=generator)
    grows, shrinks, right_turn, left_turn, left, right, up, down, _ = present.double().unbind(1)
    return Parameters(
        image=image,
        digit=labels[image],
        present=present,
        zoom=uniform(*RATES["zoom"]) * (grows - shrinks),
        rotation=uniform(*RATES["rotation"]) * (right_turn - left_turn),
        translation=uniform(*RATES["translation"])[:, None] * torch.stack((right - left, down - up), dim=1),
        size=uniform(*SIZES),
        angle=uniform(-FARTHEST_ANGLE, FARTHEST_ANGLE),
        place=uniform(-FARTHEST_PLACE, FARTHEST_PLACE, 2),
    )


def render(images: Tensor, parameters: Parameters, *, frames: int = FRAMES) -> Tensor:
    """Paint the clips: images M x 28 x 28 (uint8, any device) to N x 1 x T x 64 x 64 (uint8, the same device).

    Bilinear; a pixel may differ by one between devices.
    """
    time = torch.arange(frames, dtype=torch.float64) - (frames - 1) / 2
    painted = paint(
        images[parameters.image.to(images.device)],
        size=parameters.size[:, None] * (parameters.zoom[:, None] * time).exp(),
        angle=parameters.angle[:, None] + parameters.rotation[:, None] * time,
        place=parameters.place[:, None] + parameters.translation[:, None] * time[:, None],
        side=FRAME_SIZE,
    )
    return painted.round_().to(torch.uint8)


def at_speed(parameters: Parameters, speed: float) -> Parameters:
    """Play the same motions `speed` times as fast: every rate per frame is multiplied by it."""
    rates = ("zoom", "rotation", "translation")
    return replace(parameters, **{name: getattr(parameters, name) * speed for name in rates})


def paint(images: Tensor, *, size: Tensor, angle: Tensor, place: Tensor, side: int) -> Tensor:
    """Paint one digit a clip, bilinear: images N x 28 x 28 (0 to 255, any device) to N x 1 x T x side x side (float32).

    Of each frame, on the CPU: `size` N x T, times the digit's pixels; `angle` N x T, degrees clockwise on the screen;
    `place` N x T x 2, pixels right of and below the center.
    """
    count, frames = size.shape
    angle = torch.deg2rad(angle)
    # From a point of the frame to one of the digit, both in pixels from their centers, y down.
    back = torch.stack((angle.cos(), angle.sin(), -angle.sin(), angle.cos()), dim=-1)
    back = back.view(count, frames, 2, 2) / size[..., None, None]
    shift = -(back @ place[..., None])
    half_digit, half_frame = images.shape[-1] / 2, side / 2
    theta = torch.cat((back * half_frame, shift), dim=-1) / half_digit
    theta = theta.flatten(0, 1).to(images.device, torch.float32)
    grid = F.affine_grid(theta, [count * frames, 1, side, side], align_corners=False)
    painted = F.grid_sample(images.float()[:, None], grid.view(count, frames * side, side, 2), align_corners=False)
    return painted.view(count, 1, frames, side, side)


def fixed_set(
    split: str = "test", count: int | None = None, motions: Sequence[str] = MOTIONS
) -> tuple[Tensor, Parameters]:
    """Return the fixed clips of a split before rendering: its digit images M x 28 x 28 (uint8), and their parameters.

    There is one clip for every digit of the split, 10,000 for `test`; `count` selects the first ones.

    Raises:
        UsageError: if there are fewer, or `count` is not positive.
    """
    found = mnist.read_fixed(split, count, "motion_mnist")
    every = len(found.labels)
    generator = torch.Generator().manual_seed(FIXED_SEED)
    return found.images, draw(every, found.labels, generator=generator, motions=motions, distinct=True)[:count]
