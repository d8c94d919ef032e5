"""Which layer of a model ran an operation that a method has no rule for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class NoRuleError(Exception):
    """An operation that a method cannot pass back through.

    Args:
        node: Its node in the recorded graph; None where it is about no single one.
        reason: What is said of who runs it: "runs Sigmoid; ...".
        last: Whether nothing but choosing one of its numbers comes behind it.
    """

    def __init__(self, node: Any, reason: str, *, last: bool = False) -> None:
        super().__init__(reason)
        self.node = node
        self.last = last


class Owners:
    """Within, every call of a module is noted, so that the nodes of a graph recorded there have an owner.

    Args:
        model: The model; it gets hooks, which leave with the context.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        #: Names of modules, innermost first, and the nodes that lead into each call and out of it.
        self._calls: list[tuple[str, nn.Module, list[Any], list[Any]]] = []
        self._open: list[tuple[nn.Module, list[Any]]] = []
        self._hooks = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for name, module in self.model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            self._hooks.callback(module.register_forward_pre_hook(self._enter, with_kwargs=True).remove)
            self._hooks.callback(module.register_forward_hook(self._left(name)).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def told(self, error: NoRuleError, unit: str = "CLASS") -> str:
        """The refusal, with the layer that ran the operation: "layer 'head' (Linear) runs ...", or "the model ...".

        Where the operation ends the network, with what to explain instead: `unit` of the layer before it.
        """
        return self._refusal(error) + (self._remedy(error.node, unit) if error.last else "")

    def _remedy(self, node: Any, unit: str) -> str:
        entering = {before for before, _ in node.next_functions}
        for name, _, _, after in self._calls:
            if name and not entering.isdisjoint(after):
                return f"; the network ends there: explain what goes in, target='{name}/{unit}'"
        return "; the network ends there: take it off, and explain what goes in"

    def _refusal(self, error: NoRuleError) -> str:
        for name, module, before, after in self._calls:
            if name and error.node in _between(before, after):
                gates = " (the gates of recurrent layers are such)" if isinstance(module, nn.RNNBase) else ""
                return f"layer {name!r} ({type(module).__name__}) {error}{gates}"
        return f"the model {error}"

    def _enter(self, module: nn.Module, given: Any, named: Any) -> None:
        self._open.append((module, _nodes((given, named))))

    def _left(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(module: nn.Module, _given: Any, output: Any) -> None:
            while self._open:  # calls that ended early, as a capture's do, left none of their own
                opened, before = self._open.pop()
                if opened is module:
                    self._calls.append((name, module, before, _nodes(output)))
                    return

        return note


def _nodes(values: Any) -> list[Any]:
    """The nodes that made tensors, however deep they lie in tuples, lists and dicts."""
    return [one.grad_fn for one in tree_leaves(values) if isinstance(one, Tensor) and one.grad_fn is not None]


def _between(before: Iterable[Any], after: Iterable[Any]) -> set[Any]:
    """All nodes of a graph from some on back to others, these left out."""
    seen, waiting = set(before), list(after)
    found = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.add(node)
        waiting += [one for one, _ in node.next_functions]
    return found
