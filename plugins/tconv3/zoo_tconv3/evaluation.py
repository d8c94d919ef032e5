"""Evaluation of the trained networks on the fixed test clips of their training motions, in float32."""

from __future__ import annotations

from torch import Tensor

from zoo_motion_mnist.task import evaluate as evaluate
from zoo_motion_mnist.task import example as example


def example_image() -> Tensor:
    """Return the middle frame of the first bundled sample, 1 x 1 x 64 x 64 (float32, 0..1), for golden tensors."""
    clip = example()
    return clip[:, :, clip.shape[2] // 2]
