"""How the networks learn, to reconstruct TR-MNIST and to name the motions of Motion MNIST: what the recipes name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.datasets import motion, translate_rotate
from zoo.errors import UsageError
from zoo.training.data import mnist
from zoo_stdcf import networks
from zoo_stdcf.layer import Stdcf

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.entries.recipes import Stage

Batch = dict[str, Tensor]

#: What stages may learn of the STDCF layers.
PARTS = ("psi", "phi", "alpha")


def build(*, design: str, **arguments: Any) -> nn.Module:
    """The network that the function `design` of `networks` builds."""
    network: nn.Module = getattr(networks, design)(**arguments)
    return network


def as_input(clips: Tensor) -> Tensor:
    """Clips N x 1 x T x H x W (uint8) as networks take them (float32, 0..1)."""
    return clips.float() / 255


def fixed_clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Batches of the fixed clips of TR-MNIST, in a new order each time that all have been seen: `clips` (uint8).

    An epoch ends where its clips do, in the middle of a batch if need be.
    """
    del network
    images, drawn = translate_rotate.fixed_set("train")
    painted = translate_rotate.render(images.to(device), drawn)
    every = len(painted)

    def batch_at(step: int) -> Batch:
        first, last = step * stage.batch_size, (step + 1) * stage.batch_size
        epochs = range(first // every, (last - 1) // every + 1)
        orders = [
            torch.randperm(every, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch)) for epoch in epochs
        ]
        index = torch.cat(orders)[first - epochs[0] * every :][: stage.batch_size]
        return {"clips": painted[index.to(device)]}

    return batch_at


def squared_error(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared error of the reconstruction over all pixels, of values from 0 to 1."""
    del stage
    x = as_input(batch["clips"])
    return F.mse_loss(network(x), x), {}


def moving_clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Batches of newly drawn clips of Motion MNIST: `clips` (uint8) and `label`.

    Stage arguments: `frames`, of the same motion, 16 where it is left out, and `size`, rows and columns, 64 where left
    out. `learned`: the parts of STDCF layers that the stage learns beside all other parameters, such as ["phi",
    "alpha"]; the others stay as they are; all where it is left out.
    """
    learn(network, stage.arguments.get("learned", PARTS))
    found = mnist.read_part("train")
    images = found.images.to(device)
    frames, size = stage.arguments.get("frames", motion.FRAMES), stage.arguments.get("size", motion.FRAME_SIZE)

    def batch_at(step: int) -> Batch:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        drawn = at_speed(motion.draw(stage.batch_size, found.labels, generator=generator), motion.FRAMES / frames)
        clips = motion.render(images, drawn, frames=frames)
        if size != motion.FRAME_SIZE:
            clips = F.adaptive_avg_pool3d(clips.float(), (frames, size, size)).round_().to(torch.uint8)
        return {"clips": clips, "label": labels(drawn).to(device)}

    return batch_at


def learn(network: nn.Module, parts: tuple[str, ...] | list[str]) -> None:
    """Let the STDCF layers learn these parts of `psi`, `phi` and `alpha` and keep the others.

    Raises:
        UsageError: for a part that they do not have.
    """
    unknown = [name for name in parts if name not in PARTS]
    if unknown:
        raise UsageError(f"STDCF layers have no {', '.join(unknown)} to learn; expected some of {', '.join(PARTS)}")
    for layer in network.modules():
        if isinstance(layer, Stdcf):
            for name in PARTS:
                getattr(layer, name).requires_grad_(name in parts)


def at_speed(drawn: motion.Parameters, speed: float) -> motion.Parameters:
    """The same motions played `speed` times as fast: from frame to frame all happens so much quicker."""
    rates = ("zoom", "rotation", "translation")
    return replace(drawn, **{name: getattr(drawn, name) * speed for name in rates})


def labels(drawn: motion.Parameters) -> Tensor:
    """Of each clip the index of its motion."""
    return drawn.present.int().argmax(1)


def cross_entropy(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy of the motions."""
    del stage
    logits = network(as_input(batch["clips"]))
    accuracy = (logits.argmax(1) == batch["label"]).float().mean()
    return F.cross_entropy(logits.float(), batch["label"]), {"accuracy": accuracy}
