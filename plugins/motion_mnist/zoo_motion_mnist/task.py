"""The task of classifying the motion of a Motion MNIST clip: functions of recipes, for training and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn
from tqdm import tqdm

from zoo.entries.recipes import Stage
from zoo.training.data import mnist
from zoo.training.evaluation import per_clip
from zoo_motion_mnist import motion

Batch = dict[str, Tensor]


def motions(kind: str | None) -> tuple[str, ...]:
    """Give the motions of a kind, a key of `KINDS`; all nine for None."""
    return motion.MOTIONS if kind is None else motion.KINDS[kind]


def labels(drawn: motion.Parameters, kind: str | None = None) -> Tensor:
    """Give the class of each clip, N (int64).

    It is the index of the clip's motion among those of the kind; for the kind "static", where nothing moves, the digit.
    """
    if kind == "static":
        return drawn.digit
    return drawn.present[:, [motion.MOTIONS.index(name) for name in motions(kind)]].int().argmax(1)


def render(images: Tensor, drawn: motion.Parameters, frames: int = motion.FRAMES) -> Tensor:
    """Paint clips N x 1 x T x 64 x 64 (uint8) that last equally long whatever T is: more frames show smaller steps.

    T frames sample one and the same video. Rates are those of 16 frames.
    """
    return motion.render(images, motion.at_speed(drawn, motion.FRAMES / frames), frames=frames)


def clips(network: nn.Module, stage: Stage, seed: int, device: torch.device) -> Callable[[int], Batch]:
    """Give batches of newly drawn clips of the training digits: `clips` (uint8) and `label`.

    Stage arguments: `kind`, whose motions are the classes (`labels`), all nine by default; `frames`, 16 by default, 1
    for images; `size`, rows and columns, 64 by default, to which clips are averaged down. Whatever they are, a step of
    a seed shows the same digits and motions.
    """
    del network
    found = mnist.read_part("train")
    images = found.images.to(device)
    kind = stage.arguments.get("kind")
    frames, size = stage.arguments.get("frames", motion.FRAMES), stage.arguments.get("size", motion.FRAME_SIZE)

    def batch_at(step: int) -> Batch:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        drawn = motion.draw(stage.batch_size, found.labels, generator=generator, motions=motions(kind))
        painted = render(images, drawn, frames)
        if size != motion.FRAME_SIZE:
            painted = F.adaptive_avg_pool3d(painted.float(), (frames, size, size)).round_().to(torch.uint8)
        return {"clips": painted, "label": labels(drawn, kind).to(device)}

    return batch_at


def as_input(clips: Tensor) -> Tensor:
    """Turn clips N x 1 x T x H x W (uint8) into inputs (float32, 0..1); a single frame into an image N x 1 x H x W."""
    if clips.shape[2] == 1:
        return clips[:, :, 0].float() / 255
    return clips.to(memory_format=torch.channels_last_3d).float() / 255


def loss(network: nn.Module, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the cross entropy, and beside it the accuracy."""
    del stage
    logits = network(as_input(batch["clips"]))
    accuracy = (logits.argmax(1) == batch["label"]).float().mean()
    return F.cross_entropy(logits.float(), batch["label"]), {"accuracy": accuracy}


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
    """Evaluate a network on the fixed clips of a split, all or the first `clips`, and leave it in eval mode.

    `metrics`: the accuracy; `breakdown`: the same by motion and by digit. `kind` determines
    the classes (`labels`); a network of images takes `frames=1`.

    Raises:
        zoo.errors.UsageError: if the split has fewer clips, or `clips` is not positive.
        zoo.errors.DataError: if MNIST is missing or damaged.
    """
    images, parameters = motion.fixed_set(split, clips, motions(kind))
    images = images.to(device)
    expected = labels(parameters, kind)
    right = torch.zeros(len(parameters), dtype=torch.bool)
    network.eval()
    with torch.inference_mode(), tqdm(total=len(right), desc="measured", unit="clip", disable=None) as bar:
        for start in range(0, len(right), batch_size):
            part = slice(start, start + batch_size)
            x = as_input(render(images, parameters[part], frames))
            right[part] = network(x).argmax(1).cpu() == expected[part]
            bar.update(len(x))
    name = "digit accuracy" if kind == "static" else "motion accuracy"
    tables = {
        "motion": (labels(parameters), motion.MOTIONS),
        "digit": (parameters.digit, tuple("0123456789")),
    }
    return {
        "metrics": [{"dataset": _dataset(kind, frames), "split": split, "name": name, "value": share(right)}],
        "clips_measured": len(right),
        "per_clip": {name: per_clip(right)},
        "breakdown": {
            table: [
                {table: label, "clips": int((keys == index).sum()), name: share(right[keys == index])}
                for index, label in enumerate(values)
                if (keys == index).any()
            ]
            for table, (keys, values) in tables.items()
        },
    }


def example() -> Tensor:
    """Give the first bundled clip as a batch, 1 x 1 x 16 x 64 x 64 (float32, 0..1): an input for golden tensors."""
    content = files("zoo_motion_mnist").joinpath("samples/motion_mnist.safetensors").read_bytes()
    return load(content)["clips"][0].permute(3, 0, 1, 2)[None].float() / 255


def share(right: Tensor) -> float:
    """Round the accuracy to four decimals, which 10,000 clips resolve."""
    return round(float(right.double().mean()), 4)


def _dataset(kind: str | None, frames: int) -> str:
    """Name the data set of the metrics, as in "motion_mnist, 8 frames"; a single frame looks like a static clip."""
    parts = ("motion_mnist", kind, None if frames in (1, motion.FRAMES) else f"{frames} frames")
    return ", ".join(filter(None, parts))
