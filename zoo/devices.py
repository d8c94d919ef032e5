"""Devices of models, selection by name, and detection of errors caused by lack of memory or other resources."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DeviceError, ResourceError, ZooError, describe, one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Messages of torch's allocators and oneDNN when memory is full.
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
    """Return the torch device for "auto", "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU.

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
    """Return an empty tensor with the device and dtype of a model's first floating-point parameter."""
    import torch

    return next((value.new_empty(0) for value in model.parameters() if value.is_floating_point()), torch.empty(0))


def has_bfloat16(device: torch.device) -> bool:
    """Check whether a device computes bfloat16 convolutions natively, with sums in float32.

    On a CPU oneDNN does, given AVX-512 or its like. Elsewhere torch falls back on kernels that add the weight gradients
    of a batch's clips one after the other in bfloat16, and that take several times as long as float32.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own function
        return False
    # torch's own check before it passes a bfloat16 convolution to oneDNN; it has no public name
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001


def keep_freed_memory() -> None:
    """Make the C library keep freed memory, for a process that runs one network repeatedly on a CPU.

    glibc returns a large tensor's memory to the system and the next one's pages are mapped anew, up to half of the
    time of a convolutional network. It lasts as long as the process; other C libraries are left as they are.
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of glibc's malloc.h
    with suppress(OSError, AttributeError, TypeError):  # no such function, or no such way to ask for it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, -1)  # never give back
        mallopt(mmap_max, 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error is an out-of-memory error, of a GPU or of the CPU allocator (a RuntimeError)."""
    torch = sys.modules.get("torch")  # importing it takes memory
    kind = type(error)  # isinstance would ask the error itself, which may be anybody's
    if issubclass(kind, (MemoryError, getattr(torch, "OutOfMemoryError", MemoryError))):
        return True
    return issubclass(kind, RuntimeError) and any(said in one_line(error) for said in _FULL)


def shortage(error: BaseException | None) -> BaseException | None:
    """Return the error in a chain of causes that reports exhausted resources, or None."""
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


def free_memory() -> int:
    """Return the bytes of main memory available to this process, by the system, control groups and its own limits."""
    return max(0, min(_system_memory(), group_memory(), _limited_memory()))


def _system_memory() -> int:
    """Return the available bytes from /proc/meminfo, else a quarter of the physical memory."""
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


#: Files of a control group by version: its limits, its usage, and the line of memory.stat that counts reclaimable file
#: cache.
_GROUP_FILES = {
    "cgroup2": (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    "cgroup": (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
}


def group_memory(process: Path = Path("/proc/self")) -> int:
    """Return the bytes left by control groups: the least of the process's group and its ancestors; huge if unlimited.

    Containers, batch systems and service managers set such limits, at any level, and of both versions (cgroups(7)).

    Args:
        process: Its folder in /proc.
    """
    least = 2**62
    try:
        mounts = (process / "mountinfo").read_text().splitlines()
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
    except (OSError, ValueError):
        return least
    for line in mounts:
        before, _, after = line.partition(" - ")
        kind, _, options = [*after.split(" ", 2), "", ""][:3]
        if kind not in _GROUP_FILES or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        root, mounted = before.split(" ")[3:5]
        for _, controllers, path in groups:
            if controllers == "" if kind == "cgroup2" else "memory" in controllers.split(","):
                top = Path(mounted.replace("\\040", " "))
                inside = Path(path).relative_to(root) if Path(path).is_relative_to(root) else Path()
                folders = [top / inside, *(top / above for above in inside.parents)]
                least = min([least, *(_left(folder, *_GROUP_FILES[kind]) for folder in folders)])
    return least


def _left(folder: Path, limits: tuple[str, ...], usage: str, cache: str) -> int:
    """Return the bytes that one control group leaves; a very large number if unlimited."""
    least = 2**62
    for limit in limits:
        try:
            most = int((folder / limit).read_text("ascii"))  # "max" for none
            used = int((folder / usage).read_text("ascii"))
        except (OSError, ValueError):
            continue
        try:
            lines = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
            used -= min(used, int(lines.get(cache, 0)))
        except (OSError, ValueError):
            pass
        least = min(least, most - used)
    return least


def _limited_memory() -> int:
    """Return the bytes left by this process's limits (`ulimit -v`, `ulimit -d`); a very large number if unlimited."""
    try:
        import resource

        pages = list(map(int, Path("/proc/self/statm").read_text("ascii").split()))
        size = os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError, ValueError):
        return 2**62
    least = 2**62
    for limit, used in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY:
            least = min(least, soft - used * size)
    return least
