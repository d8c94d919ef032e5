"""Effect of temporally dilated atoms on clips at half speed: accuracies, and positions of the representations.

`python -m zoo_stdcf.tempo [FILE]` measures the bundled weights of `stdcf_kth`, which have seen clips at their normal
speed alone, with τ = 1 and τ = 2, and writes `tempo.json` (section 3.1 and figure 3 of Miao et al., NeurIPS 2021;
appendix C). A clip at half speed shows the same motion in twice as many frames.
"""

from __future__ import annotations

import argparse
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

import zoo
from zoo import devices
from zoo.errors import ZooError
from zoo.writing import write
from zoo_motion_mnist import motion
from zoo_motion_mnist.task import as_input, labels, share
from zoo_stdcf.layer import with_tempo
from zoo_stdcf.networks import ActionNetwork

#: Playback of clips: name and speed.
SPEEDS: Final = {"normal": 1.0, "half": 0.5}
TEMPI: Final = (1, 2)
#: Test clips measured, and of each motion those whose representations are kept for the picture.
CLIPS: Final = 2_000
SHOWN: Final = 20
STORED: Final = "tempo.json"
_ARCHITECTURE: Final = "stdcf_kth"


@torch.inference_mode()
def seen(
    network: ActionNetwork, *, speed: float, count: int | None = None, batch_size: int = 25
) -> tuple[Tensor, Tensor]:
    """Return representations N x 64 (float64) and predicted classes N of the first Motion MNIST test clips at a speed.

    Raises:
        zoo.errors.UsageError: if there are fewer clips.
        zoo.errors.DataError: if MNIST is missing or damaged.
    """
    images, drawn = motion.fixed_set("test", count)
    images = images.to(devices.like(network).device)
    played, frames = motion.at_speed(drawn, speed), round(motion.FRAMES / speed)
    features = [
        network.features(as_input(motion.render(images, played[start : start + batch_size], frames=frames)))
        for start in range(0, len(drawn), batch_size)
    ]
    every = torch.cat(features)
    return every.double().cpu(), network.fc(every).argmax(1).cpu()


def measure(network: ActionNetwork, count: int = CLIPS) -> dict[str, Any]:
    """Measure accuracies at both speeds with both τ, and principal components of representations; JSON-ready.

    `accuracy`: rows of `played`, `tempo` and the accuracy, all over the same `clips`. `away`: mean
    distance of a clip's representation from that of the same clip at normal speed and τ = 1, over the mean distance of
    all these from their mean. `mean` and `axes` (2 x 64): the two main components of the latter, `explained` their
    shares of the variance; `points`: coordinates along them, of the first `SHOWN` clips of each motion, named by
    `motions`.
    """
    shown = labels(motion.fixed_set("test", count)[1])
    kept = torch.cat([(shown == index).nonzero().flatten()[:SHOWN] for index in range(len(motion.MOTIONS))])
    found = {
        (played, tempo): seen(with_tempo(network, tempo), speed=speed, count=count)
        for played, speed in SPEEDS.items()
        for tempo in TEMPI
    }
    usual = found["normal", 1][0]
    mean, axes, explained = components(usual)
    spread = (usual - mean).norm(dim=1).mean()
    return {
        "clips": count,
        "accuracy": [
            {"played": played, "tempo": tempo, "motion accuracy": share(answers == shown)}
            for (played, tempo), (_, answers) in found.items()
        ],
        "away": [
            {"played": played, "tempo": tempo, "distance": round(float((at - usual).norm(dim=1).mean() / spread), 4)}
            for (played, tempo), (at, _) in found.items()
        ],
        "explained": _rounded(explained),
        "mean": _rounded(mean),
        "axes": _rounded(axes),
        "motions": [motion.MOTIONS[index] for index in shown[kept].tolist()],
        "points": [
            {"played": played, "tempo": tempo, "at": _rounded((at[kept] - mean) @ axes.T)}
            for (played, tempo), (at, _) in found.items()
        ],
    }


def components(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (D), two main components (2 x D, of length 1) and their variance shares (2) of N x D features.

    The largest entry of each component is positive, so that the picture does not turn over from machine to machine.
    """
    mean = features.mean(0)
    _, values, rows = torch.linalg.svd(features - mean, full_matrices=False)
    axes = rows[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return mean, axes * largest.sign(), values[:2].square() / values.square().sum()


def stored(tag: str, sha256: str) -> dict[str, Any] | None:
    """Return the result of `measure` for bundled weights; None for weights that were not measured."""
    place = files("zoo_stdcf").joinpath(STORED)
    found: dict[str, dict[str, Any]] = json.loads(place.read_text()) if place.is_file() else {}
    measured = found.get(tag)
    return measured if measured and measured["sha256"] == sha256 else None


def text(found: dict[str, dict[str, Any]]) -> str:
    """Format the accuracies in Markdown."""
    lines = ["| weights | played | τ | motion accuracy | distance |", "|---|---|---|---|---|"]
    lines += [
        f"| {tag} | {row['played']} | {row['tempo']} | {100 * row['motion accuracy']:.1f} % | {away['distance']:.2f} |"
        for tag, one in found.items()
        for row, away in zip(one["accuracy"], one["away"], strict=True)
    ]
    return "\n".join(lines)


def _rounded(values: Tensor) -> Any:
    return [[round(value, 4) for value in row] if isinstance(row, list) else round(row, 4) for row in values.tolist()]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m zoo_stdcf.tempo", description="What dilating atoms in time does.")
    parser.add_argument("file", type=Path, nargs="?", default=Path(STORED))
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"test clips to measure; {CLIPS} by default")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    devices.keep_freed_memory()
    found = {}
    try:
        for weights in zoo.info(_ARCHITECTURE).weights:
            network = zoo.load(f"{_ARCHITECTURE}.{weights.tag}", device=options.device)
            found[weights.tag] = {"sha256": weights.sha256, **_measured(network, options.clips)}
        write(options.file, json.dumps(found) + "\n")
    except ZooError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    print(text(found))  # noqa: T201 - what this command is for


def _measured(network: nn.Module, clips: int) -> dict[str, Any]:
    if not isinstance(network, ActionNetwork):
        raise TypeError(f"{type(network).__name__} has no representations to look at")
    return measure(network, clips)


if __name__ == "__main__":
    main()
