"""Modules built on the meta device: their parameters take no memory until weights are assigned."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from zoo import devices
from zoo.entries import ModelEntry
from zoo.errors import (
    MemoryLimitError,
    PluginError,
    PluginExitError,
    ZooError,
    describe,
)
from zoo.isolation import guarded
from zoo.limits import MOST_TENSORS
from zoo.models import heads_and_channels
from zoo.registry import plugins


def build(entry: ModelEntry) -> nn.Module:
    """Call an entry's builder.

    Raises:
        PluginError: if it fails or returns no module.
        MemoryLimitError: if it makes more than memory holds, or more tensors than a weights file may have.
    """
    builder = plugins.resolve(entry.builder)
    try:
        with guarded(), _limited(entry):
            model = builder(**entry.arguments)
    except Exception as error:
        if (isinstance(error, ZooError) and not isinstance(error, PluginExitError)) or devices.is_out_of_memory(error):
            raise
        raise PluginError(f"the builder of {entry.name} ({entry.builder}) failed: {describe(error, 1000)}") from error
    if not isinstance(model, nn.Module):
        raise PluginError(
            f"the builder of {entry.name} ({entry.builder}) gave {type(model).__name__}, not a torch module"
        )
    return model


@contextmanager
def _limited(entry: ModelEntry) -> Iterator[None]:
    """Stop a builder whose modules ask for more memory than is free, before their parameters are filled."""
    owner, most = threading.get_ident(), devices.free_memory()
    bytes_made, tensors_made = 0, 0

    def count(module: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        nonlocal bytes_made, tensors_made
        del module, name
        if tensor is None or threading.get_ident() != owner:  # the hooks are global
            return
        tensors_made += 1
        bytes_made += 0 if tensor.is_meta else tensor.numel() * tensor.element_size()
        if bytes_made > most or tensors_made > MOST_TENSORS:
            made = f"{tensors_made:,} tensors" if bytes_made <= most else f"{bytes_made:,} bytes"
            raise MemoryLimitError(
                f"{entry.name} with the arguments {dict(entry.arguments)!s:.200} makes {made} or more; {most:,} bytes "
                f"of memory are free, and at most {MOST_TENSORS:,} tensors are expected"
            )

    handles = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _MetaLeftUnfilled(TorchFunctionMode):
    """Filling a tensor on meta does nothing, and costs nothing: torch's own way takes half of a build."""

    _FILLS = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.fill_, torch.Tensor.zero_})

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in self._FILLS and args and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Build modules inside with parameters on meta (no memory, no initialization) and real buffers."""
    owner = threading.get_ident()

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        del module, name
        if parameter is None or threading.get_ident() != owner:  # the hook is global, other threads build as usual
            return None
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]  # may return a parameter
    try:
        with _MetaLeftUnfilled():
            yield
    finally:
        handle.remove()


def initialised(entry: ModelEntry, seed: int) -> nn.Module:
    """Build an entry with parameters drawn from a seed; the global random state is kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(entry)


def shapes(entry: ModelEntry) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the tensors of an entry's network."""
    return shapes_of(meta_build(entry)[0].state_dict())


def shapes_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def tensors_of(entry: ModelEntry, head: str, count: int) -> set[str]:
    """Return the names of tensors that depend on a head's number of classes, by the builder's argument."""
    one, other = (
        shapes(
            dataclasses.replace(
                entry, arguments={**entry.arguments, **heads_and_channels.argument(entry, head, number)}
            )
        )
        for number in (count, count + 1)
    )
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


def left_on_meta(model: nn.Module) -> list[str]:
    """Return tensors without values after loading: parameters, buffers, and plain attributes of modules."""
    return [
        f"{prefix}.{name}".lstrip(".")
        for prefix, module in model.named_modules()
        for name, value in [*module._parameters.items(), *module._buffers.items(), *vars(module).items()]  # noqa: SLF001
        if isinstance(value, torch.Tensor) and value.is_meta
    ]


def meta_build(entry: ModelEntry) -> tuple[nn.Module, str]:
    """Build the model with parameters on meta, or as usual, with the reason."""
    if not entry.meta:
        return initialised(entry, seed=0), "no build on meta: the entry says so"
    try:
        with torch.random.fork_rng(devices=[]), parameters_on_meta():
            return build(entry), ""
    except PluginError as error:
        return initialised(entry, seed=0), f"no build on meta: {error.__cause__ or error}"
