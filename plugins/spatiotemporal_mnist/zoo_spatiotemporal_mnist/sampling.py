"""The sample clips that the package bundles: six blinking digits of MNIST's test file."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from zoo.training.data import mnist
from zoo_spatiotemporal_mnist import blinking

#: (seed, speed, period) of each clip; the seeds were chosen so that digits and orders differ.
CLIPS: tuple[tuple[int, int, int], ...] = ((334, 2, 1), (156, 2, 2), (69, 3, 4), (24, 4, 6), (186, 2, 12), (6, 6, 8))


def write(path: Path) -> tuple[str, ...]:
    """Write the tensor `clips`, K x 48 x 64 x 64 x 1 (uint8), and return what each clip shows."""
    digits = mnist.read("test")
    clips, labels = [], []
    for seed, speed, period in CLIPS:
        generator = torch.Generator().manual_seed(seed)
        drawn = blinking.draw(1, digits.labels, generator=generator, pairs=[(speed, period)])
        clips.append(blinking.render(digits.images, drawn)[0].permute(1, 2, 3, 0))
        order = blinking.ORDER_LABELS[int(drawn.order)]
        shown = f"{_count(speed, 'pixel')} per frame, visible every {_count(period, 'frame', one='frame')}"
        labels.append(f"digit {int(drawn.digit)}, order {order}, {shown}")
    path.write_bytes(save({"clips": torch.stack(clips)}))
    return tuple(labels)


def _count(number: int, noun: str, *, one: str = "") -> str:
    return (one or f"1 {noun}") if number == 1 else f"{number} {noun}s"
