"""Training of next-frame prediction: the functions that the recipes name."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.entries.recipes import Stage
from zoo_sequence_convlstm import data

Batch = dict[str, "Tensor"]


def windows(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Yield batches of a training set, `inputs` and `targets`, in another order each epoch.

    Batches follow each other without a gap: one may contain the end of an epoch and the beginning of the next. Stage
    argument: `training_set`, one of `data.training_windows`.
    """
    del network
    found = data.training_windows(stage.arguments["training_set"])
    inputs, targets = found.inputs.to(device), found.targets.to(device)

    @lru_cache(maxsize=2)
    def order(epoch: int) -> Tensor:
        return torch.randperm(len(found), generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))

    def batch_at(step: int) -> Batch:
        first = step * stage.batch_size
        places = range(first, first + stage.batch_size)
        chosen = torch.tensor([int(order(place // len(found))[place % len(found)]) for place in places]).to(device)
        return {"inputs": inputs[chosen], "targets": targets[chosen]}

    return batch_at


def loss(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the mean squared error per pixel; its root is reported as well, more informative in few digits."""
    del stage
    found = F.mse_loss(network(batch["inputs"]), batch["targets"])
    return found, {"root": found.detach().sqrt()}
