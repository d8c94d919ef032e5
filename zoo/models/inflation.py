"""Weights of a 2D network in a 3D one: convolutions are inflated over time, all else is left and named.

Inflating repeats a 2D kernel over the D steps of a 3D one and divides it by D, so that a video whose frames are all
equal gives the response of the 2D convolution (Carreira & Zisserman, arXiv 1705.07750, section 2.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from zoo import devices
from zoo.errors import PluginError, UsageError, WeightsError, describe
from zoo.names import natural

#: Ways to take the weights of another architecture.
Adapt = Literal["inflate"]

ADAPTATIONS: Final[tuple[str, ...]] = get_args(Adapt)

#: Parts of a 2D convolution weight's shape.
_PARTS = ("filters", "input channels", "rows", "columns")


@runtime_checkable
class Inflatable(Protocol):
    """A layer that takes a 2D weight its own way, as a 3TConv does; attributes as those of `nn.Conv3d`."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]

    def inflate(self, weight: Tensor) -> None:
        """Take `weight`, C_out x C_in / groups x rows x columns of the layer's own type, in place."""


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Result for the tensors of a file and of a model."""

    #: In the file and taken, all of them inflated.
    taken: tuple[str, ...]
    #: Of those taken, how many changed their floating-point type on the way.
    converted: int
    #: In the file, and not used.
    left: tuple[str, ...]
    #: In the model, and not from the file.
    untouched: tuple[str, ...]


def check(adapt: str | None) -> None:
    """Raise UsageError for a way to adapt that does not exist."""
    if adapt is not None and adapt not in ADAPTATIONS:
        known = " or ".join(map(repr, ADAPTATIONS))
        raise UsageError(f"adapt={adapt!r} is unknown; expected {known} for 2D weights, or None to load strictly")


@torch.no_grad()
def inflate(model: nn.Module, tensors: Mapping[str, Tensor], *, name: str, source: str) -> Adaptation:
    """Take the convolutions of a 2D network into the 3D layers of a model, in place.

    A weight `PATH.weight` of four axes is taken where the model has a 3D layer at PATH: an `nn.Conv3d` gets it repeated
    over time and divided by the D steps of its kernel, an `Inflatable` layer takes it its own way. Nothing else is
    taken: no biases, no normalization, no fully connected layers.

    Args:
        model: The 3D model; all that is not taken stays as it is.
        tensors: Of the 2D network, by name.
        name: What messages call the model.
        source: What messages call the tensors.

    Raises:
        UsageError: if the tensors are those of a 3D model.
        WeightsError: if no convolution fits, or one has the place of a 3D layer but another shape; nothing is
            taken then.
        PluginError: if a layer's own `inflate` fails, or a layer keeps no weight that can be set.
    """
    _check_flat(model, tensors, name, source)
    layers = {path: layer for path, layer in model.named_modules(remove_duplicate=False) if _is_solid(layer)}
    kernels = {_path(key): tensor for key, tensor in tensors.items() if tensor.ndim == 4 and _is_weight(key)}
    _check_fit({path: _shape(layer) for path, layer in layers.items()}, kernels, name, source)
    written: set[int] = set()
    taken, converted = [], 0
    for path, layer in layers.items():
        if path in kernels:
            kernel = kernels[path]
            like = next(layer.parameters(), kernel)
            written |= _take(layer, kernel.to(like), f"{path} of {name}")
            taken.append(_key(path))
            converted += kernel.dtype != like.dtype
    return Adaptation(
        taken=tuple(taken),
        converted=converted,
        left=tuple(sorted(tensors.keys() - set(taken), key=natural)),
        untouched=tuple(key for key, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in written),
    )


def _take(layer: nn.Module, kernel: Tensor, name: str) -> set[int]:
    """Put a 2D kernel into a layer; the identities of the tensors that changed."""
    before = {id(tensor): (tensor._version, tensor.clone()) for tensor in _tensors(layer)}  # noqa: SLF001 - counts writes
    if isinstance(layer, Inflatable):
        try:
            layer.inflate(kernel)
        except Exception as error:
            if devices.is_out_of_memory(error):
                raise
            raise PluginError(f"inflating {name} failed: {describe(error)}") from error
    elif isinstance(layer, nn.Conv3d):
        steps = layer.weight.shape[2]
        layer.weight.copy_((kernel / steps)[:, :, None].expand_as(layer.weight))
    written = set()
    for tensor in _tensors(layer):
        version, values = before.get(id(tensor), (None, tensor))
        if tensor._version != version or not torch.equal(tensor, values):  # noqa: SLF001 - `.data` is not counted
            written.add(id(tensor))
    if not written:
        raise PluginError(f"inflating {name} changed none of its tensors")
    return written


def _tensors(layer: nn.Module) -> list[Tensor]:
    return list(layer.state_dict(keep_vars=True).values())


def _is_solid(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv3d | Inflatable)


def _shape(layer: nn.Module) -> tuple[int, ...]:
    """Return the shape of the 2D weight for a 3D layer: filters, channels of each, rows, columns."""
    assert isinstance(layer, nn.Conv3d | Inflatable)  # noqa: S101 - only those are layers here
    groups = getattr(layer, "groups", 1)
    return (layer.out_channels, layer.in_channels // groups, *layer.kernel_size[-2:])


def _is_weight(key: str) -> bool:
    return key.rpartition(".")[2] == "weight"


def _path(key: str) -> str:
    return key.rpartition(".")[0]


def _key(path: str) -> str:
    return f"{path}.weight".lstrip(".")


def _check_flat(model: nn.Module, tensors: Mapping[str, Tensor], name: str, source: str) -> None:
    """Raise UsageError for tensors that need no inflating."""
    if {key: tensor.shape for key, tensor in tensors.items()} == {k: t.shape for k, t in model.state_dict().items()}:
        raise UsageError(f"{source} fits {name} as it is: leave adapt out")
    solid = [key for key, tensor in tensors.items() if tensor.ndim == 5 and _is_weight(key)]
    if solid:
        first = min(solid, key=natural)
        raise UsageError(
            f"{source} holds 3D weights ({first} {list(tensors[first].shape)}), and adapt='inflate' is for those of a "
            "2D network: leave adapt out where they are those of this model"
        )


def _check_fit(shapes: Mapping[str, tuple[int, ...]], kernels: Mapping[str, Tensor], name: str, source: str) -> None:
    """Raise WeightsError unless some 2D kernel has the place of a 3D layer, and every such kernel its shape."""
    shared = [path for path in shapes if path in kernels]
    differences = list(filter(None, (_difference(_key(path), kernels[path], shapes[path]) for path in shared)))
    if shared and not differences:
        return
    if len(differences) < len(shared):
        said = f"{source} does not fit {name}: {len(differences)} of {len(shared)} convolutions differ"
    else:
        said = f"no convolution of {source} fits {name}"
    if differences:
        why = f"first difference: {differences[0]}"
    elif not kernels:
        why = "the file holds no weights of 2D convolutions (`PATH.weight` with four axes)"
    elif not shapes:
        why = f"{name} has no 3D convolution"
    else:
        first, layer = min(kernels, key=natural), next(iter(shapes))
        why = (
            f"first difference: the file begins with {_key(first)} {list(kernels[first].shape)}, "
            f"the model with {_key(layer)}, which takes {list(shapes[layer])}{_prefix(shapes, kernels)}"
        )
    raise WeightsError(f"{said}: {why}; nothing was loaded")


def _difference(key: str, kernel: Tensor, expected: tuple[int, ...]) -> str:
    """Describe why a 2D kernel does not fit its layer; empty if it does."""
    parts = zip(_PARTS, kernel.shape, expected, strict=True)
    said = ", ".join(f"{have} {part} instead of {want}" for part, have, want in parts if have != want)
    if said:
        return f"{key} is {list(kernel.shape)}, expected {list(expected)} ({said})"
    return "" if kernel.is_floating_point() else f"{key} is {kernel.dtype}, expected floating-point numbers"


def _prefix(shapes: Mapping[str, tuple[int, ...]], kernels: Mapping[str, Tensor]) -> str:
    """Describe how names would match with a prefix removed or added; no such change is made automatically."""
    counts: Counter[tuple[str, str]] = Counter()
    for path, kernel in kernels.items():
        for layer, shape in shapes.items():
            if tuple(kernel.shape) == shape:
                if path.endswith(f".{layer}"):
                    counts["without", path.removesuffix(layer)] += 1
                elif layer.endswith(f".{path}"):
                    counts["with", layer.removesuffix(path)] += 1
    if not counts:
        return ""
    ((how, prefix), count), *_ = counts.most_common(1)
    return f"; {how} the prefix {prefix!r} {count} of {len(kernels)} names would fit: rename them in the file"
