"""The device that a name asks for or a model is on, and whether an error says that its memory is full."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import DeviceError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What torch's allocators and oneDNN say where memory is full.
_FULL = ("can't allocate memory", "out of memory", "could not create a primitive", "could not execute a primitive")


def resolve(name: str) -> str:
    """The torch device for "auto", "cpu", "cuda" or "cuda:N"; "auto" is the first GPU where there is one.

    Raises:
        DeviceError: for a device that this machine does not have.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        asked = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from error
    if asked.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise DeviceError(f"device {name!r} was asked for, and no CUDA device is here; use cpu or auto")
        if asked.index is not None and asked.index >= count:
            raise DeviceError(f"device {name!r} was asked for, and this machine has cuda:0 to cuda:{count - 1}")
    elif asked.type != "cpu":
        raise DeviceError(f"device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    return name


def like(model: nn.Module) -> Tensor:
    """An empty tensor on a model's device and in its floating-point type: those of its first such parameter."""
    import torch

    return next((value.new_empty(0) for value in model.parameters() if value.is_floating_point()), torch.empty(0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU, whose allocator raises a RuntimeError."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(said in text for said in _FULL)
