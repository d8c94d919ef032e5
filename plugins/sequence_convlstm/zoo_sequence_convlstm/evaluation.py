"""Evaluation of the trained networks: one unprocessed test set of N6 and N3, in float32, beside controls."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from zoo.errors import UsageError
from zoo.training.data import mnist
from zoo.training.evaluation import CONSTANT, per_clip
from zoo_sequence_convlstm import data

SETS: Final = ("N6", "N3")
DATASET: Final = "digit sequences"
#: Measures of a predicted frame.
MEASURES: Final = ("squared error", "PSNR", "SSIM")
#: The test windows come in an order drawn from this seed, so that the first ones speak for all.
_ORDER = 2025_0113
#: Sequences of each set that are rolled out.
_ROLLED: Final = 100
#: Of the frames held out.
_FRAMES: Final = ("the 4th, interpolated", "the 16th, extrapolated")
#: Width of the Gaussian window of SSIM, as its authors have it (Wang et al., IEEE TIP 13(4), 2004).
_SSIM = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def evaluate(
    network: nn.Module, device: torch.device, clips: int | None = None, *, batch_size: int = 50
) -> dict[str, Any]:
    """Evaluate a network on the test windows, all 2,200 or the first `clips`, and leave it in eval mode.

    `metrics`, for N6 (frames held out) and N3 (digits held out): the mean over windows of the squared error per pixel,
    the peak signal-to-noise ratio (dB) and the structural similarity of the prediction and the true frame,
    with its noise. `breakdown`: the same separately for interpolation (the 4th frame) and extrapolation (the 16th); of
    `controls` (the frame before again; that plus the last change; and the true frame without its noise, whose error
    is a lower bound up to chance); of `constant answers`, which do not depend on the windows; and by `horizon`, where
    the network is fed its own predictions: `horizon` 1 is a frame that follows two true ones. Roll-outs of N6
    are of training sequences, in which only two frames are held out; N3 is all new.

    Raises:
        zoo.errors.UsageError: if there are fewer windows, or `clips` is not positive.
        zoo.errors.DataError: if MNIST is missing or damaged.
    """
    found = _chosen(clips, str(mnist.data_folder()))
    network.eval()
    with torch.inference_mode(), tqdm(total=len(found.inputs), desc="measured", unit="window", disable=None) as bar:
        predicted = _predict(network, found.inputs, device, batch_size, bar.update)
        rolled = {name: _roll_out(network, name, found.share, device, batch_size) for name in SETS}
    measured = measure(predicted, found.targets)
    return {
        "metrics": [
            {"dataset": DATASET, "split": "test", "name": name, "value": value}
            for name, value in _means(measured, found.of_set).items()
        ],
        "clips_measured": len(found.inputs),
        "per_clip": {
            f"{name} {one}": per_clip(measured[one][own]) for name, own in found.of_set.items() for one in MEASURES
        },
        "breakdown": {
            "frame": [
                {
                    "frame": title,
                    "clips": int((found.frames == index).sum()),
                    **_means(measured, found.of_set, found.frames == index),
                }
                for title, index in zip(_FRAMES, data.HELD_OUT, strict=True)
                if bool((found.frames == index).any())
            ],
            **copy.deepcopy(found.tables),
            "horizon": _horizons(rolled),
        },
    }


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Test windows, and their metrics that do not depend on the network."""

    inputs: Tensor
    targets: Tensor
    #: Index of each target in its sequence.
    frames: Tensor
    #: By set, which windows are of it (bool).
    of_set: dict[str, Tensor]
    #: Share of all windows.
    share: float
    #: `controls` and `constant answers`.
    tables: dict[str, list[dict[str, Any]]]


@lru_cache(maxsize=2)
def _chosen(clips: int | None, folder: str) -> _Chosen:
    del folder  # another one, another result
    windows = {name: data.measured_windows(name) for name in SETS}
    total = sum(map(len, windows.values()))
    if clips is not None and not 0 < clips <= total:
        raise UsageError(f"{clips:,} windows of {DATASET}: 1 to {total:,} can be measured")
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(_ORDER))[:clips]
    inputs = torch.cat([one.inputs for one in windows.values()])[chosen]
    targets = torch.cat([one.targets for one in windows.values()])[chosen]
    frames = torch.cat([one.frame for one in windows.values()])[chosen]
    clean = torch.cat([data.measured_windows(name, clean=True).targets for name in SETS])[chosen]
    of_set = {"N6": chosen < len(windows["N6"]), "N3": chosen >= len(windows["N6"])}
    controls = {
        "the frame before": copied(inputs),
        "the frame before and its last change": extrapolated(inputs),
        "the true frame without noise": clean,
    }
    constant = {
        "an empty image": torch.full_like(targets, float(data.scale().apply(torch.zeros(())))),
        "the mean frame": data.training_windows("base").targets.mean(0).expand_as(targets),
    }
    tables = {
        "controls": _rows("control", controls, targets, of_set),
        CONSTANT: _rows("constant answer", constant, targets, of_set),
    }
    return _Chosen(inputs, targets, frames, of_set, len(chosen) / total, tables)


def copied(inputs: Tensor) -> Tensor:
    """Repeat the last frame of windows N x C x T x H x W, N x C x 1 x H x W."""
    return inputs[:, :, -1:]


def extrapolated(inputs: Tensor) -> Tensor:
    """Extrapolate linearly: the last frame plus the last change, clamped to 0..1: N x C x 1 x H x W."""
    return (2 * inputs[:, :, -1:] - inputs[:, :, -2:-1]).clamp(0, 1)


def measure(predicted: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute each of `MEASURES` for frames N x 1 x 1 x H x W (0 to 1): N numbers (float64).

    Squared error: mean over pixels. PSNR: -10 log10 of it, dB. SSIM: scikit-image's, with a Gaussian window.
    """
    from skimage.metrics import structural_similarity

    error = (predicted.double() - targets.double()).square().flatten(1).mean(1)
    pairs = zip(predicted.double().numpy(), targets.double().numpy(), strict=True)
    alike = [structural_similarity(one[0, 0], other[0, 0], **_SSIM) for one, other in pairs]
    return {
        "squared error": error,
        "PSNR": -10 * error.clamp_min(torch.finfo(torch.float64).tiny).log10(),
        "SSIM": torch.from_numpy(np.asarray(alike)),
    }


def _means(measured: dict[str, Tensor], of_set: dict[str, Tensor], where: Tensor | None = None) -> dict[str, Any]:
    """Return the mean over a set's windows selected by `where`, by "SET MEASURE"; None if there are none."""
    found: dict[str, Any] = {}
    for name, own in of_set.items():
        kept = own if where is None else own & where
        for one in MEASURES:
            found[f"{name} {one}"] = _figure(float(measured[one][kept].mean())) if bool(kept.any()) else None
    return found


def _figure(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")


def _rows(column: str, answers: dict[str, Tensor], targets: Tensor, of_set: dict[str, Tensor]) -> list[dict[str, Any]]:
    return [
        {column: title, "clips": len(targets), **_means(measure(answer, targets), of_set)}
        for title, answer in answers.items()
    ]


def _predict(
    network: nn.Module, inputs: Tensor, device: torch.device, batch_size: int, tell: Callable[[int], Any]
) -> Tensor:
    found = []
    for some in torch.split(inputs, batch_size):
        found.append(network(some.to(device)).float().cpu())
        tell(len(some))
    return torch.cat(found)


def roll_out(network: nn.Module, start: Tensor, steps: int) -> Tensor:
    """Roll out the network on its own predictions: N x 1 x 2 x H x W to N x 1 x steps x H x W.

    Raises:
        zoo.errors.UsageError: for another number of frames, or no step.
    """
    if start.ndim != 5 or start.shape[2] != data.READ or steps < 1:
        shape = " x ".join(map(str, start.shape))
        raise UsageError(f"{steps} steps from {shape}; expected one or more from N x 1 x {data.READ} x H x W")
    frames = list(torch.split(start, 1, dim=2))
    for _ in range(steps):
        frames.append(network(torch.cat(frames[-data.READ :], dim=2)))
    return torch.cat(frames[data.READ :], dim=2)


def _roll_out(
    network: nn.Module, name: str, share: float, device: torch.device, batch_size: int
) -> dict[str, list[list[float]]]:
    """Compute squared errors by horizon and sequence, of the network and of repeating the second frame.

    Uses the first sequences of a set, fewer if fewer windows are measured.
    """
    values, _ = data.scaled(name)
    values = values[: max(1, round(share * _ROLLED))][:, None]
    start, truth = values[:, :, : data.READ], values[:, :, data.READ :]
    parts = [
        roll_out(network, some.to(device), truth.shape[2]).float().cpu() for some in torch.split(start, batch_size)
    ]
    answers = {"": torch.cat(parts), ", the second frame again": copied(start).expand_as(truth)}
    return {
        which: (answer.double() - truth.double()).square().mean(dim=(1, 3, 4)).T.tolist()
        for which, answer in answers.items()
    }


def _horizons(rolled: dict[str, dict[str, list[list[float]]]]) -> list[dict[str, Any]]:
    first = rolled["N6"][""]
    return [
        {
            "horizon": step + 1,
            "clips": sum(len(one[""][step]) for one in rolled.values()),
            **{
                f"{name} squared error{which}": _figure(sum(errors[step]) / len(errors[step]))
                for name, found in rolled.items()
                for which, errors in found.items()
            },
        }
        for step in range(len(first))
    ]
