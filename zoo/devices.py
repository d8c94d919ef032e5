"""The device that a name asks for or a model is on, and whether an error says that its memory is full."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path
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


def free_memory() -> int:
    """Bytes that can be allocated in main memory, as the system and the limit of a container say."""
    return min(_system_memory(), _cgroup_memory())


def _system_memory() -> int:
    """Available bytes by /proc/meminfo; where there is none, a quarter of the physical memory."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    except (AttributeError, OSError, ValueError):
        return 2**31


def _cgroup_memory() -> int:
    """Bytes left under the control group's limit (containers); very many where there is no limit."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return 2**62
