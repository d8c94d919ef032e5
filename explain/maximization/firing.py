"""How strongly the units of a layer fire: what is left of them behind the activation function that reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explain.attribution.rules import ELEMENTWISE
from explain.model.layers import Capture, as_maps, find_layer
from explain.model.preservation import prepared

#: Operations between a layer and its activation function that leave units apart: normalization, dropout, pooling.
_PER_UNIT = frozenset(
    {
        *("batch_norm", "instance_norm", "group_norm", "dropout", "dropout2d", "dropout3d", "contiguous", "clone"),
        *("max_pool2d", "max_pool3d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Firing:
    """The units of one layer on one batch."""

    #: N x units: the mean of each unit's map over time, rows and columns, as the layer gives it.
    before: Tensor
    #: N x units: the same behind the activation function; of the positive part of the map where none reads the layer
    #: alone, as in front of a residual sum.
    after: Tensor
    #: Name of the activation function ("relu"); None where there is none.
    function: str | None


def firing(model: nn.Module, layer: str, batch: Tensor) -> Firing:
    """How strongly each unit of a layer fires on a batch.

    Args:
        model: Any module; it is left as it was found.
        layer: As `explain.model.layers.layer_names` lists it.
        batch: N samples as the model takes them.

    Raises:
        UnknownNameError: No such layer.
        ModelError: The layer does not run, or gives no maps of units.
    """
    module = find_layer(model, layer)
    follow = _Follow()
    with prepared(model), torch.no_grad(), Capture(model, layer) as capture:
        hook = module.register_forward_hook(follow.begin)  # behind the capture's own, which gives out a copy
        try:
            with follow:
                capture.run(batch.clone())
        finally:
            hook.remove()
        samples = len(batch)
        maps = capture.maps(samples)
        found = [one for one in follow.found if one is not None]
        whole = len(found) == len(capture.calls)
        last = found if whole else [one.clamp(min=0) for one in follow.last]
        after = as_maps(last, module, samples, layer)
    return Firing(
        before=maps.float().mean(dim=(2, 3, 4)),
        after=after.float().mean(dim=(2, 3, 4)),
        function=follow.function if whole else None,
    )


class _Follow(TorchFunctionMode):
    """Within, what a layer gives out is followed to the activation function that reads it."""

    def __init__(self) -> None:
        super().__init__()
        #: For each call of the layer what is followed, and what the activation function makes of it.
        self.last: list[Tensor] = []
        self.found: list[Tensor | None] = []
        self._followed: list[Tensor] = []
        self.function: str | None = None

    def begin(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        """Follow the output of a call."""
        first = output
        while isinstance(first, tuple | list) and first:
            first = first[0]
        self.last.append(first.clone())
        self.found.append(None)
        self._followed.append(first)

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; note what it makes of what is followed."""
        output = func(*args, **(kwargs or {}))
        given = args[0] if args else (kwargs or {}).get("input")
        name = getattr(func, "__name__", "").strip("_")
        if not isinstance(given, Tensor) or not isinstance(output, Tensor):
            return output
        for call, followed in enumerate(self._followed):
            if followed is given and self.found[call] is None:
                if name in ELEMENTWISE:
                    self.found[call], self.function = output.clone(), name
                elif name in _PER_UNIT:
                    self.last[call], self._followed[call] = output.clone(), output
        return output
