"""Why a model does not run on a batch, or gives numbers that are not finite: in words, instead of torch's."""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explain.model.layouts import entry_of, fixed
from explain.model.preservation import check_model, prepared
from zoo.devices import is_out_of_memory
from zoo.errors import ModelError, UsageError, ZooError, describe
from zoo.models.layouts import SPELLED, layout_of
from zoo.models.prediction import shown

Function = TypeVar("Function", bound=Callable[..., Any])

#: Whether this runs within another `diagnosed`.
_within = contextvars.ContextVar("_within", default=False)


@contextlib.contextmanager
def diagnosed(model: nn.Module, batch: Tensor, layout: str | None = None) -> Iterator[None]:
    """Within, the axes of the model's batches are known, and its failure on this batch is explained.

    Other failures come through.

    Args:
        model: The model.
        batch: The batch.
        layout: Order of its axes, where the caller says it (`zoo.models.layouts.layout_of`).

    Raises:
        UnknownNameError: No such layout.
        UsageError: The model is no module, the batch no tensor of finite floating-point numbers, or which of its axes
            is time is not known.
        ModelError: The model fails on the batch: says how, and what it expects.
    """
    check_model(model)
    if not isinstance(batch, torch.Tensor):
        raise UsageError(
            f"a batch is a tensor, not {shown(batch)}; `zoo.preprocess(clip, model)` makes one of a file or of frames"
        )
    if not batch.is_floating_point():
        raise UsageError(f"a batch must be floating point, as zoo.preprocess gives it, not {batch.dtype}")
    if not batch.is_meta:
        sound = batch.detach().flatten(1).isfinite().all(dim=1) if batch.ndim > 1 else batch.isfinite()
        if not bool(sound.all()):
            sample = int((~sound).nonzero()[0])
            raise UsageError(f"sample {sample} of the batch is not finite; check how the clip was read and normalised")
    outermost = not _within.get()
    with fixed(model, batch, layout):
        token = _within.set(True)
        try:
            yield
        except ZooError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or not outermost:  # a function that calls others has the last word
                raise
            reason = _failure(model, batch)
            if reason is None:
                raise
            raise ModelError(reason) from error
        finally:
            _within.reset(token)


def diagnosing(function: Function) -> Function:
    """For functions of a model, a batch and more, `layout` among it: they run `diagnosed`, and `through_mutations`."""
    through = through_mutations(function)

    @functools.wraps(function)
    def run(model: nn.Module, batch: Tensor, *args: Any, **options: Any) -> Any:
        with diagnosed(model, batch, options.get("layout")):
            return through(model, batch, *args, **options)

    return cast("Function", run)


def through_mutations(function: Function) -> Function:
    """For functions that take gradients: right also for models that change in place what autograd has saved.

    They run again where autograd refuses, with copies of what is changed, which takes longer and gives the exact
    gradient.

    Raises:
        ModelError: Autograd refuses all the same.
    """

    @functools.wraps(function)
    def run(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except RuntimeError as error:
            if _copying.get() or not _is_about_mutation(error):
                raise
        token = _copying.set(True)
        try:
            with torch.autograd.graph.allow_mutation_on_saved_tensors(), _SingleViews():
                return function(*args, **options)
        except RuntimeError as error:
            if not _is_about_mutation(error):
                raise
            said = " ".join(str(error).split())[:200]
            raise ModelError(
                "the model changes tensors in place where autograd cannot follow; write these operations out of place, "
                f"or choose a method of removal (occlusion, rise): {said}"
            ) from error
        finally:
            _copying.reset(token)

    return cast("Function", run)


#: Whether copies are made of what autograd has saved.
_copying = contextvars.ContextVar("_copying", default=False)


def _is_about_mutation(error: RuntimeError) -> bool:
    said = str(error)
    return "inplace" in said or "in-place" in said


class _SingleViews(TorchFunctionMode):
    """Gives views one by one where torch would give several at once, which autograd lets nobody change in place."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        several = func in _SEVERAL_VIEWS or getattr(func, "__name__", "") == "unbind"
        if not several or not isinstance(result, tuple | list) or not all(_is_part(one, args) for one in result):
            return result
        whole: Tensor = args[0]
        return type(result)(whole.as_strided(one.shape, one.stride(), one.storage_offset()) for one in result)


#: Functions that give several views of their first argument.
_SEVERAL_VIEWS = frozenset(
    getattr(place, name)
    for place in (torch, torch.Tensor)
    for name in ("chunk", "hsplit", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_chunk", "vsplit")
    if hasattr(place, name)
)


def _is_part(one: Any, args: tuple[Any, ...]) -> bool:
    """Whether something is a view of the first argument of the function that gave it."""
    return (
        isinstance(one, torch.Tensor)
        and bool(args)
        and isinstance(args[0], torch.Tensor)
        and one.untyped_storage().data_ptr() == args[0].untyped_storage().data_ptr()
    )


def is_whole(value: object) -> bool:
    """Whether an argument is a whole number, of Python, numpy or torch's shapes."""
    return isinstance(value, Integral)


def not_finite(model: nn.Module, batch: Tensor) -> str:
    """Where numbers that are not finite come from: a parameter or buffer, or the first layer to give some.

    The model must be prepared (`explain.model.preservation.prepared`).
    """
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, value in tensors:
            if not bool(value.isfinite().all()):
                return f"the model's {kind} {name!r} is not finite; check its weights"
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and not all(bool(one.isfinite().all()) for one in _tensors(output)):
                found.append(f"layer {name!r} ({type(module).__name__})" if name else "the model, behind its layers,")

        return look

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            stack.callback(module.register_forward_hook(hook(name)).remove)
        model(batch.clone())
    return f"{found[0]} is the first to give it" if found else "the model does not give it, so the target does"


def _tensors(output: Any) -> list[Tensor]:
    """The tensors of floating-point numbers in an output, however nested."""
    if isinstance(output, torch.Tensor):
        return [output] if output.is_floating_point() or output.is_complex() else []
    if isinstance(output, dict):
        output = list(output.values())
    return [one for part in output for one in _tensors(part)] if isinstance(output, tuple | list) else []


def _failure(model: nn.Module, batch: Tensor) -> str | None:
    """How a model fails on the first sample of a batch, and what it expects; None where it does not."""
    try:
        with prepared(model, seed=0), torch.no_grad():
            model(batch[:1].clone())
    except Exception as error:  # noqa: BLE001 - any may be the model's own
        told = f"the model does not take a batch of shape {tuple(batch.shape)}: {_expected(model, batch)}"
        return f"{told} (it says {describe(error)})"
    return None


def _expected(model: nn.Module, batch: Tensor) -> str:
    """What differs between a batch and what a model holds or says of its input."""
    for what, theirs, ours, remedy in (
        ("on", _first(model, "device"), batch.device, "move one to the other"),
        ("of", _first(model, "dtype"), batch.dtype, "convert one to the other"),
    ):
        if theirs is not None and theirs != ours:
            return f"the batch is {what} {ours} and the model's parameters are {what} {theirs}; {remedy}"
    entry = entry_of(model)
    if entry is None:
        axes = SPELLED[layout_of(model, batch)]
        read = f"it was read as {axes}; give layout=, or the batch in the model's order, if that is wrong"
        if batch.ndim == 4:
            read = f"four axes are those of images, {axes}, and clips have five, N first"
        return f"expected what its first layers take; {read}"
    spec = entry.input
    shape = " x ".join(map(str, spec.shape[1:]))
    return f"{entry.name} expects N x {shape} ({spec.layout}), as `zoo.preprocess(clip, model)` gives it"


def _first(model: nn.Module, attribute: str) -> Any:
    return next((getattr(one, attribute) for one in model.parameters() if one.is_floating_point()), None)
