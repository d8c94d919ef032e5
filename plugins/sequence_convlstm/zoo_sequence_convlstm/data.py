"""N6 and N3, what the network learns from and is measured on (section 3 of the report), and the four training sets.

N6 shows 400 digits 6, N3 a hundred digits 3, which the network never sees before it is measured. The 4th and the 16th
frame of each sequence of N6 are held out. Windows of three frames are what is learned: two, and the one that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError, UnknownNameError
from zoo.training.data import mnist
from zoo_sequence_convlstm import sequences
from zoo_sequence_convlstm.recipes import TRAINING_SETS

#: Indices of the frames that are held out.
HELD_OUT: Final = (3, 15)
#: Frames of a window: what is read, and the one that follows.
READ: Final = 2
#: Sets: digit, sequences, part of MNIST, and seed.
_SETS: Final[dict[str, tuple[int, int, str, int]]] = {
    "N6": (6, 400, "train", 2025_0113_6),
    "N3": (3, 100, "test", 2025_0113_3),
}
#: A change is an outlier whose distance is so many standard deviations above the mean distance.
FARTHEST: Final = 3.0
#: Principal components in which outliers are looked for: about half of the variance, little of the noise.
COMPONENTS: Final = 50
#: Non-local means: side of the patches compared, search distance, and the cut-off in standard deviations of
#: the noise, as scikit-image's documentation suggests for its fast variant.
_PATCH, _REACH, _CUT = 5, 6, 0.8


@dataclass(frozen=True, slots=True)
class Scale:
    """Values that are mapped to 0 and to 1."""

    low: float
    high: float

    def apply(self, values: Tensor) -> Tensor:
        """Scale values to 0..1, clamping values beyond."""
        return ((values - self.low) / (self.high - self.low)).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of sequences.

    `inputs` M x 1 x 2 x H x W and `targets` M x 1 x 1 x H x W (float32, 0 to 1); `sequence` M: of which sequence;
    `frame` M: index of the target in it.
    """

    inputs: Tensor
    targets: Tensor
    sequence: Tensor
    frame: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


def check(values: Tensor, *, scaled: bool = True) -> Tensor:
    """Check sequences and return them unchanged.

    Args:
        values: N x 16 x 36 x 36.
        scaled: Whether they must be within 0 and 1.

    Raises:
        DataError: if the shape or the range is wrong.
    """
    frames, side = sequences.FRAMES, sequences.FRAME_SIZE
    if values.ndim != 4 or values.shape[1:] != (frames, side, side) or not len(values):
        found = " x ".join(map(str, values.shape))
        raise DataError(f"sequences are {found}; expected N x {frames} x {side} x {side} (frames, rows, columns)")
    if not bool(torch.isfinite(values).all()):
        raise DataError("sequences hold values that are no finite numbers")
    low, high = float(values.min()), float(values.max())
    if scaled and not (low >= 0 and high <= 1):
        raise DataError(f"sequences lie within {low:.3g} and {high:.3g}; scale them to 0 and 1 first (`Scale.apply`)")
    return values


def learned_frames() -> list[int]:
    """Return the indices of the frames that are not held out."""
    return [index for index in range(sequences.FRAMES) if index not in HELD_OUT]


def learned_starts() -> list[int]:
    """Return the first frames of windows without held-out frames."""
    return [start for start in all_starts() if not {*range(start, start + READ + 1)} & {*HELD_OUT}]


def all_starts() -> list[int]:
    """Return the first frames of windows."""
    return list(range(sequences.FRAMES - READ))


def cut(values: Tensor, starts: list[int], targets: Tensor | None = None) -> Windows:
    """Return the windows of sequences N x 16 x 36 x 36 that begin there, sequence by sequence.

    Args:
        values: Sequences, scaled.
        starts: Indices of first frames.
        targets: Sequences like them, from which the targets are taken.

    Raises:
        DataError: for other sequences (`check`).
    """
    values, answers = check(values), check(values if targets is None else targets)
    last = [start + READ for start in starts]
    inputs = torch.stack([values[:, start:end] for start, end in zip(starts, last, strict=True)], dim=1)
    return Windows(
        inputs=inputs.flatten(0, 1)[:, None],
        targets=answers[:, last].flatten(0, 1)[:, None, None],
        sequence=torch.arange(len(values)).repeat_interleave(len(starts)),
        frame=torch.tensor(last).repeat(len(values)),
    )


def painted(name: str) -> tuple[Tensor, Tensor]:
    """Return N6 or N3, with and without noise: N x 16 x 36 x 36 each, full ink about 1.

    Raises:
        UnknownNameError: for another name.
        DataError: if MNIST is missing or damaged.
    """
    if name not in _SETS:
        raise UnknownNameError("set of sequences", name, _SETS)
    return _painted(name, str(mnist.data_folder()))


@lru_cache(maxsize=4)
def _painted(name: str, folder: str) -> tuple[Tensor, Tensor]:
    del folder  # another one, another result
    digit, count, part, seed = _SETS[name]
    found = mnist.read_part(part)
    generator = torch.Generator().manual_seed(seed)
    drawn = sequences.draw(count, found.labels, generator=generator, digit=digit)
    noisy = sequences.render(found.images, drawn, generator=generator)
    return noisy[:, 0], sequences.render(found.images, drawn)[:, 0]


def scale() -> Scale:
    """Return the lowest and highest value of the training data, N6 without the frames held out."""
    return _fit(painted("N6")[0])


def _fit(values: Tensor) -> Scale:
    learned = values[:, learned_frames()]
    return Scale(float(learned.min()), float(learned.max()))


def scaled(name: str) -> tuple[Tensor, Tensor]:
    """Return the two of `painted`, scaled to 0..1."""
    noisy, clean = painted(name)
    found = scale()
    return found.apply(noisy), found.apply(clean)


def differences(values: Tensor) -> Tensor:
    """Return changes from one frame to the next, if neither is held out: N x 12 x H x W of N x 16 x H x W."""
    kept = learned_frames()
    pairs = [(index, index + 1) for index in kept if index + 1 in kept]
    return torch.stack([values[:, second] - values[:, first] for first, second in pairs], dim=1)


@dataclass(frozen=True, slots=True)
class Outliers:
    """Transformations that are outliers.

    `components` N x 12 x 50: principal components of `differences`, the largest first, in standard deviations;
    `distances` N x 12: Mahalanobis's, in them; `found` N x 12 (bool).
    """

    components: Tensor
    distances: Tensor
    found: Tensor

    @property
    def sequences(self) -> Tensor:
        """Return the sequences with an outlier: N (bool)."""
        return self.found.any(dim=1)


def find_outliers(values: Tensor) -> Outliers:
    """Find changes that are unlikely under a Gaussian fitted to all of them (section 3.2, figure 4).

    The Gaussian is fitted to their first principal components. The report leaves open of what it takes three standard
    deviations; here it is the distance from the mean, which finds about one change in a hundred, as in the report.

    Args:
        values: Sequences N x 16 x 36 x 36; frames held out are ignored.

    Raises:
        DataError: for other sequences (`check`).
    """
    changes = differences(check(values, scaled=False)).double()
    flat = changes.flatten(2).flatten(0, 1)
    flat = flat - flat.mean(0)
    variances, directions = torch.linalg.eigh(flat.T @ flat / (len(flat) - 1))
    components = flat @ directions[:, -COMPONENTS:].flip(1) / variances[-COMPONENTS:].flip(0).sqrt()
    distances = components.square().sum(-1).sqrt()
    found = distances > distances.mean() + FARTHEST * distances.std()
    shape = changes.shape[:2]
    return Outliers(components.unflatten(0, shape), distances.unflatten(0, shape), found.unflatten(0, shape))


def denoise(frames: Tensor, deviation: float) -> Tensor:
    """Apply non-local means (Buades, Coll & Morel, CVPR 2005) to frames M x H x W with noise of this level."""
    from skimage.restoration import denoise_nl_means

    found = [
        denoise_nl_means(
            frame, patch_size=_PATCH, patch_distance=_REACH, h=_CUT * deviation, sigma=deviation, fast_mode=True
        )
        for frame in frames.double().numpy()
    ]
    return torch.from_numpy(np.stack(found)).to(frames.dtype).clamp(0, 1)


def training_windows(name: str) -> Windows:
    """Return the windows of a training set: of 400 sequences of N6, all or without outliers; targets denoised, or not.

    Raises:
        UnknownNameError: if it is none of `TRAINING_SETS`.
        DataError: if MNIST is missing or damaged.
    """
    if name not in TRAINING_SETS:
        raise UnknownNameError("training set", name, TRAINING_SETS)
    return _training_windows(*TRAINING_SETS[name], str(mnist.data_folder()))


@lru_cache(maxsize=4)
def _training_windows(denoised: bool, removed: bool, folder: str) -> Windows:  # noqa: FBT001 (a cache's keys)
    del folder
    values, _ = scaled("N6")
    if removed:
        values = values[~find_outliers(values).sequences]
    targets = values
    if denoised:
        found = scale()
        targets = values.clone()
        last = [start + READ for start in learned_starts()]
        clean = denoise(values[:, last].flatten(0, 1), sequences.NOISE / (found.high - found.low))
        targets[:, last] = clean.view(len(values), len(last), *clean.shape[1:])
    return cut(values, learned_starts(), targets)


def measured_windows(name: str, *, clean: bool = False) -> Windows:
    """Return the common test set: of N6 the windows that end in a held-out frame, of N3 all; unprocessed.

    Args:
        name: "N6" or "N3".
        clean: Use targets without noise.
    """
    values, without = scaled(name)
    starts = [index - READ for index in HELD_OUT] if name == "N6" else all_starts()
    return cut(values, starts, without if clean else None)
