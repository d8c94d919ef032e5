"""Training functions of the recipes: reconstruction of TR-MNIST and classification of Motion MNIST's motions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.entries.recipes import Stage
from zoo.errors import UsageError
from zoo_motion_mnist import task
from zoo_motion_mnist.task import Batch, as_input
from zoo_stdcf import networks, translate_rotate
from zoo_stdcf.layer import Stdcf

#: Parameters of the STDCF layers that stages may train.
PARTS = ("psi", "phi", "alpha")


def build(*, design: str, **arguments: Any) -> nn.Module:
    """Build the network by the function `design` of `networks`."""
    network: nn.Module = getattr(networks, design)(**arguments)
    return network


def fixed_clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Yield batches of the fixed clips of TR-MNIST, in a new order each time that all have been seen: `clips` (uint8).

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
    """Return the mean squared error of the reconstruction over all pixels, of values from 0 to 1."""
    del stage
    x = as_input(batch["clips"])
    return F.mse_loss(network(x), x), {}


def moving_clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Yield batches of newly drawn clips of Motion MNIST: `clips` (uint8) and `label`.

    Stage arguments: those of `zoo_motion_mnist.task.clips`, and `learned`: the parts of STDCF layers that the stage
    learns beside all other parameters, such as ["phi", "alpha"]; the others stay unchanged; all by default.
    """
    learn(network, stage.arguments.get("learned", PARTS))
    return task.clips(network, stage, seed, device)


def learn(network: nn.Module, parts: tuple[str, ...] | list[str]) -> None:
    """Train these parts of `psi`, `phi` and `alpha` of the STDCF layers and keep the others.

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


#: Cross entropy of the motions.
cross_entropy = task.loss
