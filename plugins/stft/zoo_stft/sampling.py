"""The sample clips that the package bundles: test digits of MNIST, one for each motion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from zoo.datasets import motion
from zoo.training.data import mnist
from zoo_stft import training

if TYPE_CHECKING:
    from pathlib import Path

#: As many as the longest clips have that a network of this package was trained on.
FRAMES = 32
#: Seeds of the nine clips, chosen so that digits differ.
SEEDS: tuple[int, ...] = (21, 22, 23, 24, 26, 30, 31, 39, 42)


def write(path: Path) -> tuple[str, ...]:
    """Write the tensor `clips`, 9 x 32 x 64 x 64 x 1 (uint8), and return what each clip shows."""
    found = mnist.read("test")
    drawn = [
        motion.draw(1, found.labels, generator=torch.Generator().manual_seed(seed), motions=[name])
        for seed, name in zip(SEEDS, motion.MOTIONS, strict=True)
    ]
    clips = [training.render(found.images, one, FRAMES)[0].permute(1, 2, 3, 0) for one in drawn]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(save({"clips": torch.stack(clips)}))
    return tuple(map(_said, drawn))


def _said(drawn: motion.Parameters) -> str:
    """Digit, motion and its rate."""
    share = motion.FRAMES / FRAMES
    rates = {
        "zoom": f" {math.expm1(abs(float(drawn.zoom)) * share):.1%} per frame".replace("%", " %"),
        "rotation": f" {abs(float(drawn.rotation)) * share:.1f}° per frame",
        "translation": f" {float(drawn.translation.abs().sum()) * share:.1f} pixels per frame",
        "static": "",
    }
    shown = motion.MOTIONS[int(training.labels(drawn))]
    (kind,) = (kind for kind, names in motion.KINDS.items() if shown in names)
    return f"digit {int(drawn.digit)}, {shown}{rates[kind]}"
