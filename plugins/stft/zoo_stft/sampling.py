"""The sample clips that the package bundles: test digits of MNIST, one for each motion, in 32 frames."""

from __future__ import annotations

from pathlib import Path

from zoo_motion_mnist import sampling

#: As many as the longest clips have that a network of this package was trained on.
FRAMES = 32
#: Seeds of the nine clips, chosen so that digits differ.
SEEDS: tuple[int, ...] = (21, 22, 23, 24, 26, 30, 31, 39, 42)


def write(path: Path) -> tuple[str, ...]:
    """Write the tensor `clips`, 9 x 32 x 64 x 64 x 1 (uint8), and return what each clip shows."""
    return sampling.write(path, single=SEEDS, several=(), frames=FRAMES)
