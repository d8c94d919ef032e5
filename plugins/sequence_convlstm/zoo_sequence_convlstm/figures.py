"""Figures 3 to 5 of the report, of our data: `python -m zoo_sequence_convlstm.figures FOLDER`."""

from __future__ import annotations

import argparse
import io
import textwrap
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from explain.authoring import perturbations
from zoo.errors import ZooError
from zoo.writing import write
from zoo_sequence_convlstm import data

#: Sequences of each set that are shown.
_SHOWN = 3
#: Noise that the report tries, and how strongly.
NOISES = ("gaussian_noise", "poisson_noise", "salt_and_pepper")
LEVELS = (0.0, 0.125, 0.25, 0.375, 0.5)
#: Colors of what is usual and of outliers.
_USUAL, _OUTLIER = "#4477aa", "#cc3311"


def examples() -> Figure:
    """Draw figure 3: whole sequences of N6, then of N3."""
    rows = [(name, values) for name in ("N6", "N3") for values in data.scaled(name)[0][:_SHOWN]]
    drawn = Figure(figsize=(10, 0.68 * len(rows) + 0.3), layout="constrained")
    for place, (name, values) in enumerate(rows):
        axes = drawn.add_subplot(len(rows), 1, place + 1)
        axes.imshow(torch.cat(list(values), dim=1).numpy(), cmap="gray", vmin=0, vmax=1, aspect="equal")
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        _, _, width = values.shape
        last = place == len(rows) - 1
        axes.set_xticks(
            [width * (at + 0.5) - 0.5 for at in range(len(values))] if last else [],
            [str(at + 1) for at in range(len(values))] if last else [],
        )
        axes.tick_params(length=0)
        axes.set_yticks([])
        for at in range(1, len(values)):
            axes.axvline(width * at - 0.5, color="white", linewidth=0.8)
    axes.set_xlabel("frame; the 4th and the 16th of N6 are held out")
    return drawn


def outliers() -> Figure:
    """Draw figure 4: the first two principal components of what changes from frame to frame in N6, outliers apart."""
    found = data.find_outliers(data.scaled("N6")[0])
    points = found.components[..., :2]
    drawn = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = drawn.add_subplot()
    count = found.components.shape[-1]
    changes, sequences = int(found.found.sum()), int(found.sequences.sum())
    for where, colour, marker, label in (
        (~found.found, _USUAL, ".", "changes from frame to frame"),
        (
            found.found,
            _OUTLIER,
            "x",
            f"{changes} outliers, in {sequences} sequences (judged by all {count} components)",
        ),
    ):
        axes.plot(*points[where].T.tolist(), marker, color=colour, markersize=4, alpha=0.6, label=label)
    axes.set_xlabel("first component, in standard deviations")
    axes.set_ylabel("second component, in standard deviations")
    drawn.legend(loc="outside upper left", frameon=False)  # where it hides nothing
    return drawn


def noises(frame: Tensor | None = None) -> Figure:
    """Draw figure 5: each noise, stronger from row to row, on a frame H x W (0 to 1); None takes the first of N6."""
    frame = data.scaled("N6")[0][0, 0] if frame is None else frame
    drawn = Figure(figsize=(1.5 * len(NOISES), 1.5 * len(LEVELS)), layout="constrained")
    for column, kind in enumerate(perturbations.find(NOISES)):
        for row, level in enumerate(LEVELS):
            axes = drawn.add_subplot(len(LEVELS), len(NOISES), row * len(NOISES) + column + 1)
            shown = frame
            if level:
                generator = kind.generator(0, level, 0, 0)
                shown = kind.apply(frame[None, None], level, generator, frame.new_zeros(1))[0, 0]
            axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(kind.title, fontsize=9)
            if column == 0:
                axes.set_ylabel(f"{level:g}")
            if row == len(LEVELS) - 1:  # each noise has a unit of its own
                axes.set_xlabel(textwrap.fill(kind.level, 22), fontsize=7)
    return drawn


FIGURES = {"figure3": examples, "figure4": outliers, "figure5": noises}


def save(folder: Path) -> list[Path]:
    """Write all as SVG files, the same bytes each time; gives their paths.

    Raises:
        DataError: if MNIST is missing or damaged.
        OSError, OutputError: if the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in FIGURES.items():
        file = io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "image.interpolation": "nearest"}):
            draw().savefig(file, format="svg", metadata={"Date": None})
        paths.append(folder / f"{name}.svg")
        write(paths[-1], file.getvalue())
    return paths


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    try:
        for path in save(parser.parse_args().folder):
            print(path)  # noqa: T201 - a command of its own
    except (ZooError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
