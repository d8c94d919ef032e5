"""What the trained networks are worth: the three tasks on the fixed test clips, in float32."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from zoo_spatiotemporal_mnist import blinking

#: Names of the metrics, as they stand in entries and cards.
METRICS = ("digit accuracy", "order accuracy", "speed mean absolute error")


def evaluate(
    network: nn.Module, device: torch.device, *, split: str = "test", count: int = 2_000, batch_size: int | None = None
) -> dict[str, Any]:
    """Measure a network on the fixed clips of a split.

    `metrics`: accuracies as shares of 1, the speed's mean absolute error in pixels a frame. `breakdown`: the same by
    speed and period, by digit and by order, each with its number of clips. `batch_size` None is 2 on a CPU, where
    larger batches lose more to memory than they gain, and 100 elsewhere.
    """
    batch_size = batch_size or (2 if device.type == "cpu" else 100)
    clips, parameters = blinking.fixed_clips(split, count)
    with torch.inference_mode():
        outputs = [network(batch.to(device).float() / 255) for batch in torch.split(clips, batch_size)]
    heads = {name: torch.cat([output[name].cpu() for output in outputs]) for name in outputs[0]}
    correct = torch.stack(
        (
            (heads["digit"].argmax(1) == parameters.digit).double(),
            (heads["order"].argmax(1) == parameters.order).double(),
            (heads["speed"][:, 0] - parameters.speed).abs().double(),
        ),
        dim=1,
    )
    values = correct.mean(0).tolist()
    return {
        "metrics": [
            {"dataset": "blinking_mnist", "split": split, "name": name, "value": round(value, 4)}
            for name, value in zip(METRICS, values, strict=True)
        ],
        "clips_measured": len(parameters),
        "breakdown": {
            "speed and period": [
                {"speed": speed, "period": period, **_row(correct[mask])}
                for speed, period in blinking.PAIRS
                if (mask := (parameters.speed == speed) & (parameters.period == period)).any()
            ],
            "digit": [{"digit": digit, **_row(correct[parameters.digit == digit])} for digit in range(10)],
            "order": [
                {"order": label, **_row(correct[parameters.order == index])}
                for index, label in enumerate(blinking.ORDER_LABELS)
            ],
        },
    }


def example() -> Tensor:
    """The first bundled sample as a batch, 1 x 1 x 48 x 64 x 64 (float32, 0..1): the input of the golden tensors."""
    content = files("zoo_spatiotemporal_mnist").joinpath("samples/blinking_mnist.safetensors").read_bytes()
    clip = load(content)["clips"][0]
    return clip.permute(3, 0, 1, 2)[None].float() / 255


def _row(correct: Tensor) -> dict[str, Any]:
    values = [round(value, 4) for value in correct.mean(0).tolist()] if len(correct) else [None] * len(METRICS)
    return {"clips": len(correct), **dict(zip(METRICS, values, strict=True))}
