"""Receptive fields as gradients show them: what one position of each layer really depends on."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from explain.fields.reach import Triple
from explain.model.diagnosis import through_mutations
from explain.model.layouts import layout_of, to_ncthw
from explain.model.memory import Progress
from explain.model.preservation import prepared
from zoo.devices import is_out_of_memory

#: First and last frame, row and column; None where nothing was reached.
Box = tuple[tuple[int, int], ...] | None

Key = tuple[str, str]

#: Numbers that convolutions and poolings make in one pass, times backward passes: r3d_18's 21 layers on 16 x 112 x 112
#: take about a seventh of this. Layers beyond are not checked.
LARGEST_WORK = 3_000_000_000

#: Gradients begin with: at the edge of a deep field they are products of many small weights, which must not become 0.
_SCALE = 2.0**80

#: Functions of one tensor, element by element, whose gradient is zero for some inputs.
_CUTTING = frozenset({
    "ceil", "clamp", "clamp_max", "clamp_min", "clip", "elu", "floor", "gelu", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "mish", "prelu", "relu", "relu6", "round", "rrelu", "sigmoid", "sign", "silu",
    "softshrink", "tanh", "threshold",
})  # fmt: skip

#: Normalisations, whose statistics do not count.
_NORMALISING = frozenset({"batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"})

_LARGEST = frozenset({"amax", "amin", "max", "min"})

_LAYERS = {
    **{f"conv{dims}d": ("convolution", dims) for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": ("transposed convolution", dims) for dims in (1, 2, 3)},
    **{f"{kind}max_pool{dims}d": ("max pooling", dims) for dims in (1, 2, 3) for kind in ("", "adaptive_")},
    **{f"{kind}avg_pool{dims}d": ("average pooling", dims) for dims in (1, 2, 3) for kind in ("", "adaptive_")},
}


@dataclass
class _Structure(TorchFunctionMode):
    """Within, gradients flow wherever an output depends on an input, and layers' outputs are kept.

    Values stay the same. Functions that cut the gradient for some inputs pass it on, maxima give it to all that they
    choose from, and normalisations pass it on position by position.
    """

    #: By layer and kind the output of each call; under the layer's name and "" what the module gives.
    outputs: dict[Key, list[tuple[Tensor, int]]] = field(default_factory=dict)
    #: Names of the modules that run now, outermost first.
    running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        whole = getattr(func, "__name__", "").partition(".")[0]
        name = whole.strip("_")
        given = args[0] if args else kwargs.get("input")
        in_place = whole.endswith("_") and not whole.endswith("__")
        if in_place or kwargs.get("inplace") or not isinstance(given, Tensor) or not given.requires_grad:
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        if name in _CUTTING or name in _NORMALISING:
            result = _passing(result, given)
        elif "max_pool" in name and isinstance(result, Tensor):
            result = _passing(result, _pooled(name, args, kwargs, result))
        elif name in _LARGEST and len(args) + len(kwargs) > 1 and not isinstance(_argument(args, kwargs), Tensor):
            result = _largest(result, given, args, kwargs)
        if name in _LAYERS and isinstance(result, Tensor):
            kind, dims = _LAYERS[name]
            layer = self.running[-1] if self.running else ""
            self.outputs.setdefault((layer, kind), []).append((result, dims))
        return result

    @contextlib.contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Know which module runs, and keep what modules give."""

        def entering(name: str) -> Any:
            return lambda _module, _inputs: self.running.append(name)

        def leaving(_module: nn.Module, _inputs: Any, output: Any) -> None:
            name = self.running.pop()
            while isinstance(output, tuple | list) and output:
                output = output[0]
            if isinstance(output, Tensor):
                self.outputs.setdefault((name, ""), []).append((output, {5: 3, 4: 2}.get(output.ndim, 1)))

        with contextlib.ExitStack() as stack:
            for name, module in model.named_modules():
                if name and not isinstance(module, torch.jit.ScriptModule):
                    stack.callback(module.register_forward_pre_hook(entering(name)).remove)
                    stack.callback(module.register_forward_hook(leaving).remove)
            yield


def _passing(result: Tensor, through: Tensor) -> Tensor:
    """The result's values, with the gradient of another tensor of its shape."""
    if not isinstance(result, Tensor) or result.shape != through.shape:
        return result
    return result.detach() + (through - through.detach())


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("other"))


def _largest(result: Any, given: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A maximum over axes, whose gradient goes to all that it was taken over."""
    keep = bool(kwargs.get("keepdim", args[2] if len(args) > 2 else False))
    mean = given.mean(dim=_argument(args, kwargs), keepdim=keep)
    if isinstance(result, Tensor):
        return _passing(result, mean)
    return type(result)((_passing(result[0], mean), *result[1:])) if isinstance(result, tuple) else result


def _pooled(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor) -> Tensor:
    """The sums over the windows of max pooling."""
    dims = int(name[-2])
    given: Tensor = args[0] if args else kwargs["input"]
    if name.startswith("adaptive"):
        averaged: Tensor = getattr(F, f"adaptive_avg_pool{dims}d")(given, result.shape[-dims:])
        return averaged
    names = ("kernel_size", "stride", "padding", "dilation")
    asked = {**dict(zip(names, args[1:], strict=False)), **{key: kwargs[key] for key in names if key in kwargs}}
    size, step, padding, spread = (
        _several(asked.get(key) if asked.get(key) not in (None, [], ()) else default, dims)
        for key, default in zip(names, (1, asked["kernel_size"], 0, 1), strict=True)
    )
    flat = given.reshape(-1, 1, *given.shape[-dims:])
    # Windows that begin inside and end outside (ceil_mode) find zeros there.
    ends = [
        max(0, (left - 1) * jump + (width - 1) * wide + 1 - had - pad)
        for left, jump, width, wide, had, pad in zip(
            result.shape[-dims:], step, size, spread, given.shape[-dims:], padding, strict=True
        )
    ]
    sides = itertools.chain.from_iterable(zip(reversed(padding), reversed(ends), strict=True))
    convolve = getattr(F, f"conv{dims}d")
    summed: Tensor = convolve(F.pad(flat, list(sides)), flat.new_ones(1, 1, *size), stride=step, dilation=spread)
    for axis, left in enumerate(result.shape[-dims:], start=summed.ndim - dims):
        summed = summed.narrow(axis, 0, left)
    return summed.reshape(result.shape)


def _several(value: Any, dims: int) -> list[int]:
    values = list(value) if isinstance(value, tuple | list) else [value]
    return values * dims if len(values) == 1 else values


@through_mutations
def boxes(
    model: nn.Module, batch: Tensor, wanted: Mapping[Key, tuple[Triple, Sequence[Triple]]], tell: Progress
) -> dict[Key, list[Box]]:
    """The frames, rows and columns that positions of layers depend on, by one backward pass for each position.

    Args:
        model: The model.
        batch: One sample.
        wanted: By layer and kind, the extent of its output (T, H, W) and the positions asked for.
        tell: Called as progress(done, total), in layers.

    Returns:
        By layer and kind a box for each position; layers whose output holds no such positions, that would take too
        long or too much memory, are left out.
    """
    found: dict[Key, list[Box]] = {}
    with prepared(model, seed=0):
        inputs = batch.clone().requires_grad_()
        structure = _Structure()
        try:
            with structure.watching(model), structure:
                model(inputs.clone())
            made = sum(output.numel() for (_, kind), calls in structure.outputs.items() if kind for output, _ in calls)
            for done, (key, (extent, positions)) in enumerate(wanted.items()):
                tell(done, len(wanted))
                if (done + 1) * made > LARGEST_WORK:
                    break
                calls = structure.outputs.get(key) or structure.outputs.get((key[0], ""), [])
                units = [_unit(calls, extent, position) for position in positions]
                if all(unit is not None and unit.requires_grad for unit in units):
                    found[key] = [_box(unit, inputs, layout_of(model, batch)) for unit in units if unit is not None]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
    tell(len(wanted), len(wanted))
    return found


def _box(unit: Tensor, inputs: Tensor, layout: Any) -> Box:
    """What the channels at one position depend on."""
    weights = torch.rand(unit.shape, generator=torch.Generator().manual_seed(0)).to(unit) + 0.5
    for scale in (_SCALE, 1.0):
        found: tuple[Tensor | None, ...] = torch.autograd.grad(
            unit, inputs, weights * scale, retain_graph=True, allow_unused=True
        )
        if found[0] is None:
            return None
        gradient = found[0]
        if bool(gradient.isfinite().all()):
            break
    reached = (to_ncthw(gradient, layout)[0] != 0).any(dim=0)
    places = reached.nonzero()
    if not len(places):
        return None
    return tuple(zip(places.amin(dim=0).tolist(), places.amax(dim=0).tolist(), strict=True))


def _unit(calls: list[tuple[Tensor, int]], extent: Triple, position: Triple) -> Tensor | None:
    """All channels at one position of a layer's output; None where it does not lie so."""
    if not calls:
        return None
    time, row, column = position
    output, dims = calls[-1]
    if len(calls) >= extent[0] > 1 and dims < 3 and output.shape[0] == 1:  # frame by frame, the last of all runs
        output, extent, time = calls[time - extent[0]][0], (1, *extent[1:]), 0
    output = output[None] if output.ndim == dims + 1 else output  # without samples
    if dims == 3 and output.ndim == 5:
        return _taken(output[0], extent, (time, row, column))
    if dims == 2 and output.ndim == 4:  # frames folded into the batch, or one
        return _taken(output.transpose(0, 1), extent, (time, row, column)) if len(output) == extent[0] else None
    if dims == 1 and output.ndim == 3 and extent[1:] == (1, 1):
        return _taken(output[0][..., None, None], extent, (time, row, column))
    return None


def _taken(output: Tensor, extent: Triple, position: Triple) -> Tensor | None:
    """One position of C x T x H x W, or of T x H x W x C, or of T x C as recurrent layers give it."""
    time, row, column = position
    if tuple(output.shape[1:]) == extent:
        return output[:, time, row, column]
    if tuple(output.shape[:3]) == extent:
        return output[time, row, column]
    if output.shape[0] == extent[0] and tuple(output.shape[2:]) == extent[1:]:
        return output[time, :, row, column]
    return None
