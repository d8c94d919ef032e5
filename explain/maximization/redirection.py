"""A way to units that are silent on the first clip: ReLU passes them no gradient, so nothing could ever wake them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def redirected(model: nn.Module) -> Iterator[None]:
    """Within, an `nn.ReLU` that blocks all of a clip's gradient lets through what would raise its inputs; values stay.

    After lucid's redirected ReLU gradients (Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017). ReLUs
    called as functions are not reached.
    """
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU) and "forward" not in vars(module)]
    try:
        for module in relus:
            module.forward = _Redirected.apply  # type: ignore[method-assign]
        yield
    finally:
        for module in relus:
            vars(module).pop("forward", None)


class _Redirected(torch.autograd.Function):
    """ReLU whose gradient, for samples in which nothing would pass, is the positive part of what arrives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x > 0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (passes,) = ctx.saved_tensors
        (gradient,) = gradients
        passed = torch.where(passes, gradient, 0)
        blocked = (passed.flatten(1) == 0).all(dim=1).view(-1, *[1] * (gradient.ndim - 1))
        return torch.where(blocked, gradient.clamp(min=0), passed)
