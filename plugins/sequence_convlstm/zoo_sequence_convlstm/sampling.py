"""The sample clips that the package bundles: sequences of test digits of MNIST, digits 6 and 3, and others."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from zoo.training.data import mnist
from zoo_sequence_convlstm import data, sequences

#: The digits shown; the last two are neither of N6 nor of N3.
DIGITS: tuple[int, ...] = (6, 6, 3, 3, 8, 5)


def write(path: Path) -> tuple[str, ...]:
    """Write the tensor `clips`, 6 x 16 x 36 x 36 x 1 (uint8), and return what each clip shows."""
    found = mnist.read("test")
    clips = []
    for seed, digit in enumerate(DIGITS):
        generator = torch.Generator().manual_seed(seed)
        drawn = sequences.draw(1, found.labels, generator=generator, digit=digit)
        values = data.scale().apply(sequences.render(found.images, drawn, generator=generator))
        clips.append((255 * values[0]).round().to(torch.uint8).permute(1, 2, 3, 0))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(save({"clips": torch.stack(clips)}))
    return tuple(f"digit {digit}, 16 frames" for digit in DIGITS)
