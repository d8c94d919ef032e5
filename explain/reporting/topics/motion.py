"""Sections on motion in the filters of one model and of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from torch import Tensor, nn

from explain.drawing import colours, kernels, motion
from explain.drawing.kernels import loops
from explain.drawing.numbers import evenly, exact
from explain.drawing.sprites import Sprite, as_frames, clip_sprite, overlay_sprite
from explain.drawing.templates import render
from explain.maximization.unit_views import UnitView, view_units
from explain.model.layouts import has_random_weights
from explain.model.memory import Progress
from explain.reporting.context import Context, operations
from explain.reporting.sections import Content, left_out
from explain.temporal import Statistics, TemporalParameters, kernel_of, tables
from explain.temporal.motions import Motion, most_moving
from explain.temporal.parameters import filters_counted
from explain.temporal.reading import temporal_parameters
from zoo.errors import ModelError

#: Number of listed filters, and of layers whose most moving filter is shown in detail.
_LISTED, _SHOWN = 10, 3

#: Budget of floating-point operations for synthesized images, a backward pass counted as two: about a minute of one
#: core. With fewer steps nothing is visible.
_WORK, _LEAST_STEPS = 3e12, 8

#: Minimum share of identified steps for which a page reports a model's mean motion.
HEADLINE = 0.2

#: Minimum number of motions for a distribution.
ENOUGH = 20

#: Share of a gradient's pixels that the color scale covers; the few larger ones are clipped.
_COVERED = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Sampling grid of a layer's input: the extent of its steps and pixels in the clip."""

    #: Frames, rows and columns from one slice, or pixel of a slice, to the next; None if unknown.
    spacing: tuple[float, float, float] | None

    @property
    def step(self) -> str:
        """Return the reader's term for a step."""
        return "frame" if self.spacing is not None and self.spacing[0] == 1 else "step"

    @property
    def sentence(self) -> str:
        """Describe the extent of a step and a pixel, if more than one frame and one pixel."""
        if self.spacing is None or self.spacing == (1, 1, 1):
            return ""
        frames, rows, columns = self.spacing
        step = f"one step for {frames:g} frame{'' if frames == 1 else 's'}"
        return f"One pixel of this layer stands for {rows:g} × {columns:g} pixels of the clip, {step}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One filter in detail, as input of the template (Figure 3 of arXiv 2006.15983)."""

    motion: Motion
    grid: Grid
    curves: Markup
    trajectory: Markup
    #: Its slices, and the input channel that they show unless shown in color.
    film: Sprite
    shown_channel: int | None
    channels: int
    #: Norm of each slice, relative to the first (`slices.strengths`).
    strengths: list[float]
    #: The unit's response to the clip; None with the reason, if unavailable.
    view: UnitView | None
    reason: str
    #: Number of optimization steps of its image.
    steps: int
    #: Gradient in the most activating frame, and the synthesized image.
    gradient: Sprite | None
    image: Sprite | None

    @property
    def data(self) -> dict[str, Any]:
        """Return its numbers that a page shows."""
        view = self.view
        return {
            **self.motion.data,
            "spacing": None if self.grid.spacing is None else list(self.grid.spacing),
            "sentence": self.motion.sentence(self.grid.step),
            "shown_channel": self.shown_channel,
            "channels": self.channels,
            "strengths": self.strengths,
            "reason": self.reason,
            "steps": self.steps,
            "view": None
            if view is None
            else {
                "activation": view.activation,
                "position": list(view.position),
                "frame": view.frame,
                "seconds": None if view.times is None else view.times[view.frame],
                "time": view.time.tolist(),
                "initial": view.initial,
                "maximized": view.maximized,
            },
        }


def build_one(context: Context) -> Content:
    """Read or fit the motion of every 3D filter; a model without any gets a single line."""
    if has_random_weights(context.model):
        return left_out("The model's weights are random: its filters have learned no motion.")
    try:
        with context.timed("motion in the filters") as progress:
            parameters = temporal_parameters(context.model, input_shape=tuple(context.batch.shape), progress=progress)
    except ModelError as error:
        said = str(error)
        return Content(html=render("motion.html", reason=f"{said[0].upper()}{said[1:]}."), data={"reason": said})
    told = motion.spreads(parameters)
    moving = most_moving(parameters.layers.values(), _LISTED)
    listed = [(one, _grid(context, one.layer)) for one in moving]
    panels, tensors = _panels(context, parameters)
    first = _first_layer(context, parameters)
    data = {
        "convention": motion.CONVENTION,
        **summary(parameters),
        "most_moving": [{**one.data, "sentence": one.sentence(grid.step)} for one, grid in listed],
        "shown": [panel.data for panel in panels],
        "first_layer": {"layer": first[0], "filters": first[1], "shown": len(first[2])} if first else None,
    }
    html = render(
        "motion.html",
        reason="",
        context=context,
        data=data,
        listed=listed,
        panels=panels,
        drawn=motion.distributions(context.name, told, motion.limits([told]), "motion")
        if len(told.size) >= ENOUGH
        else (),
        rows=rows(parameters),
        convention=motion.CONVENTION,
        first=first,
        loops=loops,
    )
    sprites = [sprite for panel in panels for sprite in (panel.film, panel.gradient, panel.image) if sprite]
    return Content(
        html=html, data=data, tensors=raw(parameters) | tensors, sprites=(*sprites, *(first[2] if first else ()))
    )


def summary(parameters: TemporalParameters) -> dict[str, Any]:
    """Return the statistics of a model and of its layers, for JSON."""
    told = motion.spreads(parameters)
    found = parameters.statistics()
    return {
        "kinds": sorted({layer.kind for layer in parameters.layers.values()}),
        # The mean magnitude of motion, whatever the direction.
        "mean_motion": {
            "shift": float(np.hypot(told.right, told.down).mean()),
            "turn": float(np.abs(told.rotation).mean()),
            "growth": float(np.abs(told.size - 1).mean()),
        }
        if len(told.size)
        else None,
        "told": len(told.size),
        # Whether enough steps are identified for a statement on the model.
        "headline": len(told.size) > 0 and found.identified >= HEADLINE,
        # Filters of layers with a single step in time at this clip length cannot move.
        "all_filters": found.filters,
        "unseen_filters": found.filters - found.filters_seen,
        **tables.summary(parameters),
    }


def raw(parameters: TemporalParameters) -> dict[str, Tensor]:
    """Return every parameter of the layers, by layer and name; steps x filters."""
    kept = ("scale", "rotation", "translate_x", "translate_y", "identified", "r2")
    return {
        f"{name}/{key}": getattr(layer, key)
        for name, layer in parameters.layers.items()
        for key in kept
        if getattr(layer, key) is not None
    }


def rows(parameters: TemporalParameters) -> list[dict[str, Any]]:
    """Return the table of the paper's Tables 2 and 4: the whole model, then layer by layer."""
    layers = [row(name, layer.statistics(), layer.kernel_size) for name, layer in parameters.layers.items()]
    return [row("all layers", parameters.statistics()), *layers]


def row(name: str, statistics: Statistics, kernel_size: tuple[int, int, int] | None = None) -> dict[str, Any]:
    """Return a row of the table, for a layer or a whole model."""
    return {
        "name": name,
        "kernel_size": kernel_size,
        "filters": filters_counted(statistics),
        "identified": statistics.identified,
        "r2": statistics.r2,
        "r2_still": statistics.r2_still,
        "cells": [
            (thousandths(one.absolute_mean), thousandths(one.absolute_std)) for one in statistics.parameters.values()
        ],
    }


def thousandths(value: float) -> Markup:
    """Return a number in thousandths, marked with its exact value."""
    return exact(value, f"{1000 * value:.2f}") if math.isfinite(value) else Markup("&ndash;")


def _panels(context: Context, parameters: TemporalParameters) -> tuple[list[Panel], dict[str, Tensor]]:
    """Show the most moving filter of a few layers, from the first to the last that has one."""
    moving = [most for layer in parameters.layers.values() for most in most_moving([layer], 1)]
    chosen = [moving[place] for place in evenly(len(moving), _SHOWN)]
    modules = dict(context.model.named_modules())
    panels, tensors = [], {}
    steps = _steps(context, len(chosen)) if chosen else 0
    for place, one in enumerate(chosen):
        view, reason = None, ""
        try:
            with context.timed(f"single frames: {one.layer}") as progress:
                view = _view(context, one, steps, progress)
        except ModelError as error:
            reason = str(error)
        else:
            tensors[f"{one.layer}/{one.channel}/gradient"] = view.gradient
            tensors[f"{one.layer}/{one.channel}/image"] = view.image
        panels.append(_panel(context, one, modules[one.layer], view, reason, steps, f"filter-{place}"))
    return panels, tensors


def _steps(context: Context, images: int) -> int:
    """Return the steps for each image: as many as requested, fewer for expensive models."""
    affordable = _WORK / (3 * images * max(1, operations(context)))
    return min(context.options.unit_steps, max(_LEAST_STEPS, int(affordable)))


def _view(context: Context, one: Motion, steps: int, progress: Progress) -> UnitView:
    (view,) = view_units(
        context.model,
        context.batch,
        one.layer,
        one.channel,
        steps=steps,
        seed=context.seed,
        progress=progress,
    )
    return view


def _panel(
    context: Context, one: Motion, module: nn.Module, view: UnitView | None, reason: str, steps: int, name: str
) -> Panel:
    kernel = kernel_of(module)
    if kernel is None:
        raise ModelError(f"layer {one.layer!r} gives no kernel any more")
    own = kernel[one.channel : one.channel + 1]
    gradient = image = None
    if view is not None:
        heat = view.gradient.float().cpu().numpy()
        top = float(np.quantile(heat, _COVERED)) or float(heat.max()) or 1.0
        gradient = overlay_sprite(f"{name}-gradient", heat[None] / top, colours.magnitude())
        image = clip_sprite(f"{name}-image", as_frames(view.image.unsqueeze(1)), lossy=True)
    return Panel(
        motion=one,
        grid=_grid(context, one.layer),
        curves=motion.curves(one, f"{name}-curves"),
        trajectory=motion.trajectory(one, f"{name}-way"),
        film=clip_sprite(f"{name}-slices", kernels.pictures(own, blue_first=_blue_first(context))[0], lossy=False),
        shown_channel=None if own.shape[1] in {1, 3} else kernels.strongest_channel(own, 0),
        channels=own.shape[1],
        strengths=kernels.strengths(own, 0),
        view=view,
        reason=reason,
        steps=steps,
        gradient=gradient,
        image=image,
    )


def _first_layer(context: Context, parameters: TemporalParameters) -> tuple[str, int, list[Sprite]] | None:
    """Return the first layer with 3D filters, their number, and an image of each; None if its input is not frames."""
    name = next(iter(parameters.layers))
    kernel = kernel_of(dict(context.model.named_modules())[name])
    if kernel is None or kernel.shape[1] > 3:
        return None
    images = kernels.pictures(kernel[: kernels.MOST], blue_first=_blue_first(context))
    sprites = [clip_sprite(f"kernel-{place}", image, lossy=False) for place, image in enumerate(images)]
    return name, len(kernel), sprites


def _blue_first(context: Context) -> bool:
    return context.entry is not None and context.entry.input.channels == "BGR"


def _grid(context: Context, name: str) -> Grid:
    """Return the grid of a layer's input, from its stride in the clip and its own."""
    module: Any = dict(context.model.named_modules())[name]
    own = getattr(module, "stride", None)
    row = next((row for row in context.fields.rows if row.layer == name and row.kind == "convolution"), None)
    if row is None or not isinstance(own, tuple) or len(own) != 3:
        return Grid(spacing=None)
    apart = getattr(module, "dilation", (1, 1, 1))
    frames, height, width = (row.stride[axis] / own[axis] * apart[axis] for axis in range(3))
    return Grid(spacing=(frames, height, width))


def build_models(contexts: Sequence[Context]) -> Content:
    """Read or fit the motion of every model's 3D filters; for a model without any the reason is stated."""
    found: dict[str, TemporalParameters] = {}
    data: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for context in contexts:
        if has_random_weights(context.model):
            data.append(
                {"name": context.name, "reason": "its weights are random, so that its filters follow no motion"}
            )
            continue
        try:
            with context.timed(f"motion in the filters: {context.name}") as progress:
                parameters = temporal_parameters(
                    context.model, input_shape=tuple(context.batch.shape), progress=progress
                )
        except ModelError as error:
            data.append({"name": context.name, "reason": str(error)})
            continue
        found[context.name] = parameters
        data.append({"name": context.name, "reason": "", **summary(parameters)})
        tensors |= {f"{context.name}/{key}": tensor for key, tensor in raw(parameters).items()}
    told = {name: values for name, one in found.items() if len((values := motion.spreads(one)).size) >= ENOUGH}
    shared = motion.limits(told.values())
    html = render(
        "compared_motion.html",
        data=data,
        rows=[row(name, one.statistics()) for name, one in found.items()],
        drawn=[
            (
                name,
                motion.counted(len(values.size), found[name].statistics().motions),
                motion.distributions(name, values, shared, f"motion-{place}"),
            )
            for place, (name, values) in enumerate(told.items())
        ],
        fitted=any("fit" in one.get("kinds", ()) for one in data),
        enough=ENOUGH,
        convention=motion.CONVENTION,
    )
    return Content(html=html, data={"convention": motion.CONVENTION, "models": data}, tensors=tensors)
