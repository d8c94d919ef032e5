"""Which layers of a model have filters that can move, and how they do."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from explain.model.layers import layer_names
from explain.model.memory import Progress
from explain.model.preservation import check_model, prepared, preserved
from explain.progress import following
from explain.temporal.fitting import fit
from explain.temporal.parameters import LayerParameters, TemporalParameters
from zoo import devices
from zoo.errors import ModelError, UnknownNameError
from zoo.names import is_pattern

#: How a convolution goes along time, by attribute, and what a layer without the attribute does.
_WINDOW = {"stride": 1, "dilation": 1, "padding": 0}
_NAMES = ("scale", "rotation", "translate_x", "translate_y")
#: Most pixels of a slice that is fitted: memory grows with their square (21 x 21 took 12 s for one filter).
MOST_PIXELS = 21 * 21


def temporal_parameters(
    model: nn.Module,
    layers: str | None = None,
    *,
    input_shape: tuple[int, ...] | None = None,
    progress: Progress | bool | None = None,
) -> TemporalParameters:
    """How the 3D filters of a model move: scale, rotation and translation from each slice to the next.

    Two kinds of layer are read. A layer with the method `temporal_parameters()` says it itself (kind "3tconv"): a dict
    of `scale`, `rotation`, `translate_x` and `translate_y`, each steps x filters, by the convention of
    `LayerParameters`, beside `kernel()`, its filters x channels x D x kh x kw. To every other layer with filters of
    more than one slice, row and column, they are fitted (kind "fit", `explain.temporal.fitting`): an `nn.Conv3d`,
    grouped and depthwise too, or a layer whose `kernel()` gives such filters. The model is left as it was found.

    Deep layers often have a single step of time left, and read zeros from their padding with all slices but one. One
    run on a batch of `input_shape` tells which steps see data (`LayerParameters.seen`); others count in no statistics.

    Args:
        model: Any module, on any device, of any floating-point type.
        layers: Only layers of this name, wildcards as in file names allowed; None takes all.
        input_shape: Shape of a batch, one sample of which is run; None takes that of `model.zoo_entry`. Without either
            it is not known which steps see data, and all of them count.
        progress: Called as progress(filters done, filters); True shows a bar.

    Raises:
        ModelError: There is no such layer (what there is, is listed), or weights are not finite.
        UnknownNameError: No layer of the model matches `layers`; near names are offered.
    """
    check_model(model)
    for name, module in model.named_modules():
        if any(is_lazy(value) for value in module.parameters(recurse=False)):
            raise ModelError(f"{_called(name)} has no weights yet; run the model once, or load them, first")
    with preserved(model), torch.no_grad(), following(progress) as told:
        kernels, left_out = _kernels(model, layers)
        total, done = sum(len(kernel) for kernel in kernels.values()), 0
        modules = dict(model.named_modules())
        seen = _seen(model, {name: modules[name] for name in kernels}, input_shape)
        found = {}
        for name, kernel in kernels.items():
            if not bool(kernel.isfinite().all()):
                raise ModelError(f"{_called(name)} has weights that are not finite; its motion cannot be read")
            own = getattr(modules[name], "temporal_parameters", None)
            if callable(own):
                found[name] = _given(name, own(), kernel, seen.get(name))
            else:
                reading = partial(_report, told("reading filters"), done, total)
                found[name] = _fitted(name, kernel, seen.get(name), reading)
            done += len(kernel)
    return TemporalParameters(layers=found, left_out=left_out)


def kernel_of(module: nn.Module) -> Tensor | None:
    """The 3D filters of a layer, filters x channels x D x kh x kw: those that `kernel()` gives, or a Conv3d's weight.

    None for any other module.
    """
    kernel = getattr(module, "kernel", None)
    if inspect.ismethod(kernel) and not inspect.signature(kernel).parameters:
        value = kernel()
        if isinstance(value, Tensor) and value.ndim == 5:
            return value
    return module.weight if isinstance(module, nn.Conv3d) else None


def _kernels(model: nn.Module, pattern: str | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The filters of each layer asked for that can move, and why those of others cannot."""
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if pattern is not None and not any(fnmatchcase(name, pattern) for name in modules):
        hint = "`explain fields MODEL --layers '*'` lists them"
        raise UnknownNameError("layer", pattern, layer_names(model), hint, pattern=is_pattern(pattern))
    asked = {name: module for name, module in modules.items() if fnmatchcase(name, pattern or "*")}
    kernels, left_out = {}, {}
    for name, module in asked.items():
        if any(value.is_meta for value in module.parameters(recurse=False)):
            raise ModelError(f"{_called(name)} has no weights yet: they are on the meta device; load them first")
        kernel = kernel_of(module)
        if kernel is None:
            if callable(getattr(module, "temporal_parameters", None)):
                raise ModelError(f"{_called(name)} has temporal_parameters() but no kernel() that gives 3D filters")
        elif not kernel.is_floating_point():
            raise ModelError(f"{_called(name)} has filters of {kernel.dtype}; expected real floating-point numbers")
        elif reason := _obstacle(kernel, fitted=not callable(getattr(module, "temporal_parameters", None))):
            left_out[name] = reason
        else:
            kernels[name] = kernel
    if not kernels:
        where = "the model" if pattern is None else f"what {pattern!r} names"
        raise ModelError(
            f"{where} has no 3D filters that could move in time (more than one slice, row and column) and be read; "
            f"it has {_inventory(asked) or 'no filters at all'}"
        )
    return kernels, left_out


def _obstacle(kernel: Tensor, *, fitted: bool) -> str:
    """Why these filters cannot be said to move; empty where they can."""
    depth, height, width = kernel.shape[2:]
    size = f"{depth} x {height} x {width}"
    if depth == 1:
        return f"{size}: one slice, no time"
    if height == width == 1:
        return f"{size}: one pixel, nothing that could move"
    if 1 in (height, width):
        return f"{size}: one row or column, which neither turns nor leaves its line"
    if fitted and height * width > MOST_PIXELS:
        return f"{size}: slices of more than {MOST_PIXELS} pixels are not fitted"
    return ""


def _inventory(modules: Mapping[str, nn.Module]) -> str:
    """What has weights of two or more axes, counted: "Conv2d x 12, Linear x 3"."""
    kinds = []
    for module in modules.values():
        if any(value.ndim > 1 for value in module.parameters(recurse=False)):
            kernel = kernel_of(module)
            size = "" if kernel is None else f" ({' x '.join(map(str, kernel.shape[2:]))})"
            kinds.append(type(module).__name__ + size)
    return ", ".join(f"{kind} x {count}" for kind, count in Counter(kinds).most_common())


def _seen(model: nn.Module, layers: Mapping[str, nn.Module], input_shape: tuple[int, ...] | None) -> dict[str, Tensor]:
    """Run one sample, and say of each layer that runs which of its steps see data (bool, steps)."""
    if input_shape is None:
        entry = getattr(model, "zoo_entry", None)
        if entry is None:
            return {}
        input_shape = entry.input.shape
    slices: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 5 and len(inputs) and isinstance(inputs[0], Tensor):
            now = _slices_seen(module, inputs[0].shape[2], output.shape[2])
            slices[name] = slices[name] | now if name in slices else now

    with prepared(model), torch.no_grad():
        hooks = [module.register_forward_hook(partial(note, name)) for name, module in layers.items()]
        try:
            model(torch.zeros(1, *input_shape[1:]).to(devices.like(model)))
        finally:
            for hook in hooks:
                hook.remove()
    return {name: one[:-1] & one[1:] for name, one in slices.items()}


def _slices_seen(module: nn.Module, frames: int, positions: int) -> Tensor:
    """Which slices of a layer's filters read a frame at any of its positions in time (bool, D).

    All of them where the layer pads with frames, or where its attributes do not explain how many positions it has.
    """
    kernel = kernel_of(module)
    depth = 1 if kernel is None else kernel.shape[2]
    stride, dilation, padding = (_in_time(module, name, default) for name, default in _WINDOW.items())
    before = after = padding
    if getattr(module, "padding", None) == "same":
        before = dilation * (depth - 1) // 2
        after = dilation * (depth - 1) - before
    explained = positions == (frames + before + after - dilation * (depth - 1) - 1) // stride + 1
    if not explained or getattr(module, "padding_mode", "zeros") != "zeros":
        return torch.ones(depth, dtype=torch.bool)
    read = torch.arange(positions).unsqueeze(1) * stride + torch.arange(depth) * dilation - before
    return ((read >= 0) & (read < frames)).any(dim=0)


def _in_time(module: nn.Module, name: str, default: int) -> int:
    """What a layer says of its window along time."""
    value: Any = getattr(module, name, default)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else default


def _given(name: str, values: Any, kernel: Tensor, seen: Tensor | None) -> LayerParameters:
    """What a layer says of itself, checked."""
    steps = (kernel.shape[2] - 1, kernel.shape[0])
    tensors = dict(values) if isinstance(values, Mapping) else {}
    for one in _NAMES:
        value = tensors.get(one)
        if not isinstance(value, Tensor) or tuple(value.shape) != steps:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ModelError(
                f"{_called(name)}: temporal_parameters() gives {one!r} as {got}; expected a tensor of "
                f"{steps[0]} steps x {steps[1]} filters"
            )
        if not bool(value.isfinite().all()):
            raise ModelError(f"{_called(name)} has a {one} that is not finite; its motion cannot be read")
    read = {one: tensors[one].detach().to("cpu", torch.float64, copy=True) for one in _NAMES}
    return LayerParameters(
        name=name,
        kind="3tconv",
        kernel_size=_size(kernel),
        **read,
        identified=torch.ones(steps, dtype=torch.bool),
        seen=seen,
    )


def _fitted(name: str, kernel: Tensor, seen: Tensor | None, progress: Progress) -> LayerParameters:
    """What a fit says of a layer's filters."""
    found = fit(kernel, progress)
    return LayerParameters(
        name=name,
        kind="fit",
        kernel_size=_size(kernel),
        scale=found.scale,
        rotation=found.rotation,
        translate_x=found.translate_x,
        translate_y=found.translate_y,
        identified=found.identified,
        seen=seen,
        r2=found.r2,
        r2_still=found.r2_still,
        gain=found.gain,
    )


def _size(kernel: Tensor) -> tuple[int, int, int]:
    depth, height, width = kernel.shape[2:]
    return depth, height, width


def _called(name: str) -> str:
    return f"layer {name!r}" if name else "the model"


def _report(progress: Progress | None, before: int, total: int, done: int, _of: int) -> None:
    """Tell of one layer's filters as part of all."""
    if progress is not None:
        progress(before + done, total)
