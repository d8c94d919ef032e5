"""Floating-point operations of networks, counted without computing values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from zoo.entries import ModelEntry
from zoo.errors import ModelError, describe
from zoo.models import meta


def flops(entry: ModelEntry) -> int:
    """Count the floating-point operations of one sample's forward pass through an architecture, by its entry's input.

    Convolutions, matrix products and attention count, a multiply-add as two; the rest does not (torch's
    FlopCounterMode). Nothing is computed: parameters and batch hold no values.

    Raises:
        ModelError: if the network cannot run without values.
        PluginError: if it cannot be built.
    """

    def counted(run: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return int(counter.get_total_flops())

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:  # most can be built without values, which saves drawing them
            with torch.device("meta"):
                model = meta.build(entry).eval()
            return counted(lambda: model(torch.empty(entry.input.shape, device="meta")))
        except Exception:  # noqa: BLE001 - an untrusted network may need real values
            model = meta.build(entry).eval()
    return int(_followed(model, entry.input.shape, counted))


@torch.enable_grad()
def _followed(model: nn.Module, shape: tuple[int, ...], called: Callable[[Callable[[], Any]], Any]) -> Any:
    """Run `called` on a forward pass on meta or, if that fails, on fake tensors, which have a device.

    Gradients are requested, so that no layer caches its results for the next call.
    """
    state = dict([*model.named_parameters(), *model.named_buffers()])
    kind = next((value.dtype for value in state.values() if value.is_floating_point()), torch.float32)

    def forward(made: Callable[[Tensor], Tensor], batch: Tensor) -> Any:
        placed = {name: made(value).requires_grad_(value.requires_grad) for name, value in state.items()}
        return torch.func.functional_call(model, placed, (batch,))

    try:
        batch = torch.empty(shape, dtype=kind, device="meta")
        return called(lambda: forward(lambda value: value.detach().to("meta"), batch))
    except Exception:  # noqa: BLE001, S110 - autocast, or tensors that are not buffers: fake tensors support these
        pass
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            batch = torch.empty(shape, dtype=kind)
            return called(lambda: forward(lambda value: mode.from_tensor(value.detach().cpu()), batch))
    except Exception as error:  # an untrusted network can raise anything
        raise ModelError(
            f"a batch of shape {list(shape)} cannot be followed through the model: {describe(error)}"
        ) from error
