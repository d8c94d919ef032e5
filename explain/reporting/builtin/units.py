"""Clips made up so as to excite single units of a few layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import explain
from explain.layers import Capture, find_layer
from explain.layouts import layout_of, to_ncthw
from explain.preservation import prepared
from explain.reporting.media import Sprite, as_frames, clip_sprite
from explain.reporting.rendering import evenly, render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from explain.fields import ReceptiveField
    from explain.reporting.context import Context

_CONVOLUTIONS = {"convolution", "transposed convolution"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maximized:
    """One unit, as the template takes it."""

    layer: str
    unit: int
    #: Mean activation on the clip of the report; on the made-up one as it began, and as it ended.
    on_clip: float
    initial: float
    activation: float
    history: list[float]
    picture: Sprite


def build(context: Context) -> Content:
    """Maximise the units that this clip excites most, in a few layers."""
    made: list[_Maximized] = []
    tensors: dict[str, Tensor] = {}
    layout = layout_of(context.model, context.batch)
    shape = tuple(context.batch.shape[1:] if layout == "NCHW" else to_ncthw(context.batch, layout).shape[1:])
    for layer in _layers(context):
        units, on_clip = _most_excited(context, layer)
        with context.timed(f"maximising {layer}") as progress:
            maximization = explain.maximize(
                context.model,
                layer,
                units,
                shape=shape,
                steps=context.options.unit_steps,
                seed=context.seed,
                progress=progress,
            )
        tensors[layer] = maximization.clips
        for index, unit in enumerate(units):
            made.append(
                _Maximized(
                    layer=layer,
                    unit=unit,
                    on_clip=on_clip[index],
                    initial=float(maximization.initial[index]),
                    activation=float(maximization.activation[index]),
                    history=maximization.history[:, index].tolist(),
                    picture=clip_sprite(f"unit-{len(made)}", as_frames(maximization.clips[index]), lossy=True),
                )
            )
    data: dict[str, Any] = {
        "steps": context.options.unit_steps,
        "units": [
            {
                "layer": one.layer,
                "unit": one.unit,
                "on_clip": one.on_clip,
                "initial": one.initial,
                "activation": one.activation,
                "history": one.history,
            }
            for one in made
        ],
    }
    html = render("units.html", made=made, steps=context.options.unit_steps)
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(one.picture for one in made))


def _layers(context: Context) -> list[str]:
    """The layers asked for, or convolutions and their recurrences from the first to the last, evenly spread."""
    asked = context.options.unit_layers
    if not isinstance(asked, int):
        for name in asked:
            find_layer(context.model, name)
        return list(asked)
    # Those that run: an auxiliary head may be there for training alone. A recurrent layer's gates are no units of it.
    ran = {row.layer: row for row in context.fields.rows}
    loops = [row.layer for row in ran.values() if row.kind == "recurrence"]
    by_hand = _by_hand(context)
    ran |= {name: row for name, row in by_hand.items() if name not in ran}
    loops += by_hand
    found = {
        name: ran[name].kernel
        for name, module in context.model.named_modules()
        if name in ran
        and not any(name.startswith(f"{loop}.") for loop in loops)
        and (
            # Whatever class it is of: a plugin's own layer convolves, too.
            (ran[name].kind in _CONVOLUTIONS and not any(module.children()))
            or (name in loops and not isinstance(module, nn.RNNBase))
        )
    }
    drawing = _drawing(context)
    found = {name: kernel for name, kernel in found.items() if name != drawing} or found
    # Pointwise convolutions only mix what others saw.
    wide = [name for name, kernel in found.items() if max(kernel) > 1] or list(found)
    return [wide[index] for index in evenly(len(wide), asked)] if wide and asked else []


def _by_hand(context: Context) -> dict[str, ReceptiveField]:
    """Modules that may be recurrences written by hand: of two frames, these convolve but once, from one to the other.

    By name, each with that convolution; a sibling of it, if not itself, convolves both frames.
    """
    found = {}
    rows = [row for row in context.fields.rows if row.kind == "convolution" and row.kernel[0] == 1]
    for row in rows if context.fields.frames == 2 else ():
        children = any(find_layer(context.model, row.layer).children()) if row.layer else False
        name = row.layer if children else row.layer.rpartition(".")[0]
        both = any(other.layer.rpartition(".")[0] == name and other.output[0] == 2 for other in rows)
        if name and both and row.output[0] == 1:
            found[name] = row
    return found


def _drawing(context: Context) -> str | None:
    """The last layer, where its units are the channels of an output clip: what excites them is a bright clip."""
    shapes = [one.shape for one in context.outputs.values()]
    last = context.fields.rows[-1].layer if context.fields.rows else ""
    if len(shapes) != 1 or len(shapes[0]) < 4 or not last:
        return None
    return last if getattr(find_layer(context.model, last), "out_channels", None) == shapes[0][1] else None


def _most_excited(context: Context, layer: str) -> tuple[list[int], list[float]]:
    """Units of the layer with the highest mean activation on the clip, and these means."""
    with prepared(context.model), torch.no_grad(), Capture(context.model, layer) as capture:
        capture.run(context.batch)
        means = capture.maps(len(context.batch))[0].float().mean(dim=(1, 2, 3))
    values, units = means.topk(min(context.options.units, len(means)))
    return units.tolist(), values.tolist()
