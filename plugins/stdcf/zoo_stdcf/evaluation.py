"""Evaluation of the trained networks on the fixed test clips of TR-MNIST and Motion MNIST, in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.training.evaluation import per_clip
from zoo_motion_mnist import task
from zoo_motion_mnist.task import as_input
from zoo_stdcf import translate_rotate

#: On Motion MNIST networks are measured as others are.
evaluate_motion = task.evaluate
example_motion = task.example


def evaluate_reconstruction(
    network: nn.Module, device: torch.device, clips: int | None = None, *, split: str = "test", batch_size: int = 100
) -> dict[str, Any]:
    """Measure an autoencoder on the fixed clips of TR-MNIST, all or the first `clips`, and leave it in eval mode.

    `metrics`: the mean squared error over all pixels of all clips, of values from 0 to 1; `breakdown`: the
    same by frame.

    Raises:
        zoo.errors.UsageError: if the split has fewer clips, or `clips` is not positive.
        zoo.errors.DataError: if MNIST is missing or damaged.
    """
    images, parameters = translate_rotate.fixed_set(split, clips)
    painted = translate_rotate.render(images.to(device), parameters)
    errors = torch.zeros(len(painted), translate_rotate.FRAMES, dtype=torch.float64)
    network.eval()
    with torch.inference_mode(), tqdm(total=len(painted), desc="measured", unit="clip", disable=None) as bar:
        for start in range(0, len(painted), batch_size):
            x = as_input(painted[start : start + batch_size])
            errors[start : start + batch_size] = (network(x) - x).double().square().mean((1, 3, 4)).cpu()
            bar.update(len(x))
    name = "mean squared error"
    return {
        "metrics": [{"dataset": "tr_mnist", "split": split, "name": name, "value": _figures(errors.mean())}],
        "clips_measured": len(painted),
        "per_clip": {name: per_clip(errors.mean(1))},
        "breakdown": {
            "frame": [
                {"frame": str(frame), "clips": len(painted), name: _figures(errors[:, frame].mean())}
                for frame in range(translate_rotate.FRAMES)
            ]
        },
    }


def _figures(error: Tensor) -> float:
    """Format a mean squared error to six decimals."""
    return round(float(error), 6)
