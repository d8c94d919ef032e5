"""The device that a name asks for or a model is on, and errors that say it, or the machine, ran short of something."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from zoo.errors import DeviceError, ResourceError, ZooError, describe, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

#: What torch's allocators and oneDNN say where memory is full.
_FULL = ("can't allocate memory", "out of memory", "could not create a primitive", "could not execute a primitive")


#: Errors of the operating system that a machine gives in passing, or a failing disk, whatever is asked of it.
_SHORTAGES = {
    getattr(errno, name)
    for name in ("EAGAIN", "ENOMEM", "EMFILE", "ENFILE", "EIO", "ENOSPC", "EDQUOT", "ENOBUFS", "ESTALE", "ETIMEDOUT")
    if hasattr(errno, name)  # not all systems have all of them
}
#: The same in words, as where a library does not load or a thread does not start.
_SHORT = (*map(os.strerror, _SHORTAGES), "failed to map segment", "can't start new thread")


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
    torch = sys.modules.get("torch")  # importing it takes memory
    kind = type(error)  # isinstance would ask the error itself, which may be anybody's
    if issubclass(kind, (MemoryError, getattr(torch, "OutOfMemoryError", MemoryError))):
        return True
    return issubclass(kind, RuntimeError) and any(said in one_line(error) for said in _FULL)


def shortage(error: BaseException | None) -> BaseException | None:
    """The error, among one and those that led to it, that says the machine ran short of something; None for none."""
    while error is not None:
        kind = type(error)
        if is_out_of_memory(error) or (issubclass(kind, OSError) and getattr(error, "errno", None) in _SHORTAGES):
            return error
        if not issubclass(kind, OSError | ZooError) and any(said in one_line(error) for said in _SHORT):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


@contextmanager
def shortages_apart(what: str) -> Iterator[None]:
    """Raise ResourceError where what is done inside fails for want of memory, threads, open files or a working disk.

    Args:
        what: What is done, after "cannot".
    """
    try:
        yield
    except Exception as error:
        cause = shortage(error)
        if cause is None:
            raise
        raise ResourceError(
            f"cannot {what}: {describe(cause)}; the machine ran short of memory, threads, open files or disk, or a "
            "disk failed: free some, or wait, and run the same again"
        ) from error
