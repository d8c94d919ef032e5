"""How the networks learn motions: the parts that the recipes name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.datasets import motion
from zoo.training.data import mnist
from zoo_stft import networks

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.entries.recipes import Stage

Batch = dict[str, Tensor]


def build(**arguments: Any) -> nn.Module:
    """The network, laid out for convolutions of many channels."""
    return networks.build(**arguments).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload,no-any-return]


def clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Batches of newly drawn clips of the training digits: `clips` (uint8) and `label`.

    Stage argument: `frames`. Whatever their number, a step of a seed shows the same digits and motions.
    """
    del network
    found = mnist.read_part("train")
    images = found.images.to(device)

    def batch_at(step: int) -> Batch:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        drawn = motion.draw(stage.batch_size, found.labels, generator=generator)
        return {"clips": render(images, drawn, stage.arguments["frames"]), "label": labels(drawn).to(device)}

    return batch_at


def render(images: Tensor, drawn: motion.Parameters, frames: int) -> Tensor:
    """Paint clips N x 1 x T x 64 x 64 (uint8) that last as long whatever T is: more frames show smaller steps.

    So T frames are drawn of one and the same video, as section 5.2 does. Rates are those of 16 frames.
    """
    share = motion.FRAMES / frames
    slowed = {name: getattr(drawn, name) * share for name in ("zoom", "rotation", "translation")}
    return motion.render(images, replace(drawn, **slowed), frames=frames)


def labels(drawn: motion.Parameters) -> Tensor:
    """Of each clip the index of its motion."""
    return drawn.present.int().argmax(1)


def as_input(clips: Tensor) -> Tensor:
    """Clips N x 1 x T x H x W (uint8) as the networks take them (float32, 0..1)."""
    return clips.to(memory_format=torch.channels_last_3d).float() / 255


def loss(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy."""
    del stage
    logits = network(as_input(batch["clips"]))
    right = (logits.argmax(1) == batch["label"]).float().mean()
    return F.cross_entropy(logits.float(), batch["label"]), {"accuracy": right}
