"""Motion of filters as files and figures: a drawing for each filter, and the plot of a result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from explain.drawing import figures, motion, notebook
from explain.drawing import kernels as slices
from explain.results import packed
from explain.temporal import tables
from explain.temporal.motions import most_moving

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from explain.drawing.motion import Limits, Spreads
    from explain.temporal import TemporalParameters
    from explain.temporal.motions import Motion

#: Filters drawn of each model.
_FILTERS = 8

#: CSS pixels of a row.
_ROW = 205


def drawings(
    models: Mapping[str, TemporalParameters], kernels: Mapping[str, Mapping[str, Tensor]] | None = None
) -> dict[str, bytes]:
    """Every drawing of some models as a file, by its name.

    `distributions.svg` holds all models under one another on the same axes, `NAME.filters.svg` the parameters over time
    and the way of the filters that move most (`explain.temporal.motions`), `NAME.LAYER.webp` the filters of the first
    layer, slice after slice. SVG files follow a browser's light or dark scheme. The same parameters give the same
    bytes. Motions that cannot be told are left out: where all are, so is the first file, and where no filter moves the
    second.

    Args:
        models: Name to parameters, in the order drawn.
        kernels: Name to the filters of layers (filters x channels x D x rows x columns); only those of the first layer
            in `models` are drawn, and those of the filters that move most. None, or a model or layer that is missing,
            draws none.
    """
    files: dict[str, bytes] = {}
    told = {name: motion.spreads(parameters) for name, parameters in models.items()}
    told = {name: values for name, values in told.items() if len(values.size)}
    if told:
        every = {name: parameters.statistics().motions for name, parameters in models.items()}
        files["distributions.svg"] = _distributions(told, every).encode()
    for name, parameters in models.items():
        stem, known = file_stem(name), (kernels or {}).get(name, {})
        moving = most_moving(parameters.layers.values(), _FILTERS)
        if moving:
            files[f"{stem}.filters.svg"] = _filters(name, moving, known).encode()
        first = next(iter(parameters.layers))
        if first in known:
            files[f"{stem}.{first or 'model'}.webp"] = slices.animated(slices.pictures(known[first][: slices.MOST]))
    return files


def file_stem(name: str) -> str:
    """How the files of a model begin."""
    return re.sub(r"[^\w.-]+", "_", name)


def _distributions(models: Mapping[str, Spreads], every: Mapping[str, int]) -> str:
    """Distributions of the motions that can be told, and how many of `every` one those are."""
    shared: Limits = motion.limits(models.values())
    with figures.style():
        drawn = figures.figure(1000, 290 * len(models) + 70)
        rows = drawn.subplots(len(models), len(motion.PAINTERS), squeeze=False)
        for row, (name, values) in zip(rows, models.items(), strict=True):
            for axes, paint in zip(row, motion.PAINTERS.values(), strict=True):
                paint(axes, values, shared)
            row[0].set_title(f"{name}\n{motion.counted(len(values.size), every[name])}", loc="left")
        handles, labels = rows[0, 2].get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside upper right", ncols=4, title="shifts: share of all steps")
        drawn.supxlabel(
            "Axes are the same for all models; what lies further out is in the outermost bars and squares.\n"
            f"Drawn is {motion.CONVENTION}.",
            fontsize=11,
            color=figures.SOFT,
        )
        label = f"Distributions of the motions of {', '.join(models)}: size, turn and shift a step"
        return figures.standalone(figures.svg(drawn, "distributions", label))


def _filters(name: str, moving: list[Motion], kernels: Mapping[str, Tensor]) -> str:
    """One row a filter. Places are fixed: a layout of so many axes would take its seconds."""
    width, height = 1000, _ROW * len(moving) + 70
    with figures.style():
        drawn = figures.figure(width, height)
        drawn.set_layout_engine("none")

        def place(left: float, top: float, across: float, down: float) -> Axes:
            return drawn.add_axes((left / width, 1 - (top + down) / height, across / width, down / height))

        drawn.text(0.01, 1 - 18 / height, f"The filters of {name} that move most", fontsize=14, va="center")
        for row, one in enumerate(moving):
            top = 40 + row * _ROW
            told = f"{one.layer}, channel {one.channel}. {one.sentence()}"
            drawn.text(0.01, 1 - (top + 10) / height, told, fontsize=12, va="center")
            curves = [place(left, top + 48, 165, 112) for left in (60, 290, 520)]
            motion.paint_curves(curves, one)
            motion.paint_trajectory(place(745, top + 48, 112, 112), one)
            if one.layer in kernels:
                images = slices.pictures(kernels[one.layer][one.channel : one.channel + 1])[0]
                _film(place(880, top + 48, 112, 112), images)
        drawn.text(0.5, 14 / height, f"Drawn is {motion.CONVENTION}", color=figures.SOFT, ha="center", va="center")
        label = f"Motion of the {len(moving)} filters of {name} that move most, step by step, and the way of each"
        return figures.standalone(figures.svg(drawn, "filters", label))


def _film(axes: Axes, images: npt.NDArray[np.uint8]) -> None:
    """The slices of one filter, in the order in which one reads."""
    sheet = slices.mosaic(images[:, None])[0]
    opaque = 255 - slices.mosaic(np.zeros_like(images[:, None, ..., :1]))[0]  # what lies between them is as the page
    axes.set_axis_off()
    colours = np.broadcast_to(sheet, (*sheet.shape[:2], 3))
    axes.imshow(np.concatenate([colours, opaque], axis=2), interpolation="nearest")
    axes.set_title("slices, in order", fontsize=11)


#: Width of a figure; heights of its title, the distributions, and one filter.
_WIDTH, _TITLE, _SPREADS, _PLOT_ROW = 1000, 40, 280, 205

#: Letters of a layer's name that fit beside what its filter does.
_NAME = 30

#: Filters of a view, and rows of its table.
_SHOWN, _ROWS = 2, 12


def plot(parameters: TemporalParameters, filters: int = 4) -> Figure:
    """The figure of all layers, with so many filters (`TemporalParameters.plot`)."""
    moving = most_moving(parameters.layers.values(), filters)
    height = _height(moving) + _TITLE
    with notebook.drawing(_WIDTH, height) as drawn:
        _paint(drawn, parameters, moving, _TITLE)
        drawn.text(0.01, 1 - 20 / height, _title(parameters), fontsize=14, va="center")
    return drawn


def html(parameters: TemporalParameters) -> str:
    """The view of all layers."""
    moving = most_moving(parameters.layers.values(), _SHOWN)
    drawn = notebook.svg(
        lambda figure: _paint(figure, parameters, moving, 0),
        _WIDTH,
        _height(moving),
        f"Distributions of size, turn and shift a step, and the {len(moving)} filters that move most",
        packed(parameters),
    )
    header, rows = tables.signed_table(parameters)
    return notebook.view(
        "temporal.html",
        title=_title(parameters),
        drawn=drawn,
        header=header,
        caption=tables.SIGNED,
        rows=rows[: _ROWS + 1],
        more=max(0, len(rows) - _ROWS - 1),
        left_out=parameters.left_out,
    )


def _title(parameters: TemporalParameters) -> str:
    layers = len(parameters.layers)
    told, every = len(motion.spreads(parameters).size), parameters.statistics().motions
    return f"Motion in the filters of {layers} layer{'s' * (layers > 1)}: {motion.counted(told, every)}"


def _height(moving: list[Motion]) -> int:
    return _SPREADS + _PLOT_ROW * len(moving) + 30


def _paint(drawn: Figure, parameters: TemporalParameters, moving: list[Motion], begin: int) -> None:
    """Distributions, then one row a filter. Places are fixed: a layout of so many axes would take its seconds."""
    height = _height(moving) + begin
    drawn.set_layout_engine("none")

    def place(left: float, top: float, across: float, down: float) -> Axes:
        return drawn.add_axes((left / _WIDTH, 1 - (top + down) / height, across / _WIDTH, down / height))

    values = motion.spreads(parameters)
    if len(values.size):
        shared = motion.limits([values])
        for left, paint in zip((70, 385, 690), motion.PAINTERS.values(), strict=True):
            axes = place(left, begin + 15, 225 if left < 700 else 200, 200)
            paint(axes, values, shared)
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=9, title="share", title_fontsize=9, handlelength=1.0
        )
    else:
        drawn.text(0.5, 1 - (begin + 110) / height, "no motion can be told", ha="center", color=figures.SOFT)
    for row, one in enumerate(moving):
        top = begin + _SPREADS + row * _PLOT_ROW
        layer = one.layer if len(one.layer) <= _NAME else f"…{one.layer[-_NAME:]}"
        told = f"{layer or 'the model'}, channel {one.channel}. {one.sentence()}"
        drawn.text(0.01, 1 - (top + 10) / height, told, fontsize=12, va="center")
        motion.paint_curves([place(left, top + 48, 185, 112) for left in (70, 330, 590)], one)
        motion.paint_trajectory(place(860, top + 48, 112, 112), one)
    drawn.text(0.5, 12 / height, f"Drawn is {motion.CONVENTION}", color=figures.SOFT, ha="center", va="center")
