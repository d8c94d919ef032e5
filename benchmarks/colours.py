"""Covariance of red, green and blue in real pictures: the constant of `explain.maximization.parametrizations`.

python benchmarks/colours.py FOLDER [FOLDER ...]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from explain.maximization.parametrizations import measure
from zoo import clips

#: Frames read of each video, evenly spread.
FRAMES = 8
SUFFIXES = clips.IMAGE_SUFFIXES | {".mp4", ".avi"}


def pictures(folders: list[str]) -> Iterator[Tensor]:
    """Yield the frames of every picture and video of the folders, in the order of their names."""
    for folder in folders:
        for file in sorted(Path(folder).iterdir()):
            if file.suffix.lower() in SUFFIXES:
                yield clips.decode(file, frames=FRAMES).frames


def main() -> None:
    """Print the matrix."""
    for row in measure(pictures(sys.argv[1:])).tolist():
        print(f"({', '.join(f'{value:.4f}' for value in row)}),")


if __name__ == "__main__":
    main()
