"""The MNIST data set: four files, read locally or downloaded.

The files are in `$ZOO_DATA/mnist`, or in the folder `mnist` of the user's data folder, under their usual names
(`train-images-idx3-ubyte.gz`, ...), and are checked by md5 before anything is read from them.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from zoo.errors import DataError, OutputError, UsageError
from zoo.weights import downloads

#: md5 of each compressed file, as published with MNIST and used by torchvision and others.
MD5: Final[dict[str, str]] = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}

#: Public mirrors, tried in turn.
MIRRORS: Final[tuple[str, ...]] = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

#: Largest size of a file that is accepted, in bytes; MNIST's largest has 9.9 million.
LARGEST: Final = 2**24

_PREFIXES: Final[dict[str, str]] = {"train": "train", "test": "t10k"}

#: Training digits are those of MNIST's training file, less the last 5,000, which are kept for validation.
VALIDATION_DIGITS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Digits:
    """Handwritten digits: `images` M x 28 x 28 (uint8, ink is bright) and their classes `labels` M (int64)."""

    images: Tensor
    labels: Tensor


def data_folder() -> Path:
    """Return the folder of data sets: `$ZOO_DATA`, else the user's data folder of this platform."""
    chosen = os.environ.get("ZOO_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("motion-zoo", appauthor=False))


def read(split: str, *, folder: Path | None = None) -> Digits:
    """Return the digits of `train` (60,000) or `test` (10,000), from `folder` (by default `data_folder()/mnist`).

    Raises `DataError` where a file is missing, is not the published one or cannot be read.
    """
    if split not in _PREFIXES:
        raise ValueError(f"no split {split!r}: train or test")
    return _read(split, (folder or data_folder() / "mnist").absolute())


def read_part(part: str) -> Digits:
    """Return the digits of `train` (55,000), `validation` (5,000, for selection) or `test` (10,000).

    Raises `DataError` as `read` does.
    """
    if part not in ("train", "validation", "test"):
        raise ValueError(f"no part {part!r}: train, validation or test")
    if part == "test":
        return read("test")
    training = read("train")
    kept = slice(None, -VALIDATION_DIGITS) if part == "train" else slice(-VALIDATION_DIGITS, None)
    return Digits(training.images[kept], training.labels[kept])


def read_fixed(part: str, count: int | None, dataset: str) -> Digits:
    """Return the digits of a split, each of which makes one fixed clip of `dataset`; `count` is the number of clips.

    Raises:
        UsageError: if there are fewer, or `count` is not positive.
        DataError: as `read` does.
    """
    found = read_part(part)
    every = len(found.labels)
    if count is not None and not 0 < count <= every:
        raise UsageError(f"{count:,} clips of {dataset} {part}: 1 to {every:,} can be measured")
    return found


@lru_cache(maxsize=4)
def _read(split: str, folder: Path) -> Digits:
    prefix = _PREFIXES[split]
    images = _idx(_checked(folder / f"{prefix}-images-idx3-ubyte.gz"))
    labels = _idx(_checked(folder / f"{prefix}-labels-idx1-ubyte.gz"))
    return Digits(images, labels.long())


def _checked(path: Path) -> bytes:
    """Return the file's bytes, checked by its published md5."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"MNIST is not there: {path} is missing. `zoo data mnist` downloads it; "
            "a copy can also be put there by hand, or ZOO_DATA can name another folder that holds mnist/."
        ) from None
    except OSError as error:
        raise DataError(f"MNIST cannot be read: {path}: {error.strerror}") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != MD5[path.name]:
        raise DataError(
            f"MNIST is damaged: {path} is not the published file (its md5 differs). "
            "Delete it and run `zoo data mnist` to download it again."
        )
    return content


def _idx(content: bytes) -> Tensor:
    """Parse an idx file of unsigned bytes (magic 0, 0, 8, number of dimensions; sizes as big-endian int32; data)."""
    raw = gzip.decompress(content)
    sizes = [int.from_bytes(raw[4 * k + 4 : 4 * k + 8], "big") for k in range(raw[3])]
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * len(sizes)).view(sizes)


def download(
    folder: Path | None = None,
    *,
    mirrors: tuple[str, ...] = MIRRORS,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Fetch what is missing or damaged into `folder` (by default `data_folder()/mnist`) and return the folder.

    Each file is written beside its place, checked by md5 and renamed; an interrupted download is resumed. One line for
    each file goes to `report`. Raises `DataError` where no mirror gives the published file or the folder
    cannot be written.
    """
    report = report or (lambda _line: None)
    folder = (folder or data_folder() / "mnist").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, digest in MD5.items():
            path = folder / name
            if path.is_file() and hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == digest:
                report(f"{name}: already there")
                continue
            _fetch(path, digest, mirrors)
            report(f"{name}: downloaded")
    except (OSError, OutputError) as error:
        raise DataError(f"cannot write MNIST to {folder}: {getattr(error, 'strerror', error)}") from error
    _read.cache_clear()
    return folder


def _fetch(path: Path, digest: str, mirrors: tuple[str, ...]) -> None:
    reasons = []
    for mirror in mirrors:
        address = mirror + path.name
        try:
            with downloads.partial(path) as part:
                downloads.download(lambda headers, of=address: downloads.ask_url(of, headers), part, most=LARGEST)  # type: ignore[misc]  # the default binds the address
                if hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest() == digest:
                    part.replace(path)
                    return
                reasons.append(f"{mirror}: not the published file (its md5 differs)")
        except (ConnectionError, ValueError) as error:
            reasons.append(f"{mirror}: {error}")
    raise DataError(f"cannot download {path.name}: " + "; ".join(reasons))
