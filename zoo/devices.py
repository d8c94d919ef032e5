"""The device that a name asks for or a model is on, and whether an error says that its memory is full."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import TYPE_CHECKING

from zoo.errors import DeviceError

if TYPE_CHECKING:
    import torch
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


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes convolutions of bfloat16 itself, with sums in float32.

    On a CPU oneDNN does, given AVX-512 or its like. Elsewhere torch falls back on kernels that add the weight gradients
    of a batch's clips one after the other in bfloat16, and that take several times as long as float32.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own function
        return False
    # what torch itself asks before it hands a convolution of bfloat16 to oneDNN; there is no public name
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, for a process that runs one network over and over on a CPU.

    glibc returns a large tensor's memory to the system and the next one's pages are mapped anew, up to half of the
    time of a convolutional network. It lasts as long as the process; other C libraries are left as they are.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h
    with suppress(OSError, AttributeError, TypeError):  # no such function, or no such way to ask for it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, -1)  # never give back
        mallopt(mmap_max, 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU, whose allocator raises a RuntimeError."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(said in text for said in _FULL)
