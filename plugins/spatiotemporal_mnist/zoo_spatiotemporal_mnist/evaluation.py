"""Evaluation of the trained networks: the three tasks on the fixed test clips, in float32."""

from __future__ import annotations

from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.training.evaluation import per_clip
from zoo_spatiotemporal_mnist import blinking, sparse
from zoo_spatiotemporal_mnist.networks import BlinkingNetwork

#: Names of the metrics, as in entries and cards.
METRICS = ("digit accuracy", "order accuracy", "speed mean absolute error", "rounded speed accuracy")

#: The tables of the breakdown, by which parameters of a clip each has its rows.
TABLES: dict[str, tuple[str, ...]] = {
    "speed": ("speed",),
    "period": ("period",),
    "digit": ("digit",),
    "order": ("order",),
    "speed and period": ("speed", "period"),
}


def evaluate(
    network: nn.Module,
    device: torch.device,
    clips: int | None = None,
    *,
    split: str = "test",
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Measure a network on the fixed clips of a split, all or the first `clips`, and leave it in eval mode.

    `metrics`: accuracies as shares of 1 (the speed counts as right where it rounds to the true one) and the speed's
    mean absolute error in pixels a frame. `breakdown`: the same by what was drawn for a clip, each row with its number
    of clips. `batch_size` None is 100, on a CPU 16 for convolutional networks and 2 for others, where larger batches
    lose more to memory than they gain.

    Raises:
        zoo.errors.UsageError: if the split has fewer clips, or `clips` is not positive.
        zoo.errors.DataError: if MNIST is missing or corrupt.
    """
    images, parameters = blinking.fixed_set(split, clips)
    fitting = 100 if device.type != "cpu" else 16 if _by_sites(network) else 2
    scores = score(network, images.to(device), parameters, batch_size or fitting)
    values = _rounded(scores)
    return {
        "metrics": [
            {"dataset": "blinking_mnist", "split": split, "name": name, "value": value}
            for name, value in values.items()
        ],
        "clips_measured": len(parameters),
        "per_clip": {
            name: per_clip(column if "error" in name else column.bool())
            for name, column in zip(METRICS, scores.unbind(1), strict=True)
        },
        "breakdown": {name: _table(scores, parameters, by) for name, by in TABLES.items()},
    }


def score(network: nn.Module, images: Tensor, parameters: blinking.Parameters, batch_size: int) -> Tensor:
    """Compute each clip's part of each metric, N x 4 (float64, on the CPU), rendered and read batch by batch."""
    network.eval()
    found: list[Tensor] = []
    with torch.inference_mode(), tqdm(total=len(parameters), desc="measured", unit="clip", disable=None) as bar:
        for start in range(0, len(parameters), batch_size):
            true = parameters[start : start + batch_size]
            outputs = _answers(network, blinking.render(images, true))
            heads = {name: output.double().cpu() for name, output in outputs.items()}
            speed = heads["speed"][:, 0]
            found.append(
                torch.stack(
                    (
                        heads["digit"].argmax(1) == true.digit,
                        heads["order"].argmax(1) == true.order,
                        (speed - true.speed).abs(),
                        speed.round() == true.speed,
                    ),
                    dim=1,
                )
            )
            bar.update(len(true))
    return torch.cat(found)


def _by_sites(network: nn.Module) -> TypeGuard[BlinkingNetwork]:
    """Check whether a network can be computed sparsely, on non-empty sites only: those of convolutions can."""
    return isinstance(network, BlinkingNetwork) and network.lstm is not None


def _answers(network: nn.Module, clips: Tensor) -> dict[str, Tensor]:
    """Compute the outputs for uint8 clips, in eval mode."""
    if _by_sites(network):
        features = network.pooled(sparse.body(network.body, clips))
        return network.read(network.states(features)[:, -1])
    return cast("dict[str, Tensor]", network(clips.float() / 255))


def _table(scores: Tensor, parameters: blinking.Parameters, by: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return one row for every combination of values that the clips have, in ascending order."""
    keys = torch.stack([getattr(parameters, name) for name in by], dim=1)
    rows = []
    for key in torch.unique(keys, dim=0):
        chosen = (keys == key).all(1)
        values = dict(zip(by, key.tolist(), strict=True))
        if "order" in values:
            values["order"] = blinking.ORDER_LABELS[values["order"]]
        rows.append({**values, "clips": int(chosen.sum()), **_rounded(scores[chosen])})
    return rows


def _rounded(scores: Tensor) -> dict[str, float]:
    """Compute the metrics of some clips, to the four digits that 10,000 clips resolve."""
    return {name: round(value, 4) for name, value in zip(METRICS, scores.mean(0).tolist(), strict=True)}
