"""Training of the networks on motions: the functions that the recipes name."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.entries.recipes import Stage
from zoo.models import inflation
from zoo_motion_mnist.task import Batch, as_input
from zoo_motion_mnist.task import clips as clips
from zoo_tconv3 import networks
from zoo_tconv3.layer import IDENTITY, TConv3d


def build(*, inflated_from: str | None = None, **arguments: Any) -> nn.Module:
    """Build the network, in the memory layout for convolutions of many channels.

    `inflated_from` names trained weights of a 2D network, whose convolutions initialize it (section 4.5).
    """
    network = networks.build(**arguments)
    if inflated_from is not None:
        flat = zoo.load(inflated_from)
        report: Any = flat.zoo_load_report
        inflation.inflate(network, flat.state_dict(), name="the network", source=report.name)
        network.zoo_start = {report.name: report.sha256}  # type: ignore[assignment]  # for the run's record
    for part in network.modules():
        if isinstance(part, nn.Conv3d):
            part.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stub leaves it out
    return network


def loss(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cross-entropy; GoogLeNet adds 0.3 times that of each auxiliary head (as published).

    Stage argument: `pull`, the weight of an L1 penalty on the deviation of every temporal parameter from the identity,
    so that only those deviate that the task requires.
    """
    x = as_input(batch["clips"])
    if isinstance(network, networks.GoogLeNet):
        logits, *auxiliary = network.forward_auxiliary(x)
    else:
        logits, auxiliary = network(x), []
    total = F.cross_entropy(logits.float(), batch["label"])
    for guess in auxiliary:
        total = total + 0.3 * F.cross_entropy(guess.float(), batch["label"])
    pull = stage.arguments.get("pull", 0.0)
    if pull:
        total = total + pull * deviation(network)
    return total, {"accuracy": (logits.argmax(1) == batch["label"]).float().mean()}


def deviation(network: nn.Module) -> Tensor:
    """Sum over all temporal parameters of their distance from the identity."""
    layers = [part for part in network.modules() if isinstance(part, TConv3d)]
    parts = [
        (value - IDENTITY[name]).abs().sum() for layer in layers for name, value in layer.temporal_parameters().items()
    ]
    return torch.stack(parts).sum()
