"""What the trained networks are worth: the fixed test clips of the motions they were trained on, in float32."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from zoo_motion_mnist.task import evaluate, example

if TYPE_CHECKING:
    from torch import Tensor

#: For the networks of a single kind of motion, and those that read still digits, in clips and in images.
evaluate_zoom = partial(evaluate, kind="zoom")
evaluate_rotation = partial(evaluate, kind="rotation")
evaluate_translation = partial(evaluate, kind="translation")
evaluate_static = partial(evaluate, kind="static")
evaluate_images = partial(evaluate, kind="static", frames=1)


def example_image() -> Tensor:
    """The middle frame of the first bundled sample, 1 x 1 x 64 x 64."""
    clip = example()
    return clip[:, :, clip.shape[2] // 2]
