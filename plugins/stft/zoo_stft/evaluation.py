"""What the trained networks are worth: the fixed test clips of Motion MNIST, in float32."""

from __future__ import annotations

from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from safetensors.torch import load

from zoo_motion_mnist import motion
from zoo_motion_mnist.task import evaluate

if TYPE_CHECKING:
    from torch import Tensor


def example(frames: int = motion.FRAMES) -> Tensor:
    """The first bundled sample as a batch, 1 x 1 x T x 64 x 64 (float32, 0..1): the input of the golden tensors."""
    clip = load(files("zoo_stft").joinpath("samples/motion_mnist.safetensors").read_bytes())["clips"][0]
    return clip[:: len(clip) // frames].permute(3, 0, 1, 2)[None].float() / 255


#: For the networks of other numbers of frames.
evaluate_8 = partial(evaluate, frames=8)
evaluate_32 = partial(evaluate, frames=32)
example_8 = partial(example, 8)
example_32 = partial(example, 32)
