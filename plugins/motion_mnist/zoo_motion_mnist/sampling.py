"""Sample clips: test digits of MNIST, one clip for each motion, and some that show several. `write` makes ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from zoo.training.data import mnist
from zoo_motion_mnist import motion

#: Seeds of the nine clips of one motion, and of two that show several at once; chosen so that digits differ.
SINGLE: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9)
SEVERAL: tuple[int, ...] = (14, 33)


def write(
    path: Path, *, single: Sequence[int] = SINGLE, several: Sequence[int] = SEVERAL, frames: int = motion.FRAMES
) -> tuple[str, ...]:
    """Write the tensor `clips`, K x T x 64 x 64 x 1 (uint8), and return what each clip shows.

    Args:
        path: File to write.
        single: A seed for each of the nine motions.
        several: Seeds of clips that show several motions.
        frames: Of a clip, which lasts equally long whatever their number.
    """
    found = mnist.read("test")
    drawn = [
        motion.draw(1, found.labels, generator=torch.Generator().manual_seed(seed), motions=[name])
        for seed, name in zip(single, motion.MOTIONS, strict=True)
    ]
    drawn += [
        motion.draw(1, found.labels, generator=torch.Generator().manual_seed(seed), several=True) for seed in several
    ]
    played = [motion.at_speed(one, motion.FRAMES / frames) for one in drawn]
    clips = [motion.render(found.images, one, frames=frames)[0].permute(1, 2, 3, 0) for one in played]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(save({"clips": torch.stack(clips)}))
    return tuple(map(describe, played))


def describe(drawn: motion.Parameters) -> str:
    """Describe a single clip: its digit, its motions and their rates per frame."""
    right, down = drawn.translation[0].tolist()
    zoom, rotation = float(drawn.zoom), float(drawn.rotation)
    rates = {
        "zoom": f"{abs(math.expm1(zoom)):.1%} per frame".replace("%", " %"),
        "rotation": f"{abs(rotation):.1f}° per frame",
        "translation": f"{abs(right + down):.1f} pixels per frame",
        "static": "",
    }
    shown = []
    for kind, names in motion.KINDS.items():
        shown += [f"{name} {rates[kind]}".strip() for name in names if drawn.present[0, motion.MOTIONS.index(name)]]
    return f"digit {int(drawn.digit)}, {', '.join(shown)}"
