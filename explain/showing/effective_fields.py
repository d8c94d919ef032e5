"""Effective receptive fields: where a unit looks, how far it could, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from explain.reporting import effective_fields as drawing
from explain.reporting import media
from explain.saving import packed
from explain.showing import paper
from zoo.errors import UsageError

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure
    from torch import Tensor

    from explain.effective_fields import EffectiveField

#: Width and height of a figure, of a clip and of an image.
_CLIP, _IMAGE = (640, 220), (260, 240)
_BOXES = "Solid: the effective field; dashed: the theoretical one. Colours go by the square root of the gradients."


def plot(field: EffectiveField, clip: Tensor | None = None) -> Figure:
    """The figure of a unit (`EffectiveField.plot`)."""
    frames = _frames(field, clip)
    width, height = _size(field)
    with paper.drawing(width, height + 90) as drawn:
        _paint(drawn, field, frames)
        paper.heading(drawn, _title(field), f"{drawing.in_words(field)}\n{_BOXES}")
    return drawn


def html(field: EffectiveField) -> str:
    """The view of a unit."""
    words = drawing.in_words(field)
    drawn = paper.svg(
        lambda figure: _paint(figure, field, _frames(field, None)),
        *_size(field),
        f"{_title(field)}: {words}",
        packed(field),
    )
    return paper.view(
        "effective_field.html",
        title=_title(field),
        words=words,
        boxes=_BOXES,
        drawn=drawn,
        rows=paper.said(field.settings),
    )


def _title(field: EffectiveField) -> str:
    return f"{field.layer or 'the model'} at {', '.join(map(str, field.position))} of {paper.extent(field.positions)}"


def _size(field: EffectiveField) -> tuple[int, int]:
    return _CLIP if len(field.heat) > 1 else _IMAGE


def _paint(drawn: Figure, field: EffectiveField, frames: npt.NDArray[np.uint8]) -> None:
    several = len(frames) > 1
    axes = drawn.subplots(1, 1 + several, squeeze=False, width_ratios=[1, 1.8][: 1 + several])[0]
    drawing.picture(axes[0], field, frames)
    if several:
        drawing.over_time(axes[1], field)


def _frames(field: EffectiveField, clip: Tensor | None) -> npt.NDArray[np.uint8]:
    """The clip as frames, or black ones."""
    extent = tuple(field.heat.shape)
    if clip is None:
        return np.zeros((*extent, 1), dtype=np.uint8)
    if clip.ndim != 4 or tuple(clip.shape[1:]) != extent:
        raise UsageError(
            f"the clip is {paper.extent(clip.shape)}; expected channels and the field's {paper.extent(extent)}"
        )
    return media.as_frames(clip)
