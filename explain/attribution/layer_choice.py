"""The layer that Grad-CAM and other methods of one layer use by default."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import LayerNorm
from torch.utils._pytree import tree_leaves

from explain.fields.theoretical import ReceptiveField
from explain.model.layers import find_layer, hidden_layers
from explain.model.layouts import entry_of, to_ncthw
from zoo.errors import ModelError

#: A default layer keeps at least this share of the clip's frames, but two of them, and this many rows and columns.
SHARE_OF_TIME = 0.25

FEWEST_PIXELS = 4


def default_layer(model: nn.Module, batch: Tensor, fields: Sequence[ReceptiveField] | None = None) -> tuple[str, str]:
    """The layer that Grad-CAM looks at unless told otherwise, and why: (name, reason).

    The deepest convolution (largest receptive field; of equals the last one run) whose map still resolves time and
    space: at least max(2, T / 4) time steps (1 for an image) and 4 x 4 positions. The last convolution of a video
    network often keeps two time steps of sixteen. Where none resolves as much, the one with the most positions. Where
    its maps are concatenated with those of other branches, the block that does so. What makes an output clip itself is
    taken where there is nothing else alone: its maps are that clip, whatever part of it is explained.

    Args:
        model: The model.
        batch: The samples.
        fields: What `explain.receptive_fields` gives for them; None finds it, by some forward passes.

    Raises:
        ModelError: The model has no convolution, or only one that cuts the clip into patches for a transformer.
    """
    from explain.fields.theoretical import trace
    from explain.model.layouts import layout_of

    frames, rows, columns = to_ncthw(batch, layout_of(model, batch)).shape[2:]
    rows_run = trace(model, tuple(batch.shape), gradients=False).rows if fields is None else fields
    convolutions = [row for row in rows_run if row.kind == "convolution" and row.layer]
    if not convolutions and (reason := hidden_layers(model)):
        raise ModelError(f"{reason}, and Grad-CAM looks at one; explain the module that it was made from")
    if not convolutions:
        raise ModelError("the model has no convolution for Grad-CAM to look at; name a layer whose output is a map")
    if _mixes_tokens(model) and (
        all(row.kernel == row.field for row in convolutions) or _are_on_heads(model, batch, convolutions)
    ):
        raise ModelError(
            f"{convolutions[0].layer} cuts the clip into patches before anything is recognised, and what follows is "
            "attention: Grad-CAM has no deep map to look at by itself; name a layer whose output is one"
        )
    convolutions = _before_clips(model, batch, convolutions)
    fewest = min(frames, max(2, math.ceil(frames * SHARE_OF_TIME)))
    pixels = min(FEWEST_PIXELS, rows), min(FEWEST_PIXELS, columns)
    resolving = [
        row
        for row in convolutions
        if row.output[0] >= fewest and row.output[1] >= pixels[0] and row.output[2] >= pixels[1]
    ]
    steps = f"{fewest} or more time steps and " if frames > 1 else ""
    if resolving:
        chosen = max(enumerate(resolving), key=lambda pair: (math.prod(pair[1].field), pair[0]))[1]
        why = f"the deepest convolution with {steps}{pixels[0]} x {pixels[1]} or more positions"
    else:
        chosen = max(enumerate(convolutions), key=lambda pair: (math.prod(pair[1].output), pair[0]))[1]
        why = f"the convolution with most positions, none having {steps}{pixels[0]} x {pixels[1]} or more"
    time, height, width = chosen.output
    kept = f"{time} time steps of {frames}, " if frames > 1 else ""
    joined = _joined(model, batch, chosen.layer)
    if joined is not None:
        return joined, f"with all branches beside {chosen.layer}, {why}: {kept}{height} x {width} positions"
    return chosen.layer, f"{why}: {kept}{height} x {width} positions"


def _before_clips(model: nn.Module, batch: Tensor, rows: list[ReceptiveField]) -> list[ReceptiveField]:
    """Convolutions without those that give an output clip's own channels, rows and columns; all, if none were left."""
    entry = entry_of(model)
    if entry is not None and all(output.kind != "clip" for output in entry.outputs):
        return rows
    shapes, output = _run(model, batch, [row.layer for row in rows])
    outputs = [one for one in tree_leaves(output) if isinstance(one, torch.Tensor)]
    clips = {(one.shape[1], *one.shape[-2:]) for one in outputs if one.ndim in {4, 5}}
    kept = [row for row in rows if not any((one[1], *one[-2:]) in clips for one in shapes[row.layer])]
    return kept or rows


def _joined(model: nn.Module, batch: Tensor, layer: str) -> str | None:
    """The innermost block around a layer that gives its positions with more channels; None without one."""
    parts = layer.split(".")
    blocks = [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
    shapes, _ = _run(model, batch, [layer, *blocks])
    if len(shapes[layer]) != 1:
        return None
    samples, channels, *positions = shapes[layer][0]
    for block in blocks:
        if [(one[0], *one[2:]) for one in shapes[block]] == [(samples, *positions)] and shapes[block][0][1] > channels:
            return block
    return None


def _mixes_tokens(model: nn.Module) -> bool:
    """Whether the model holds the LayerNorms of a transformer."""
    return any(isinstance(module, LayerNorm) for module in model.modules())


def _are_on_heads(model: nn.Module, batch: Tensor, rows: list[ReceptiveField]) -> bool:
    """Whether some convolutions, N x C x T x H x W, run on an attention's heads, which stand where samples should."""
    shapes, _ = _run(model, batch, [row.layer for row in rows])
    return any(len(shape) == 5 and shape[0] != len(batch) for calls in shapes.values() for shape in calls)


def _run(model: nn.Module, batch: Tensor, layers: Sequence[str]) -> tuple[dict[str, list[torch.Size]], Any]:
    """Shapes of the tensors that layers give in one forward pass, call by call, and the model's output."""
    shapes: dict[str, list[torch.Size]] = {layer: [] for layer in layers}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                shapes[name].append(output.shape)

        return hook

    with ExitStack() as stack, torch.no_grad():
        for layer in layers:
            stack.callback(find_layer(model, layer).register_forward_hook(keep(layer)).remove)
        output = model(batch.clone())
    return shapes, output
