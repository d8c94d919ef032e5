"""Evaluation of the trained networks on the fixed test clips of Motion MNIST, in float32."""

from __future__ import annotations

from importlib.resources import files

from safetensors.torch import load
from torch import Tensor

from zoo_motion_mnist import motion
from zoo_motion_mnist.task import evaluate as evaluate


def example(frames: int = motion.FRAMES) -> Tensor:
    """Return the first bundled sample as a batch, 1 x 1 x T x 64 x 64 (float32, 0..1): the golden input."""
    clip = load(files("zoo_stft").joinpath("samples/motion_mnist.safetensors").read_bytes())["clips"][0]
    return clip[:: len(clip) // frames].permute(3, 0, 1, 2)[None].float() / 255
