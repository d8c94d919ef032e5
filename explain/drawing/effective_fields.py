"""Effective receptive fields drawn: a field in space, its curve over time, and the plots of results."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from explain.drawing import colours as colour
from explain.drawing import figures, notebook, sprites
from explain.fields.effective import EffectiveField
from zoo.errors import UsageError

#: Layers drawn, at most.
MOST = 6

#: CSS pixels: the side of a picture, the words above it, the room between, and the width with a chart beside.
_SIDE, _WORDS, _GAP, _WIDTH = 190.0, 46.0, 22.0, 640.0

#: The same of images, which stand beside each other: how many, and how far from one to the next.
_COLUMNS, _STEP = 3, 250.0

#: Not the page's own white, which a dark page replaces.
_WHITE = "#fffffe"


def draw(fields: Sequence[EffectiveField], frames: npt.NDArray[np.uint8], name: str = "effective-fields") -> Markup:
    """Each layer as a picture and, for clips, a chart over the frames, as inline SVG.

    The picture is the frame that the unit looks at most, under the gradients of all frames together (colours go by
    their square root); a solid frame holds the effective field, a dashed one the theoretical field.

    Args:
        fields: The layers, from the first to the last drawn.
        frames: The clip as it is looked at, uint8, T x H x W x C.
        name: Unique on the page.
    """
    several = len(frames) > 1
    columns = 1 if several else min(_COLUMNS, len(fields))
    height = math.ceil(len(fields) / columns) * (_SIDE + _WORDS + _GAP)
    width = _WIDTH if several else columns * _STEP
    with figures.style():
        drawn = figures.figure(width, height)
        drawn.set_layout_engine("none")
        for place, field in enumerate(fields):
            left = (place % columns) * _STEP + 6
            top = (place // columns) * (_SIDE + _WORDS + _GAP) + _WORDS
            drawn.text(left / width, 1 - (top - 34) / height, field.layer, fontsize=12, va="center", fontweight="bold")
            drawn.text(left / width, 1 - (top - 14) / height, in_words(field), va="center", color=figures.SOFT)
            bottom = 1 - (top + _SIDE) / height
            picture(drawn.add_axes((left / width, bottom, _SIDE / width, _SIDE / height)), field, frames)
            if several:
                start, room = left + _SIDE + 56, 34
                size = ((width - start - 10) / width, (_SIDE - room - 20) / height)
                over_time(drawn.add_axes((start / width, bottom + room / height, *size)), field)
        label = "; ".join(f"{field.layer}: {in_words(field)}" for field in fields)
        return figures.svg(drawn, name, f"Effective receptive fields. {label}")


def in_words(field: EffectiveField) -> str:
    """Both extents, frames (of clips alone), rows and columns."""
    if field.box is None:
        return "looks at nothing: its gradient is zero everywhere"
    skip = 1 if len(field.heat) == 1 else 0

    def product(extent: Sequence[int]) -> str:
        return " × ".join(str(size) for size in list(extent)[skip:])

    said = f"{100 * field.share:g} % within {product(field.extent)}"
    return said if field.theoretical is None else f"{said}; can see {product(field.theoretical)}"


def in_the_middle(field: EffectiveField) -> float | None:
    """Share of a unit's gradients in the middle half of the rows and columns that it can see: 1/4 where evenly spread.

    None where they are all zero.
    """
    heat = field.heat.sum(dim=0)
    box = field.theoretical_box or field.box
    if box is None:
        return None
    rows, columns = (slice(max(first, 0), last + 1) for first, last in box[1:])
    return centre_share(heat[rows, columns])


def centre_share(sizes: Tensor) -> float | None:
    """Share of H x W magnitudes that lies in the middle half of the rows and of the columns: 1/4 where evenly spread.

    Pixels that the boundary cuts count in part. None where all are zero.
    """
    total = float(sizes.double().sum())
    if not total:
        return None
    inside = [_inside(length, sizes) for length in sizes.shape]
    return float(inside[0] @ sizes.double() @ inside[1]) / total


def _inside(length: int, like: Tensor) -> Tensor:
    """How much of each of `length` pixels lies in the middle half."""
    edges = torch.arange(length + 1, device=like.device, dtype=torch.float64).clamp(length / 4, 3 * length / 4)
    return edges.diff()


def picture(axes: Axes, field: EffectiveField, frames: npt.NDArray[np.uint8]) -> None:
    """The frame that the unit looks at most, under the gradients of all frames together, and both boxes."""
    heat = field.heat.cpu().numpy()
    at = int(heat.sum(axis=(1, 2)).argmax())
    summed = heat.sum(axis=0)
    colours = colour.magnitude()
    share = np.sqrt(summed / (summed.max() or 1.0))  # a few pixels would hide the others
    axes.imshow(sprites.blended(frames[at], share, colours), interpolation="nearest")
    for box, dashed in ((field.theoretical_box, True), (field.box, False)):
        if box is not None:
            _outline(axes, box[1], box[2], dashed=dashed)
    height, width = summed.shape
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_axis_off()


def _outline(axes: Axes, rows: Sequence[int], columns: Sequence[int], *, dashed: bool) -> None:
    """A rectangle around whole pixels: white on black, so that it shows on any picture."""
    corner = (columns[0] - 0.5, rows[0] - 0.5)
    size = (columns[1] - columns[0] + 1, rows[1] - rows[0] + 1)
    for ink, line, style in (("black", 3.2, "-"), (_WHITE, 1.5, (0, (4, 3)) if dashed else "-")):
        axes.add_patch(
            Rectangle(corner, *size, fill=False, edgecolor=ink, linewidth=line, linestyle=style, clip_on=False)
        )


def over_time(axes: Axes, field: EffectiveField) -> None:
    """Each frame's share of the gradients, and both runs of frames above."""
    shares = 100 * field.heat.sum(dim=(1, 2)).cpu().numpy()
    axes.bar(range(len(shares)), shares, width=0.8, color=figures.SERIES[0])
    top = max(float(shares.max()), 1e-9)
    for box, height, dashed in ((field.theoretical_box, 1.18, True), (field.box, 1.08, False)):
        if box is not None:
            first, last = box[0]
            axes.plot(
                [first - 0.5, last + 0.5],
                [height * top] * 2,
                color=figures.INK,
                linewidth=1.5,
                linestyle=(0, (4, 3)) if dashed else "-",
                marker="|",
                markersize=7,
            )
    axes.set_xlim(-0.7, len(shares) - 0.3)
    axes.set_ylim(0, 1.28 * top)
    axes.set_ylabel("% of gradients")
    axes.locator_params(axis="x", integer=True, nbins=8)
    figures.over_frames(axes, field.times)
    axes.locator_params(axis="y", nbins=4)


def write(fields: Sequence[EffectiveField], frames: npt.NDArray[np.uint8]) -> str:
    """The drawing as a file of its own: light, and dark where a browser's user prefers that."""
    return figures.standalone(draw(fields, frames))


#: Width and height of a figure, of a clip and of an image.
_CLIP, _IMAGE = (640, 220), (260, 240)

_BOXES = "Solid: the effective field; dashed: the theoretical one. Colours go by the square root of the gradients."


def plot(field: EffectiveField, clip: Tensor | None = None) -> Figure:
    """The figure of a unit (`EffectiveField.plot`)."""
    frames = _frames(field, clip)
    width, height = _size(field)
    with notebook.drawing(width, height + 90) as drawn:
        _paint_plot(drawn, field, frames)
        notebook.heading(drawn, _title(field), f"{in_words(field)}\n{_BOXES}")
    return drawn


def describe(field: EffectiveField) -> tuple[str, list[tuple[str, str]]]:
    """Title and table of a notebook."""
    return f"{_title(field)}: {in_words(field)}", notebook.said(field.settings)


def _title(field: EffectiveField) -> str:
    return (
        f"{field.layer or 'the model'} at {', '.join(map(str, field.position))} of {notebook.extent(field.positions)}"
    )


def _size(field: EffectiveField) -> tuple[int, int]:
    return _CLIP if len(field.heat) > 1 else _IMAGE


def _paint_plot(drawn: Figure, field: EffectiveField, frames: npt.NDArray[np.uint8]) -> None:
    several = len(frames) > 1
    axes = drawn.subplots(1, 1 + several, squeeze=False, width_ratios=[1, 1.8][: 1 + several])[0]
    picture(axes[0], field, frames)
    if several:
        over_time(axes[1], field)


def _frames(field: EffectiveField, clip: Tensor | None) -> npt.NDArray[np.uint8]:
    """The clip as frames, or black ones."""
    extent = tuple(field.heat.shape)
    if clip is None:
        return np.zeros((*extent, 1), dtype=np.uint8)
    if clip.ndim != 4 or tuple(clip.shape[1:]) != extent:
        raise UsageError(
            f"the clip is {notebook.extent(clip.shape)}; expected channels and the field's {notebook.extent(extent)}"
        )
    return sprites.as_frames(clip)
