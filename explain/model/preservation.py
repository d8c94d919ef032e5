"""Leave a model and the random state as they were found."""

from __future__ import annotations

import contextlib
import functools
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

import numpy as np
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo.models.prediction import set_eval

#: One lock for each module: a thread that explains a model holds those of all of its modules. `_guard` protects it.
_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()

_guard = threading.Lock()

#: Attributes of a module that are tables; restored in place, because handles of hooks point into them.
_TABLES = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def check_model(model: object) -> None:
    """Raise UsageError for anything but a module, such as a name."""
    if not isinstance(model, nn.Module):
        told = f"; zoo.load({model!r}) gives the one of that name" if isinstance(model, str) else ""
        raise UsageError(f"a model is a torch.nn.Module, not {type(model).__name__}{told}")


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore, on leaving, all that explaining could disturb.

    That is, of the model: which parameters and buffers it holds, the values of its buffers, `requires_grad`, `.grad`,
    the hooks and every attribute of every module (training flag, `inplace`, tensors kept between passes, states of
    generators of random numbers); of the process: cuDNN's flags and the random state of torch (CPU and every CUDA
    device), numpy and Python. Values of parameters are not copied: nothing here writes to them.

    One thread at a time: another that asks for the same model, or for one that shares a module with it, waits.
    """
    check_model(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(model))
        stack.enter_context(_process_kept())
        for keep in (_keep_tensors(model), _keep_modules(model)):
            stack.callback(keep)
        yield


@contextlib.contextmanager
def _locked(model: nn.Module) -> Iterator[None]:
    """Hold the locks of all modules of a model, taken in one order, so that no two threads wait for each other."""
    with _guard:
        locks = [_locks.setdefault(module, threading.RLock()) for module in model.modules()]
    with contextlib.ExitStack() as stack:
        for lock in sorted(locks, key=id):
            stack.enter_context(lock)
        yield


class _Process:
    """What is kept of the process while any thread explains: restored when the last of them leaves."""

    def __init__(self) -> None:
        self.threads = 0
        self.restore: list[Callable[[], None]] = []
        self.own = threading.local()


_process = _Process()


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    """Restore cuDNN's flags and the random states.

    They belong to the process: of threads that overlap, the first notes them and the last restores them. Within one
    thread each context restores what it found.
    """
    if getattr(_process.own, "inside", False):
        with contextlib.ExitStack() as stack:
            for keep in (_keep_random_state(), _keep_cudnn()):
                stack.callback(keep)
            yield
        return
    with _guard:
        if not _process.threads:
            _process.restore = [_keep_random_state(), _keep_cudnn()]
        _process.threads += 1
    _process.own.inside = True
    try:
        yield
    finally:
        _process.own.inside = False
        with _guard:
            _process.threads -= 1
            if not _process.threads:
                for restore in _process.restore:
                    restore()


@contextlib.contextmanager
def prepared(model: nn.Module, *, seed: int | None = None) -> Iterator[None]:
    """Make a model ready to be explained, and leave it as it was (`preserved`).

    Within: eval mode; parameters frozen, so that backward passes stop where they can; no in-place activations, which
    break module backward hooks (pytorch #61519); deterministic cuDNN kernels on whole 32-bit numbers (TF32 keeps 10 of
    23 bits: maps would differ from the CPU's); recurrent modules kept off cuDNN while gradients are recorded; autograd
    on, also where the caller had switched it off. Tensors made under `torch.inference_mode`, which autograd refuses,
    are exchanged for copies. Activation checkpointing is off: it computes again what is then not what was looked at,
    and saves memory alone.

    Args:
        model: The model.
        seed: Seeds torch, numpy and Python within, so that whatever draws from global state repeats; None leaves them.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(preserved(model))
        stack.enter_context(_checkpointing.off())
        set_eval(model)
        _copy_inference_tensors(model)
        for parameter in model.parameters():
            parameter.requires_grad_(False)  # noqa: FBT003 - torch's stubs take no keyword
        for module in model.modules():
            if isinstance(vars(module).get("inplace"), bool):  # TorchScript's are constants
                setattr(module, "inplace", False)  # noqa: B010 - torch's stubs know tensors and modules only
            if isinstance(module, nn.RNNBase):
                _keep_off_cudnn(module)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        if seed is not None:
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - captum draws from numpy's global state
            random.seed(seed)
        yield


def _keep_off_cudnn(module: nn.RNNBase) -> None:
    """Keep this one module off cuDNN while gradients are recorded, until `preserved` gives it back its own forward.

    cuDNN's recurrent kernels refuse the backward pass in eval mode (pytorch #15788). Convolutions keep cuDNN: the flag
    is switched within this module's forward only, and the backward pass of what ran there does not need it.
    """
    forward = module.forward

    @functools.wraps(forward)
    def without_cudnn(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        cudnn = torch.backends.cudnn
        with cudnn.flags(
            enabled=False, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=cudnn.allow_tf32
        ):
            return forward(*args, **kwargs)

    module.forward = without_cudnn


def _copy_inference_tensors(model: nn.Module) -> None:
    """Exchange all tensors made under `torch.inference_mode` for copies, until `preserved` gives the model its own.

    One that several modules share is copied once. Those of a script cannot be exchanged.
    """
    copies: dict[int, Tensor] = {}

    def copied(value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(one, Tensor) and one.is_inference() for one in value):
            return [copied(one) for one in value]  # the weights that a recurrent layer lists
        if not isinstance(value, Tensor) or not value.is_inference():
            return value
        if id(value) not in copies:
            copy = value.clone()
            copies[id(value)] = nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy
        return copies[id(value)]

    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for table in (module._parameters, module._buffers, vars(module)):  # noqa: SLF001 - as they are kept
            for name, value in list(table.items()):
                if (copy := copied(value)) is not value:
                    cast("dict[str, Any]", table)[name] = copy


class _Once:
    """Stands for `torch.utils.checkpoint.CheckpointFunction`."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve: Any, *args: Any) -> Any:
        """The function's result, computed as any other."""
        return function(*args)


def _once(*_: Any, **__: Any) -> Iterator[None]:
    """Stands for the generator between whose steps `checkpoint` runs its function."""
    yield


class _Checkpointing:
    """Switches activation checkpointing off, of both kinds; for the whole process while any thread asks for it.

    Models hold `torch.utils.checkpoint.checkpoint` itself, so what that calls is exchanged; torch offers no switch.
    """

    _PARTS: Final = {"CheckpointFunction": _Once, "_checkpoint_without_reentrant_generator": _once}

    def __init__(self) -> None:
        self._threads = 0
        self._own: dict[str, Any] = {}

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Within, functions that are checkpointed run once, and keep what they compute."""
        with _guard:
            self._threads += 1
            if self._threads == 1:
                self._own = {name: getattr(torch.utils.checkpoint, name) for name in self._PARTS}
                vars(torch.utils.checkpoint).update(self._PARTS)
        try:
            yield
        finally:
            with _guard:
                self._threads -= 1
                if not self._threads:
                    vars(torch.utils.checkpoint).update(self._own)


_checkpointing = _Checkpointing()


def _keep_tensors(model: nn.Module) -> Callable[[], None]:
    """Remember `requires_grad` and `.grad` of parameters, and the values of buffers."""
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]

    def restore() -> None:
        for parameter, requires_grad, grad in parameters:
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)
            if parameter.grad is not grad:
                parameter.grad = grad
        with torch.no_grad():
            for buffer, values in buffers:
                if not torch.equal(buffer, values):
                    buffer.copy_(values)

    return restore


def _keep_modules(model: nn.Module) -> Callable[[], None]:
    """Remember every module's attributes, and what its tables of hooks, parameters, buffers and modules hold.

    Attributes by identity: the training flag, `inplace`, a patched `forward`, a tensor kept from one pass for the next.
    """
    states = [
        (
            vars(module),
            dict(vars(module)),
            [(table, dict(table)) for name in _TABLES if isinstance(table := vars(module).get(name), dict)],
        )
        for module in model.modules()
    ]
    drawing = [(generator, state_of(generator)) for generator in generators_of(model)]
    # TorchScript keeps the training flag where Python does not see it.
    modes = [
        (module, module.training)
        for module in model.modules()
        if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "training")
    ]

    def restore() -> None:
        for attributes, before, tables in states:
            _refill(attributes, before)
            for table, content in tables:
                _refill(table, content)
        for generator, state in drawing:
            restore_state(generator, state)
        for module, training in modes:
            if module.training != training:
                module.training = training

    return restore


def _refill(current: dict[str, Any], before: dict[str, Any]) -> None:
    """Give a dictionary its former content, keeping the object and, where nothing changed, its order."""
    if list(map(id, (*current, *current.values()))) != list(map(id, (*before, *before.values()))):
        current.clear()
        current.update(before)


def _keep_cudnn() -> Callable[[], None]:
    """Remember cuDNN's process-wide flags."""
    cudnn = torch.backends.cudnn
    flags = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32

    def restore() -> None:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = flags

    return restore


def _cuda_runs() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _keep_random_state() -> Callable[[], None]:
    """Remember the global random states of torch, numpy and Python."""
    cpu = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if _cuda_runs() else None
    legacy = np.random.get_state()  # noqa: NPY002 - the global state is what must be kept
    python = random.getstate()

    def restore() -> None:
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(legacy)  # noqa: NPY002 - as above
        random.setstate(python)

    return restore


def generator(seed: int, what: int) -> torch.Generator:
    """The random numbers of one purpose or sample: on the CPU, so that every device gets the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + what) % 2**63)


def generators_of(model: nn.Module) -> list[Any]:
    """The generators of random numbers that modules keep as attributes: of torch, numpy and Python."""
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return [value for module in model.modules() for value in vars(module).values() if isinstance(value, kinds)]


def state_of(generator: Any) -> Any:
    """The state of such a generator."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def restore_state(generator: Any, state: Any) -> None:
    """Give a generator its state back."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def states(model: nn.Module) -> str:
    """All states that a model may draw from, the process' and its own, as text that tells whether it did."""
    found: list[Any] = [torch.get_rng_state(), np.random.get_state(), random.getstate()]  # noqa: NPY002 - models use it
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        found += torch.cuda.get_rng_state_all()
    found += [state_of(one) for one in generators_of(model)]
    return repr([_text(one) for one in found])


def _text(state: Any) -> Any:
    """A state as what prints in full."""
    if isinstance(state, torch.Tensor):
        return state.cpu().numpy().tobytes()
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict):
        return {key: _text(value) for key, value in state.items()}
    return [_text(one) for one in state] if isinstance(state, tuple | list) else state
