"""Activations of chosen layers of a model, as a dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from zoo.errors import ModelError, UnknownNameError
from zoo.names import is_pattern


class Features(nn.Module):
    """Feature extractor that returns activations by layer name, in the order of `layers`.

    An activation is the layer's output tensor, or the first tensor of a tuple (the outputs of an LSTM). A layer that
    runs several times in one pass, as in a recurrence or where two places share it, gives a tuple of tensors in the
    order of its calls. Gradients flow through; in-place changes by a later layer are not visible in an activation.

    The first pass with each shape of batch runs to its end and counts the calls; later ones stop after the last that is
    needed. Use `stop=False` for a model whose layers run more or less often depending on what is in the batch.

    `zoo_entry`, `zoo_weights` and `zoo_load_report` are those of `model`.

    Args:
        model: Is held, not copied, and free of hooks between the passes.
        layers: Names as `named_modules` gives them, wildcards allowed.
        stop: Whether to stop early.

    Raises:
        UnknownNameError: for a name that no layer has, or a pattern that matches none.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], *, stop: bool = True) -> None:
        super().__init__()
        self.model = model
        #: Names of the layers.
        self.layers = _chosen(model, [layers] if isinstance(layers, str) else layers)
        self.stop = stop
        self._calls: dict[tuple[object, ...], int] = {}
        self.training = model.training
        for name in ("zoo_entry", "zoo_weights", "zoo_load_report"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def forward(self, batch: Tensor) -> dict[str, Tensor | tuple[Tensor, ...]]:
        """Compute the activations of a batch, by layer.

        Raises:
            ModelError: if a layer does not run, or returns no tensor.
        """
        modules = dict(self.model.named_modules(remove_duplicate=False))
        names: dict[nn.Module, list[str]] = {}
        for name in self.layers:
            names.setdefault(modules[name], []).append(name)
        kept: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        key = (*batch.shape, self.model.training)
        needed = self._calls.get(key) if self.stop else None
        ran: Counter[str] = Counter()

        def keep(module: nn.Module, _inputs: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple | list) and output else output
            if not isinstance(first, Tensor):
                raise ModelError(f"layer {names[module][0]!r} gives {type(output).__name__}, not a tensor")
            for name in names[module]:
                kept[name].append(first)
            ran["all"] += 1
            if ran["all"] == needed:
                raise _Stop
            copied = first.clone()  # later in-place operations work on a copy
            if first is output:
                return copied
            rest = (copied, *output[1:])
            return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)

        handles = [module.register_forward_hook(keep) for module in names]
        try:
            self.model(batch)
        except _Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()
        silent = [name for name, calls in kept.items() if not calls]
        if silent:
            raise ModelError(f"layer {silent[0]!r} did not run in the forward pass; choose one that does")
        self._calls[key] = ran["all"]
        return {name: calls[0] if len(calls) == 1 else tuple(calls) for name, calls in kept.items()}


class _Stop(BaseException):
    """Ends a forward pass once all layers have run."""


def _chosen(model: nn.Module, layers: Sequence[str]) -> tuple[str, ...]:
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    chosen: dict[str, None] = {}
    for layer in layers:
        found = [name for name in known if name == layer] or [name for name in known if fnmatchcase(name, layer)]
        if not found:
            raise UnknownNameError("layer", layer, known, pattern=is_pattern(layer))
        chosen |= dict.fromkeys(found)
    if not chosen:
        raise UnknownNameError("layer", "", known)
    return tuple(chosen)
