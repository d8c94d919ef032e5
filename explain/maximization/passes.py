"""Passes that read activations while clips are optimized, with gradients redirected through rectifiers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from explain.maximization.objectives import Seen
from explain.model.layers import Capture, did_not_run, find_layer, is_folded
from explain.model.layouts import exact
from explain.model.memory import MeasuredBytes
from explain.model.regions import Region
from explain.model.targets import Target, resolve, taken
from zoo.errors import UsageError
from zoo.models.heads import by_head


class Passes:
    """Runs a model as far as it has to.

    Args:
        model: The model, prepared.
        layers: Layers whose maps are wanted.
        targets: Outputs that are wanted (`explain.model.targets`).

    Raises:
        UnknownNameError: No such layer.
        UsageError: Neither a layer nor an output is wanted.
    """

    def __init__(self, model: nn.Module, layers: Iterable[str], targets: Iterable[int | str | Region] = ()) -> None:
        self.model = model
        self.layers = sorted(set(layers))
        self.targets = list(targets)
        if not self.layers and not self.targets:
            raise UsageError("an objective of regularisers alone asks nothing of the model: add a channel or an output")
        for name in self.layers:
            find_layer(model, name)
        self._resolved: dict[int | str | Region, Target] = {}
        self._last: str | None = None
        self._calls: int | None = None

    def survey(self, batch: Tensor) -> tuple[Seen, int | None]:
        """One whole pass on one sample, which every later one counts on.

        Returns:
            What it showed, and the bytes that later passes on one sample make; None where frames are folded into the
            batch, so that samples must run one by one.
        """
        order: list[str] = []
        made = 0
        measured = MeasuredBytes()

        def ran(name: str) -> Callable[..., None]:
            def note(*_: object) -> None:
                nonlocal made
                order.append(name)
                made = measured.total

            return note

        with torch.no_grad(), ExitStack() as stack:
            captures = {name: stack.enter_context(Capture(self.model, name)) for name in self.layers}
            for name in self.layers:
                stack.callback(find_layer(self.model, name).register_forward_hook(ran(name)).remove)
            with measured:
                output = self.model(batch.clone())
        for name in self.layers:
            if name not in order:
                raise did_not_run(self.model, name)
        for target in self.targets:  # by passes of their own, which the captures must not see
            resolved = resolve(self.model, batch, target)
            if resolved.unit is not None:
                layer, unit = resolved.unit
                raise UsageError(
                    f"{target!r} is no output of the model but a layer's unit: `channel({layer!r}, {unit})`, or "
                    f"--layer {layer} --unit {unit}"
                )
            if resolved.classes is not None and target == resolved.head:
                raise UsageError(f"output {target!r} has classes: say which is raised, {target}:CLASS")
            self._resolved[target] = resolved
        if order and not self.targets:
            self._last, self._calls = order[-1], order.count(order[-1])
        folded = any(is_folded(capture.calls, 1) for capture in captures.values())
        return self._seen(batch, captures, output), None if folded else measured.total if self.targets else made

    def run(self, batch: Tensor, clips: Tensor) -> Seen:
        """One pass on N samples; `clips` are those as they were before transforms."""
        with ExitStack() as stack:
            captures = {
                name: stack.enter_context(
                    Capture(self.model, name, stop_after=self._calls if name == self._last else None)
                )
                for name in self.layers
            }
            # A copy: a model may begin with an operation in place.
            run = self.model if self._last is None else captures[self._last].run
            output = run(batch.clone())
            return self._seen(clips, captures, output)

    def _seen(self, clips: Tensor, captures: dict[str, Capture], output: Any) -> Seen:
        maps = {name: exact(capture.maps(len(clips))) for name, capture in captures.items()}
        outputs: dict[int | str | Region, Tensor] = {}
        for name, target in self._resolved.items():
            first = torch.zeros(len(clips), dtype=torch.long, device=clips.device)
            outputs[name] = exact(taken(target, by_head(self.model, output), first))
        return Seen(clips=clips, maps=maps, outputs=outputs)


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
