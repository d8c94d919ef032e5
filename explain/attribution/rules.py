"""Change what single operations pass back in a backward pass, and check that nothing else is left to change.

Methods such as guided backpropagation or DeepLift replace the gradient of some operations by a rule of their own. Tools
that hook modules for it are silently wrong where a module runs several times, or where a network calls a function
(`F.relu`) instead of a module. Here operations are caught where torch runs them, and the recorded graph is then read:
an operation without a rule is found there, whoever ran it, and named in the refusal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from explain.attribution.job import Job
from explain.model.layers import hidden_layers
from explain.model.targets import Target
from zoo.errors import ModelError

#: Gives, for the gradient of an operation's result, that of its input.
Rule = Callable[[Tensor], Tensor]

#: An operation of one tensor, its other arguments fixed; further tensors take the place of the first of those.
Operation = Callable[..., Any]

#: Gives the rule for one run of an operation; None leaves the operation as it is. Called with its name, the operation,
#: its input and its result, both without gradient.
Ruling = Callable[[str, Operation, Tensor, Tensor], Rule | None]

#: Looks at a score's graph, and may raise a `NoRuleError`.
Check = Callable[[Tensor], None]

#: Functions that are, or may be, ReLU by another name.
RECTIFIERS = frozenset({"clamp", "clamp_min", "clip", "hardtanh", "relu", "relu6", "threshold"})

#: Functions whose arguments say where they are 0.
LIMITING = RECTIFIERS | {"clamp_max"}

#: Functions of one tensor, element by element, that are not linear. In-place ones are known by the same name.
ELEMENTWISE = RECTIFIERS | {
    "celu",
    "clamp_max",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
}

POOLINGS = frozenset({"max_pool1d", "max_pool2d", "max_pool3d"})

#: The node of an operation with a rule.
_RULED = "_RuledBackward"

#: Nodes of a graph that are linear in the only operand that depends on the input.
_LINEAR = frozenset({
    "AccumulateGrad", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D", "Add", "Addbmm", "Addmm", "Addmv", "Alias",
    "AsStrided", "AvgPool2D", "AvgPool3D", "BackwardHookFunction", "Baddbmm", "Bmm", "Cat", "Clone",
    "ConstantPadNd", "Convolution", "Copy",
    "CopyBackwards", "CopySlices", "CudnnBatchNorm", "Cumsum", "Diagonal", "Div", "Dot", "Einsum", "Expand",
    "ExpandAs", "Flip", "Gather", "Identity", "Index", "IndexSelect", "LinalgVecdot", "Linear", "Mean",
    "MiopenBatchNorm", "MkldnnConvolution", "Mm", "Mul", "Mv", "NativeBatchNorm", "Neg", "Permute", "PixelShuffle",
    "PixelUnshuffle", "ReflectionPad1D", "ReflectionPad2D", "ReflectionPad3D", "Repeat", "ReplicationPad1D",
    "ReplicationPad2D", "ReplicationPad3D", "ReshapeAlias", "Roll", "Rsub", "Select", "Slice", "Split",
    "SplitWithSizes", "Squeeze", "Stack", "Sub", "Sum", "T", "ToCopy", "Transpose", "Unbind", "Unfold",
    "UnsafeSplit", "UnsafeView", "Unsqueeze", "UpsampleBicubic2D", "UpsampleBilinear2D", "UpsampleLinear1D",
    "UpsampleNearest1D", "UpsampleNearest2D", "UpsampleNearest3D", "UpsampleTrilinear3D", "View", "ViewAsReal",
    _RULED,
})  # fmt: skip

#: Those of them that multiply or divide two tensors: linear where one of both is a constant.
_PRODUCTS = frozenset({
    "Addbmm", "Addmm", "Addmv", "Baddbmm", "Bmm", "Convolution", "CudnnBatchNorm", "Div", "Dot", "Einsum", "Linear",
    "LinalgVecdot", "MkldnnConvolution", "Mm", "MiopenBatchNorm", "Mul", "Mv", "NativeBatchNorm"
})  # fmt: skip


class Ruled(TorchFunctionMode):
    """Within, the operations named pass back what their rule says; what they compute stays the same.

    Args:
        names: Operations, by torch's name for them ("relu" is `F.relu`, `torch.relu`, `x.relu()` and `x.relu_()`).
        ruling: Gives the rule for each run.
    """

    def __init__(self, names: Collection[str], ruling: Ruling) -> None:
        super().__init__()
        self.names = names
        self.ruling = ruling
        #: Runs of those operations that had a rule.
        self.count = 0

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").partition(".")[0].strip("_")  # such as "relu_.default" and "_threshold"
        first = args[0] if args else kwargs.get("input")
        if name not in self.names or not isinstance(first, Tensor) or not first.requires_grad:
            return func(*args, **kwargs)
        for place, key in enumerate(("input", "weight", "bias")):
            if len(args) == place and key in kwargs:  # rules put others in their place
                args = (*args, kwargs.pop(key))

        def operation(tensor: Tensor, *others: Any) -> Any:
            return func(tensor, *others, *args[1 + len(others) :], **kwargs)

        operation.others = args[1:]  # type: ignore[attr-defined]  # for rules that need weights

        given = first.detach().clone()
        with torch.no_grad():
            result = operation(copy := given.clone())
        if not isinstance(result, Tensor):
            return operation(first)
        in_place = result is copy
        rule = self.ruling(name, operation, given, result)
        if rule is None:
            return operation(first)
        self.count += 1
        ruled = _Ruled.apply(first, result, rule)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return first.copy_(ruled) if in_place else ruled


class _Ruled(torch.autograd.Function):
    """A result that is known, with a backward pass that is given."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, result: Tensor, rule: Rule) -> Tensor:  # noqa: ARG004 - autograd passes it
        ctx.rule = rule
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.rule(gradients[0]), None, None


def slope(operation: Operation, given: Tensor) -> Tensor:
    """The derivative of an operation that works element by element, at `given`."""
    with torch.enable_grad():
        start = given.detach().clone().requires_grad_()
        return torch.autograd.grad(operation(start.clone()).sum(), start)[0]


def gradient(job: Job, mode: Ruled | None = None, check: Check | None = None) -> Tensor:
    """The gradient of the number explained with respect to the batch, under rules; `check` may refuse what ran."""
    inputs = job.batch.clone().requires_grad_()
    return torch.autograd.grad(scored(job, inputs, mode, check).sum(), inputs)[0]


def scored(job: Job, inputs: Tensor, mode: Ruled | None = None, check: Check | None = None) -> Tensor:
    """The number explained for inputs that need a gradient, operations caught by `mode`.

    Args:
        job: The job.
        inputs: The samples, or what stands for them.
        mode: The operations with rules.
        check: Called with the score; a `NoRuleError` of its is told with the layer that ran the operation.

    Raises:
        ModelError: It does not depend on the input, or not differentiably so, or an operation has no rule.
    """
    if mode is not None and any(isinstance(module, torch.jit.ScriptModule) for module in job.model.modules()):
        raise ModelError(
            f"{hidden_layers(job.model)}: no rule reaches them; explain the module that it was made from, or choose a "
            "method of gradients or of removal (saliency, integrated_gradients, occlusion)"
        )
    owners = Owners(job.model)
    with owners if check else contextlib.nullcontext(), mode or contextlib.nullcontext():
        score = job.score(inputs, job.samples)
    if not score.requires_grad:
        raise ModelError(f"{job.score.target} does not depend on the input, or not differentiably so")
    if check is not None:
        try:
            check(score)
        except NoRuleError as error:
            raise ModelError(owners.told(error, _unit(job.score.target))) from None
    return score


def operations(result: Tensor) -> dict[str, list[Any]]:
    """The nodes of all operations between the input and a result, by name: "Relu", "Convolution"."""
    found: dict[str, list[Any]] = {}
    seen, waiting = set(), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.setdefault(_name(node), []).append(node)
        waiting += [before for before, _ in node.next_functions]
    return found


def foreign(found: dict[str, list[Any]]) -> tuple[str, Any] | None:
    """Name and node of an `autograd.Function` that torch does not know; None where there is none."""
    for name, nodes in found.items():
        if isinstance(nodes[0], torch.autograd.function.BackwardCFunction) and name not in _LINEAR:
            return name, nodes[0]
    return None


def check_linear(result: Tensor, method: str, *, besides: Collection[str] = (), allowed: Collection[str] = ()) -> None:
    """Refuse a graph that holds an operation that is neither linear nor ruled nor allowed, or one of `besides`.

    Raises:
        NoRuleError: There is one.
    """
    found = {name: nodes for name, nodes in operations(result).items() if name not in allowed}
    own = foreign(found)
    if own is not None:
        raise NoRuleError(own[1], f"runs a function of its own ({own[0]}); {method} cannot see inside")
    for name, nodes in found.items():
        if name not in _LINEAR or name in besides:
            last = _last(result)
            raise NoRuleError(nodes[0], f"runs {name}; {method} has no rule for it", last=last is nodes[0])
        for node in nodes:
            if getattr(node, "_saved_training", False):
                raise NoRuleError(node, f"normalises by the clip's own mean and variance; {method} has no rule for it")
            if name in _PRODUCTS and _both(node):
                raise NoRuleError(
                    node, f"multiplies two things that both depend on the input ({name}); {method} has no rule for it"
                )


#: Nodes that choose among numbers, or change their form or type.
_CHOOSING = frozenset({
    "Alias", "Clone", "Gather", "Index", "Mean", "Select", "Slice", "Squeeze", "Sum", "ToCopy", "UnsafeView",
    "Unsqueeze", "View",
})  # fmt: skip


def _last(result: Tensor) -> Any:
    """The node of the last operation that made a number out of others, behind which one of them is chosen."""
    node: Any = result.grad_fn
    while node is not None and _name(node) in _CHOOSING and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    return node


def _unit(target: Target) -> str:
    """The class that a target explains, as the unit of the layer that gives it; "CLASS" where samples differ."""
    classes = set() if target.classes is None else set(target.classes.tolist())
    return str(classes.pop()) if len(classes) == 1 else "CLASS"


def _name(node: Any) -> str:
    """A node's name without what torch adds: "Relu" for "ReluBackward0"."""
    name: str = node.name().removeprefix("torch::autograd::")
    if name == _RULED:
        return name
    return name.rpartition("::")[2].rstrip("0123456789").removesuffix("Backward")


def _both(node: Any) -> bool:
    """Whether two operands of a product depend on the input; a bias that is added does not count."""
    operands = [before for before, _ in node.next_functions]
    if _name(node) in {"Addmm", "Addmv", "Addbmm", "Baddbmm"}:
        operands = operands[1:]
    return sum(operand is not None for operand in operands) > 1


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
