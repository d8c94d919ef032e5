"""How the networks learn motions: the parts that the recipes name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.datasets import motion
from zoo.models import inflation
from zoo.training.data import mnist
from zoo_tconv3 import networks
from zoo_tconv3.layer import IDENTITY, TConv3d

if TYPE_CHECKING:
    from collections.abc import Callable

    from zoo.entries.recipes import Stage

Batch = dict[str, Tensor]


def build(*, inflated_from: str | None = None, **arguments: Any) -> nn.Module:
    """The network, laid out for convolutions of many channels.

    `inflated_from` names trained weights of a 2D network, whose convolutions it begins with (section 4.5).
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


def clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Batches of newly drawn clips of the training digits: `clips` (uint8) and `label`.

    Stage arguments: `kind`, whose motions are the classes; the classes of "static" are the ten digits, None is all.
    `frames`, 1 for images.
    """
    del network
    found = mnist.read_part("train")
    images = found.images.to(device)
    kind, frames = stage.arguments.get("kind"), stage.arguments.get("frames", motion.FRAMES)

    def batch_at(step: int) -> Batch:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        drawn = motion.draw(stage.batch_size, found.labels, generator=generator, motions=motions(kind))
        return {"clips": motion.render(images, drawn, frames=frames), "label": labels(drawn, kind).to(device)}

    return batch_at


def motions(kind: str | None) -> tuple[str, ...]:
    """The motions of a kind; all nine for None."""
    return motion.MOTIONS if kind is None else motion.KINDS[kind]


def labels(drawn: motion.Parameters, kind: str | None) -> Tensor:
    """Of each clip its class: the index of its motion among those of the kind, or its digit where nothing moves."""
    if kind == "static":
        return drawn.digit
    return drawn.present[:, [motion.MOTIONS.index(name) for name in motions(kind)]].int().argmax(1)


def as_input(clips: Tensor) -> Tensor:
    """Clips N x 1 x T x H x W (uint8) as networks take them (float32, 0..1); of one frame, as images N x 1 x H x W."""
    if clips.shape[2] == 1:
        return clips[:, :, 0].float() / 255
    return clips.to(memory_format=torch.channels_last_3d).float() / 255


def loss(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy; GoogLeNet adds 0.3 times that of each auxiliary head (as published).

    Stage argument: `pull`, by which every temporal parameter is drawn back to the identity (the weight of the sum of
    absolute deviations), so that only those stay away that the task holds there.
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
