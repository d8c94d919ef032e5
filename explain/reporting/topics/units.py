"""Section on clips synthesized to activate single units of a few layers."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from explain.drawing.numbers import evenly
from explain.drawing.sprites import Sprite, as_frames, clip_sprite
from explain.drawing.templates import render
from explain.fields.theoretical import ReceptiveField
from explain.maximization import Maximization
from explain.maximization.firing import Firing, firing
from explain.maximization.optimisation import maximize
from explain.model.layers import find_layer
from explain.model.layouts import has_random_weights, input_of, layout_of, to_display, to_input, to_ncthw
from explain.model.memory import Progress
from explain.reporting.context import Context
from explain.reporting.sections import Content, left_out

_CONVOLUTIONS = {"convolution", "transposed convolution"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Maximized:
    """One unit, as input of the template."""

    layer: str
    unit: int
    #: Activation function after the unit; None if the unit does not feed a single one.
    function: str | None
    #: Mean after the activation function: on the clip of the report, and on the synthesized clip.
    on_clip: float
    synthesized: float
    #: Mean before the activation function, which is maximized: of the initial and of the final synthesized clip.
    initial: float
    activation: float
    history: list[float]
    #: Whether optimization began from the report's clip, because it activates the unit more than a clip synthesized
    #: from gray.
    from_clip: bool
    picture: Sprite


def build_one(context: Context) -> Content:
    """Maximize the most active units on this clip, in a few layers."""
    if has_random_weights(context.model):
        return left_out("The model's weights are random: its units have learned nothing to respond to.")
    made: list[_Maximized] = []
    tensors: dict[str, Tensor] = {}
    layout = layout_of(context.model, context.batch)
    shape = tuple(context.batch.shape[1:] if layout == "NCHW" else to_ncthw(context.batch, layout).shape[1:])
    for layer in _layers(context):
        on_clip = firing(context.model, layer, context.batch)
        units = on_clip.after[0].topk(min(context.options.units, on_clip.after.shape[1])).indices.tolist()
        with context.timed(f"maximising {layer}") as progress:
            clips = []
            for unit in units:
                one, picture = _synthesized(context, layer, unit, shape, on_clip, progress)
                name = f"unit-{len(made)}"
                made.append(replace(one, picture=clip_sprite(name, as_frames(picture), lossy=True)))
                clips.append(picture)
        tensors[layer] = torch.stack(clips)
    kept = [entry.name for entry in fields(_Maximized) if entry.name != "picture"]
    data: dict[str, Any] = {
        "steps": context.options.unit_steps,
        "units": [{name: getattr(one, name) for name in kept} for one in made],
    }
    html = render("units.html", made=made, steps=context.options.unit_steps)
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(one.picture for one in made))


def _synthesized(
    context: Context, layer: str, unit: int, shape: tuple[int, ...], on_clip: Firing, progress: Progress
) -> tuple[_Maximized, Tensor]:
    """Return a unit with its synthesized clip C x T x H x W: from gray, or from the report's clip if that is better."""
    spec, layout = input_of(context.model), layout_of(context.model, context.batch)
    wanted = float(on_clip.after[0, unit])

    def climb(start: Tensor | None) -> tuple[Maximization, float]:
        found = maximize(
            context.model,
            layer,
            unit,
            shape=shape,
            steps=context.options.unit_steps,
            seed=context.seed,
            start=start,
            progress=progress,
        )
        batch = to_input(found.clips, spec, layout).to(context.batch)
        return found, float(firing(context.model, layer, batch).after[0, unit])

    found, reached = climb(None)
    # Display values of a batch without a specification are stretched, and cannot be used as model input.
    from_clip = reached < wanted and spec is not None
    if from_clip:
        further, again = climb(to_display(context.batch, spec, layout)[0])
        found, reached, from_clip = (further, again, True) if again > reached else (found, reached, False)
    one = _Maximized(
        layer=layer,
        unit=unit,
        function=on_clip.function,
        on_clip=wanted,
        synthesized=reached,
        initial=float(found.initial[0]),
        activation=float(found.activation[0]),
        history=found.history[:, 0].tolist(),
        from_clip=from_clip,
        picture=context.picture,
    )
    return one, found.clips[0]


def _layers(context: Context) -> list[str]:
    """Return the requested layers, or convolutions and their recurrences from first to last, evenly spaced."""
    asked = context.options.unit_layers
    if not isinstance(asked, int):
        for name in asked:
            find_layer(context.model, name)
        return list(asked)
    # Only layers that run: an auxiliary head may be used in training only. A recurrent layer's gates are not its units.
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
            # Independent of its class: a plugin's own layer may convolve, too.
            (ran[name].kind in _CONVOLUTIONS and not any(module.children()))
            or (name in loops and not isinstance(module, nn.RNNBase))
        )
    }
    drawing = _drawing(context)
    found = {name: kernel for name, kernel in found.items() if name != drawing} or found
    # Pointwise convolutions only mix the features of others.
    wide = [name for name, kernel in found.items() if max(kernel) > 1] or list(found)
    return [wide[index] for index in evenly(len(wide), asked)] if wide and asked else []


def _by_hand(context: Context) -> dict[str, ReceptiveField]:
    """Return possible hand-written recurrences: of two frames, these convolve only once, from one to the other.

    By name, each with that convolution; a sibling, if not the module itself, convolves both frames.
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
    """Return the last layer if its units are the channels of an output clip: these are maximized by a bright clip."""
    shapes = [one.shape for one in context.outputs.values()]
    last = context.fields.rows[-1].layer if context.fields.rows else ""
    if len(shapes) != 1 or len(shapes[0]) < 4 or not last:
        return None
    return last if getattr(find_layer(context.model, last), "out_channels", None) == shapes[0][1] else None
