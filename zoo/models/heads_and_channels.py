"""A network with other classes or other input channels: what fits is kept, the rest is adapted or drawn anew.

Where the builder takes their number, the network is built with it. Elsewhere layers are found by what they do and
replaced: the input layers are the convolutions that run on the batch; the layer of a head is the linear layer or
convolution of which each output channel moves the logit of its number and no other.

Input channels: further ones than C > 1 begin at zero behind the C, which stay unchanged; else each of the new ones
gets the filter's sum over the old ones, divided by their number. Either way a filter's weights keep their sum, so that
an input whose channels are all equal gives the response that it gave before.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from zoo import devices
from zoo.entries import InputSpec, ModelEntry
from zoo.errors import ModelError, UnknownNameError, UsageError, one_line
from zoo.models.heads import by_head
from zoo.registry import plugins

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)

#: The keywords by which builders are known to take the number of classes, or of channels.
_CLASSES, _CHANNELS = "num_classes", "in_channels"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Numbers asked of a network."""

    #: Head to number of classes.
    classes: Mapping[str, int]
    #: Input channels; None leaves them.
    channels: int | None
    #: As `classes`, of heads that have this number already.
    kept: Mapping[str, int] = field(default_factory=dict)

    def with_kept(self) -> Wish:
        """Return the same, with heads that already have the requested number drawn anew."""
        return Wish(classes={**self.classes, **self.kept}, channels=self.channels)

    def __bool__(self) -> bool:
        return bool(self.classes) or self.channels is not None


def wish(entry: ModelEntry, num_classes: int | Mapping[str, int] | None, in_channels: int | None) -> Wish:
    """Resolve `num_classes` and `in_channels` for an entry.

    Raises:
        UsageError: if a number is not positive, or it is ambiguous which head a single number is meant for.
        UnknownNameError: for a head that the entry does not have, or that has no classes.
    """
    heads = [head.name for head in entry.outputs if head.kind == "classes"]
    if isinstance(num_classes, int):
        if len(heads) != 1:
            if not heads:
                given = ", ".join(f"{head.name} ({head.kind})" for head in entry.outputs)
                raise UsageError(f"num_classes: {entry.name} gives no classes, but {given}; leave num_classes out")
            options = " ".join(f"--num-classes {head}={num_classes}" for head in heads)
            hint = f"say {options}, or some of it (num_classes={dict.fromkeys(heads, num_classes)} in Python)"
            raise UsageError(f"{entry.name} has the heads {', '.join(h.name for h in entry.outputs)}; {hint}")
        num_classes = {heads[0]: num_classes}
    if num_classes is not None and not hasattr(num_classes, "items"):
        raise UsageError(f"num_classes is {num_classes!r}; expected a whole number, or one for each head by its name")
    classes = dict(num_classes or {})
    for head, count in classes.items():
        if head not in heads:
            raise UnknownNameError("head of classes", str(head), heads)
        _check_count(f"num_classes of {head}", count)
    if in_channels is not None:
        _check_count("in_channels", in_channels)
    known = {head.name: len(head.labels) for head in entry.outputs}
    return Wish(
        classes={head: count for head, count in classes.items() if known[head] != count},
        channels=None if in_channels == entry.input.channel_count else in_channels,
        kept={head: count for head, count in classes.items() if known[head] == count},
    )


def _check_count(name: str, count: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"{name} is {count!r}; expected a positive whole number")


def arguments(entry: ModelEntry, asked: Wish) -> tuple[dict[str, Any], Wish]:
    """Return the builder's arguments for the request, and what the builder does not support."""
    given: dict[str, Any] = {}
    rest: dict[str, int] = {}
    for head, count in asked.classes.items():
        taken = argument(entry, head, count)
        given |= taken
        if not taken:
            rest[head] = count
    if asked.channels is not None and _CHANNELS in _parameters(entry):
        return {**given, _CHANNELS: asked.channels}, Wish(classes=rest, channels=None)
    return given, Wish(classes=rest, channels=asked.channels)


def argument(entry: ModelEntry, head: str, count: int) -> dict[str, int]:
    """Return the builder's argument for the number of classes of a head; empty if it has none."""
    heads = [one for one in entry.outputs if one.kind == "classes"]
    keyword = next(one.argument for one in heads if one.name == head)
    if not keyword and len(heads) == 1 and _CLASSES in _parameters(entry):
        keyword = _CLASSES
    return {keyword: count} if keyword else {}


def _parameters(entry: ModelEntry) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(plugins.resolve(entry.builder)).parameters


def describe(entry: ModelEntry, asked: Wish, given: Mapping[str, Any], parameters: int) -> ModelEntry:
    """Return the entry of the requested network; labels of other classes are unknown."""
    return dataclasses.replace(
        entry,
        arguments={**entry.arguments, **given},
        outputs=tuple(
            dataclasses.replace(head, labels=()) if head.name in asked.classes else head for head in entry.outputs
        ),
        input=entry.input if asked.channels is None else _input(entry.input, asked.channels),
        parameters=parameters,
        flops=None,
    )


def _input(spec: InputSpec, channels: int) -> InputSpec:
    """Return the input with other channels: gray, colors, or neither; gray has the colors' mean statistics."""
    if channels == 1 or (channels == 3 and spec.channels == "L"):
        mean, std = (sum(values) / len(values) for values in (spec.mean, spec.std))
        return dataclasses.replace(
            spec, channels="L" if channels == 1 else "RGB", other_channels=None, mean=(mean,), std=(std,)
        )
    return dataclasses.replace(spec, channels="other", other_channels=channels, mean=(0.0,), std=(1.0,))


def spread(kernel: Tensor, channels: int) -> Tensor:
    """Adapt a filter bank C_out x C x ... to another number of input channels, by this module's rule (see top)."""
    had = kernel.shape[1]
    if channels > had > 1:
        return torch.cat([kernel, kernel.new_zeros(kernel.shape[0], channels - had, *kernel.shape[2:])], dim=1)
    total = kernel.sum(dim=1, keepdim=True) / channels
    return total.expand(-1, channels, *kernel.shape[2:]).contiguous()


def is_input(found: Sequence[int], wanted: Sequence[int], had: int, channels: int) -> bool:
    """Check whether shapes are those of one filter bank with `had` and with `channels` input channels."""
    return len(found) > 2 and found[1] == had and tuple(wanted) == (found[0], channels, *found[2:])


@torch.no_grad()
def replace(
    model: nn.Module, entry: ModelEntry, asked: Wish, seed: int, *, trained: bool
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Replace the layers that builders cannot resize, in place.

    Args:
        model: In eval mode, on the CPU, as described by `entry`.
        entry: Of the model as it is.
        asked: What to replace.
        seed: Of the new layers.
        trained: Whether the filters of the input are worth keeping; else they are drawn from `seed` as well.

    Returns:
        "adapted" or "initialized" for each tensor replaced; the tensor names of its layer for each requested head.

    Raises:
        ModelError: if the layer cannot be identified.
    """
    became: dict[str, str] = {}
    heads: dict[str, set[str]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for head, count in asked.classes.items():
            path, layer = _head_layer(model, entry, head)
            heads[head] = {f"{path}.{name}" for name, _ in layer.named_parameters()}
            if _width(layer) == count:  # without labels an entry has no number of classes
                continue
            _exchange(model, path, _widened(layer, count))
            became |= {f"{path}.{name}": "initialised" for name, _ in layer.named_parameters()}
        if asked.channels is not None:
            for path, stem in _input_layers(model, entry).items():
                changed = _convolution(stem, in_channels=asked.channels)
                if trained:
                    changed.weight.copy_(spread(stem.weight, asked.channels))
                    if stem.bias is not None and changed.bias is not None:
                        changed.bias.copy_(stem.bias)
                _exchange(model, path, changed)
                names = [f"{path}.weight"] if trained else [f"{path}.{name}" for name, _ in stem.named_parameters()]
                became |= dict.fromkeys(names, "adapted" if trained else "initialised")
    return became, heads


@torch.no_grad()
def check(model: nn.Module, entry: ModelEntry, asked: Wish) -> None:
    """Raise ModelError unless the network takes the channels and gives the classes that were asked for.

    Args:
        model: As it was made, in eval mode and on the CPU.
        entry: As `describe` gave it.
        asked: What was asked.
    """
    try:
        heads = by_head(_Named(entry), model(_batch(entry)))
    except Exception as error:  # an untrusted network can raise anything
        if devices.is_out_of_memory(error):
            raise
        raise ModelError(f"{entry.name} does not run with {_said(asked)}: {one_line(error)}") from error
    for head, count in asked.classes.items():
        if heads[head].shape[-1] != count:
            raise ModelError(f"{entry.name} gives {list(heads[head].shape)} for {head!r}, not {count} classes")


def _said(asked: Wish) -> str:
    channels = [] if asked.channels is None else [f"{asked.channels} input channels"]
    return " and ".join([*channels, *(f"{count} classes of {head!r}" for head, count in asked.classes.items())])


class _Named(nn.Module):
    """Lends an entry to `prediction.by_head`, which reads it off a model."""

    def __init__(self, entry: ModelEntry) -> None:
        super().__init__()
        self.zoo_entry: Any = entry


def _input_layers(model: nn.Module, entry: ModelEntry) -> dict[str, nn.Conv2d]:
    """Return the convolutions that read the batch: all that run on it or a view of it, else the first that runs."""
    ran, reading = _calls(model, _batch(entry))
    paths = reading or list(ran)[:1]
    if not paths:
        raise ModelError(f"{entry.name} has no convolution, so that its input channels cannot be adapted")
    had = entry.input.channel_count
    for path in paths:
        layer = cast("nn.Conv2d", model.get_submodule(path))
        if type(layer) not in _CONVOLUTIONS or layer.groups != 1 or layer.in_channels != had:
            raise ModelError(
                f"the first layer of {entry.name}, {path} ({type(layer).__name__}), is no convolution of all {had} "
                f"channels; other input channels need a builder with the argument {_CHANNELS}"
            )
    return {path: cast("nn.Conv2d", model.get_submodule(path)) for path in paths}


def _calls(model: nn.Module, batch: Tensor) -> tuple[Counter[str], list[str]]:
    """Count the calls of convolutions and linear layers, in order of first call, and find those that read the batch."""
    ran: Counter[str] = Counter()
    reading: dict[str, None] = {}

    def note(path: str, given: Tensor) -> None:
        ran.update([path])
        if given.untyped_storage().data_ptr() == batch.untyped_storage().data_ptr():
            reading[path] = None

    handles = [
        module.register_forward_hook(lambda _module, inputs, _output, path=path: note(path, inputs[0]))
        for path, module in model.named_modules()
        if isinstance(module, (*_CONVOLUTIONS, nn.Linear))
    ]
    try:
        model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return ran, list(reading)


def _head_layer(model: nn.Module, entry: ModelEntry, head: str) -> tuple[str, nn.Module]:
    """Return the layer whose output channels are a head's classes: each changes its own logit and nothing else.

    Raises:
        ModelError: if there is none.
    """
    batch = _batch(entry)
    before = by_head(_Named(entry), model(batch))
    count = before[head].shape[-1]
    ran, _ = _calls(model, batch)
    for path in reversed(ran):
        layer = model.get_submodule(path)
        if _width(layer) == count and ran[path] == 1 and _is_head(model, layer, entry, batch, before, head):
            return path, layer
    raise ModelError(
        f"no layer of {entry.name} can be told to give the {count} classes of {head!r}: none has an output channel for "
        "each that moves it alone; another number needs a builder with an argument for it (OutputSpec.argument)"
    )


def _is_head(
    model: nn.Module, layer: nn.Module, entry: ModelEntry, batch: Tensor, before: Mapping[str, Tensor], head: str
) -> bool:
    """Check whether raising some output channels of a layer changes these logits and no others."""
    count = before[head].shape[-1]
    raised = sorted({0, count // 2, count - 1})[: max(1, count - 1)]

    def raise_some(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output = output.clone()
        channels = output.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0)
        channels[raised] += channels.abs().max() + 1
        return output

    handle = layer.register_forward_hook(raise_some)
    try:
        after = by_head(_Named(entry), model(batch))
    finally:
        handle.remove()
    moved = {name: (after[name] - before[name]).abs() > 1e-4 * (1 + before[name].abs()) for name in before}
    own = moved.pop(head).reshape(-1, count).any(dim=0).nonzero().flatten().tolist()
    return own == raised and not any(bool(other.any()) for other in moved.values())


def _batch(entry: ModelEntry) -> Tensor:
    return torch.randn(entry.input.shape, generator=torch.Generator().manual_seed(0))


def _width(layer: nn.Module) -> int:
    if type(layer) is nn.Linear:
        return layer.out_features
    return cast("nn.Conv2d", layer).out_channels if type(layer) in _CONVOLUTIONS and layer.groups == 1 else 0


def _widened(layer: nn.Module, count: int) -> nn.Module:
    """Return a layer like this one with `count` outputs."""
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, count, bias=layer.bias is not None, dtype=layer.weight.dtype)
    return _convolution(cast("nn.Conv2d", layer), out_channels=count)


def _convolution(layer: nn.Conv2d, **changed: int) -> nn.Conv2d:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
    given = {name: getattr(layer, name) for name in names}
    return type(layer)(**{**given, **changed}, bias=layer.bias is not None, dtype=layer.weight.dtype)


def _exchange(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer in the place of another, with its mode and device."""
    parent, _, name = path.rpartition(".")
    old = model.get_submodule(path)
    like = next(old.parameters())
    setattr(model.get_submodule(parent) if parent else model, name, layer.to(like.device).train(old.training))
