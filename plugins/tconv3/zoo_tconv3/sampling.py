"""The sample clips that the package bundles: test digits of MNIST, one for each motion, and two that show several."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from zoo.datasets import motion
from zoo.training.data import mnist

if TYPE_CHECKING:
    from pathlib import Path

#: Seeds of the nine clips of one motion, and of two that show several at once; chosen so that digits differ.
SINGLE: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9)
SEVERAL: tuple[int, ...] = (14, 33)


def write(path: Path) -> tuple[str, ...]:
    """Write the tensor `clips`, 11 x 16 x 64 x 64 x 1 (uint8), and return what each clip shows."""
    found = mnist.read("test")
    drawn = [
        motion.draw(1, found.labels, generator=torch.Generator().manual_seed(seed), motions=[name])
        for seed, name in zip(SINGLE, motion.MOTIONS, strict=True)
    ]
    drawn += [
        motion.draw(1, found.labels, generator=torch.Generator().manual_seed(seed), several=True) for seed in SEVERAL
    ]
    clips = [motion.render(found.images, one)[0].permute(1, 2, 3, 0) for one in drawn]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(save({"clips": torch.stack(clips)}))
    return tuple(map(_said, drawn))


def _said(drawn: motion.Parameters) -> str:
    """Digit, motions and their rates."""
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
