"""The sample clips that the package bundles: fixed test clips of TR-MNIST, and one of each motion of Motion MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from zoo.datasets import motion, translate_rotate

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

#: How many of the first test clips of TR-MNIST.
RECONSTRUCTED = 6


def write(folder: Path) -> dict[str, tuple[str, ...]]:
    """Write `tr_mnist.safetensors` (6 x 8 x 28 x 28 x 1) and `motion_mnist.safetensors` (9 x 16 x 64 x 64 x 1).

    Returns what each clip shows, by name of the file.
    """
    images, two = translate_rotate.fixed_set("test", RECONSTRUCTED)
    both = {"tr_mnist": translate_rotate.render(images, two)}
    images, moving = motion.fixed_set("test")
    first = torch.stack([(moving.present[:, index]).int().argmax() for index in range(len(motion.MOTIONS))])
    both["motion_mnist"] = motion.render(images, moving[first])
    folder.mkdir(exist_ok=True)
    for name, clips in both.items():
        (folder / f"{name}.safetensors").write_bytes(save({"clips": clips.permute(0, 2, 3, 4, 1).contiguous()}))
    return {
        "tr_mnist": tuple(f"digits {a} and {b}" for a, b in two.digit.tolist()),
        "motion_mnist": tuple(map(_said, moving.digit[first], motion.MOTIONS)),
    }


def _said(digit: Tensor, shown: str) -> str:
    return f"digit {int(digit)}, {shown}"
