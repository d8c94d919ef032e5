"""Layers by name: which there are, what one gives out, and stopping once it has."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from explain.model.preservation import check_model
from zoo.errors import ModelError, UnknownNameError, UsageError

_CHANNELS_FIRST_1D = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d)


def layer_names(model: nn.Module) -> list[str]:
    """Names of every layer, in the order of `named_modules`, the model itself left out."""
    return [name for name, _ in model.named_modules() if name]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The module of that name.

    Raises:
        UnknownNameError: There is none; near names are offered.
        UsageError: The model is no module, or the name no text.
    """
    check_model(model)
    if not isinstance(name, str):
        raise UsageError(f"a layer is given by its name, not {type(name).__name__}")
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if not name or name not in modules:
        raise UnknownNameError("layer", name, layer_names(model), "`explain fields MODEL --layers '*'` lists them")
    return modules[name]


def compiled(module: nn.Module) -> str:
    """What runs a module's operations without calling its layers, so that these cannot be watched; "" for others."""
    if isinstance(module, torch.jit.ScriptModule):
        return "TorchScript"
    return "a program of torch.export" if isinstance(module, torch.fx.GraphModule) and _is_exported(module) else ""


def _is_exported(module: torch.fx.GraphModule) -> bool:
    """Whether a graph calls no module, but for those that check what goes in."""
    calls = [node for node in module.graph.nodes if node.op == "call_module"]
    return all(str(node.target).startswith("_guards") for node in calls)


def hidden_layers(model: nn.Module) -> str:
    """Why layers of a model cannot be watched, or rules not reach its operations; "" where nothing hinders that."""
    for name, module in model.named_modules():
        if kind := compiled(module):
            where = f"layer {name!r}" if name else "the model"
            return f"{where} runs as {kind}, which calls operations and no layers"
    return ""


def did_not_run(model: nn.Module, name: str) -> ModelError:
    """The error for a layer that a forward pass did not call."""
    reason = hidden_layers(model)
    remedy = f"{reason}; explain the module that it was made from" if reason else "choose one that does"
    return ModelError(f"layer {name!r} did not run in the forward pass; {remedy}")


class Capture:
    """The outputs of one layer while a model runs, every call kept.

    A context manager: the hook is there within it only. Outputs are kept as the layer gave them and the model goes on
    with a copy, so that an in-place operation behind the layer (ReLU) changes neither what was kept nor its gradient.

    Args:
        model: The model.
        name: Name of the layer, as `layer_names` lists it.
        stop_after: `run` ends the forward pass after this many calls of the layer; None lets it run to its end.
        leaf: Make outputs that need no gradient need one: where nothing before the layer needs any, a backward pass to
            them ends at the layer.
    """

    def __init__(self, model: nn.Module, name: str, *, stop_after: int | None = None, leaf: bool = False) -> None:
        self.model = model
        self.name = name
        self.module = find_layer(model, name)
        self.stop_after = stop_after
        self.leaf = leaf
        #: Outputs of the layer in the order of its calls: the tensor, or the first one of a tuple or list.
        self.calls: list[Tensor] = []
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> Self:
        self.calls = []
        if isinstance(self.module, torch.jit.ScriptModule):
            raise did_not_run(self.model, self.name)
        self._handle = self.module.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def run(self, batch: Tensor) -> Any:
        """One forward pass; returns the model's output, None where it was stopped early.

        Raises:
            ModelError: The layer did not run.
        """
        self.calls = []
        try:
            output = self.model(batch)
        except _Stop:
            output = None
        if not self.calls:
            raise did_not_run(self.model, self.name)
        return output

    def maps(self, samples: int) -> Tensor:
        """All calls as one tensor, samples x units x T' x H' x W' (`as_maps`)."""
        return as_maps(self.calls, self.module, samples, self.name)

    def _keep(self, _module: nn.Module, inputs: Any, output: Any) -> Any:
        kept = _first_tensor(output)
        if kept is None:
            raise ModelError(f"layer {self.name!r} gives {type(output).__name__}, not a tensor")
        given = _first_tensor(inputs)
        if given is not None and _share_numbers(kept, given):  # dropout in eval mode, identities, in-place functions
            kept = kept.clone()
        if self.leaf and not kept.requires_grad:
            kept.requires_grad_()
        self.calls.append(kept)
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise _Stop
        return _replace_first(output, kept.clone())


class _Stop(BaseException):
    """Ends a forward pass once the layer asked for has run."""


def as_maps(calls: list[Tensor], module: nn.Module, samples: int, name: str = "") -> Tensor:
    """What a layer gave out in one forward pass, as samples x units x T' x H' x W'.

    =====================================  ===================================================================
    output of each call                    read as
    =====================================  ===================================================================
    N x C x T' x H' x W'                   itself
    N x C x H' x W', one call              one frame
    N x C x H' x W', several calls         one frame a call, in the order of the calls
    (N T') x C x H' x W'                   frames folded into the batch, sample by sample
    N x T' x C (RNN, linear, attention)    T' positions in time; N x C x T' for 1-D convolutions and poolings
    N x C                                  one value
    N x H' x W' x C, N x T' x H' x W' x C  channels last, where the width of a LayerNorm or linear layer in it is theirs
    =====================================  ===================================================================

    Raises:
        ModelError: None of these.
    """
    first = calls[0]
    shapes = {tuple(call.shape) for call in calls}
    problem = f"layer {name!r} gives {' and '.join(map(str, sorted(shapes)))} for a batch of {samples}"
    if len(shapes) > 1 or first.ndim < 2:
        raise ModelError(f"{problem}: these are no maps of units over time and space")
    if len(calls) > 1:
        if first.ndim == 5 or first.shape[0] != samples:
            raise ModelError(f"{problem}, in {len(calls)} calls: which of them is meant is not clear")
        return torch.cat([as_maps([call], module, samples, name) for call in calls], dim=2)
    if _is_channels_last(first, module):
        first = first.movedim(-1, 1)
    if first.ndim == 3:
        if not isinstance(module, _CHANNELS_FIRST_1D):
            batch_first = getattr(module, "batch_first", True)
            first = first.transpose(1, 2) if batch_first else first.permute(1, 2, 0)
        first = first.unsqueeze(-1).unsqueeze(-1)
    if first.ndim == 2 or first.ndim == 4:
        first = first.reshape(*first.shape[:2], 1, *(first.shape[2:] or (1, 1)))
        if first.shape[0] != samples and first.shape[0] % samples == 0:
            return first.reshape(samples, -1, *first.shape[1:]).squeeze(3).transpose(1, 2)
    if first.ndim != 5 or first.shape[0] != samples:
        raise ModelError(f"{problem}: the samples are not among its axes")
    return first


def _is_channels_last(output: Tensor, module: nn.Module) -> bool:
    """Whether the channels of maps stand last, as between the blocks of a Swin transformer."""
    widths = {one.out_features for one in module.modules() if isinstance(one, nn.Linear)}
    widths |= {one.normalized_shape[-1] for one in module.modules() if isinstance(one, nn.LayerNorm)}
    return output.ndim in {4, 5} and output.shape[-1] in widths and output.shape[1] not in widths


def is_folded(calls: list[Tensor], samples: int) -> bool:
    """Whether frames were folded into the batch axis, so that only a batch of one tells which frame is whose."""
    return len(calls) == 1 and calls[0].ndim in {2, 4} and calls[0].shape[0] != samples


def _first_tensor(output: Any) -> Tensor | None:
    """The tensor that a layer's output is, or begins with."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output:
        return _first_tensor(output[0])
    return None


def _share_numbers(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one, or look at the same numbers."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _replace_first(output: Any, tensor: Tensor) -> Any:
    """`output` with its first tensor exchanged, its type kept."""
    if isinstance(output, Tensor):
        return tensor
    rest = [_replace_first(output[0], tensor), *output[1:]]
    if hasattr(output, "_fields"):
        return type(output)(*rest)
    return type(output)(rest)
