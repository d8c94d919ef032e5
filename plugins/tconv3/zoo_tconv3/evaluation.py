"""What the trained networks are worth: the fixed test clips of the motions they were trained on, in float32."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor, nn
from tqdm import tqdm

from zoo.datasets import motion
from zoo.training.evaluation import per_clip
from zoo_tconv3 import training


def evaluate(
    network: nn.Module,
    device: torch.device,
    clips: int | None = None,
    *,
    kind: str | None = None,
    frames: int = motion.FRAMES,
    split: str = "test",
    batch_size: int = 50,
) -> dict[str, Any]:
    """Measure a network on the fixed clips of a split, all or the first `clips`, and leave it in eval mode.

    `metrics`: the share of clips whose class is right; `breakdown`: the same by motion and by digit. `kind` says what
    the classes are (`training.clips`); a network of images takes `frames=1`.

    Raises:
        zoo.errors.UsageError: where the split has fewer clips, or `clips` is not positive.
        zoo.errors.DataError: where MNIST is missing or corrupt.
    """
    images, parameters = motion.fixed_set(split, clips, training.motions(kind))
    images = images.to(device)
    right = torch.zeros(len(parameters), dtype=torch.bool)
    network.eval()
    with torch.inference_mode(), tqdm(total=len(right), desc="measured", unit="clip", disable=None) as bar:
        for start in range(0, len(right), batch_size):
            drawn = parameters[start : start + batch_size]
            x = training.as_input(motion.render(images, drawn, frames=frames))
            right[start : start + batch_size] = network(x).argmax(1).cpu() == training.labels(drawn, kind)
            bar.update(len(drawn))
    name = "digit accuracy" if kind == "static" else "motion accuracy"
    shown = parameters.present.int().argmax(1)
    tables = {"motion": (shown, motion.MOTIONS), "digit": (parameters.digit, tuple("0123456789"))}
    return {
        "metrics": [{"dataset": _dataset(kind), "split": split, "name": name, "value": _share(right)}],
        "clips_measured": len(right),
        "per_clip": {name: per_clip(right)},
        "breakdown": {
            table: [
                {table: label, "clips": int((keys == index).sum()), name: _share(right[keys == index])}
                for index, label in enumerate(labels)
                if (keys == index).any()
            ]
            for table, (keys, labels) in tables.items()
        },
    }


def example_image() -> Tensor:
    """The middle frame of the first bundled sample, 1 x 1 x 64 x 64 (float32, 0..1), for golden tensors."""
    clip = load(files("zoo_tconv3").joinpath("samples/motion_mnist.safetensors").read_bytes())["clips"][0]
    return clip[len(clip) // 2].permute(2, 0, 1)[None].float() / 255


def _dataset(kind: str | None) -> str:
    return "motion_mnist" if kind is None else f"motion_mnist, {kind}"


def _share(right: Tensor) -> float:
    """The share of right answers, to the four digits that 10,000 clips can tell."""
    return round(float(right.double().mean()), 4)
