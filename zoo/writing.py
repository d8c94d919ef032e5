"""Files that are written at once: whoever looks sees the old one or the new one."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import platform
import shutil
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor

#: Prefix of temporary file and folder names; followed by the machine, the process, and more.
TEMPORARY = ".motion-zoo-"
_numbers = itertools.count()
#: Characters of a file's name kept in that of its temporary file: a name holds 255 bytes in all.
_SHOWN = 48
_DAY = 24 * 60 * 60.0


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file, as `write` does. Its bytes are made first, so that a full disk is an OSError."""
    from safetensors.torch import save

    write(path, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata=metadata))


def check_writable(path: Path) -> None:
    """Raise OutputError where `write` could not put a file, before long work is done for it."""
    temporary = _temporary(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        path.is_symlink()  # an error where the name is too long
        temporary.touch()
        temporary.unlink()
    except FileNotFoundError as error:
        if path.parent.is_dir():  # /proc and its like answer so to any new file
            raise OutputError(f"cannot write {path}: the folder {path.parent} takes no files") from error
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; make it first") from error
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def write(path: Path, content: bytes | str) -> None:
    """Replace a file at once: it is the old one or the new one, never half of either.

    Raises:
        OutputError: if it cannot be written.
    """
    _sweep_once(path.parent)
    temporary = _temporary(path)
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_prefix() -> str:
    """Return the prefix of this process's temporary files and folders, by which `sweep` identifies their owner."""
    return f"{TEMPORARY}{_machine()}-{os.getpid()}-"


def sweep(folder: Path) -> None:
    """Remove temporary files and folders that processes left in `folder` when they were killed.

    Those of a process that runs on this machine stay, and those of other machines for a day.
    """
    with suppress(OSError):  # it cannot be listed, or is not there
        for entry in list(folder.iterdir()):
            if entry.name.startswith(TEMPORARY) and _is_left_over(entry):
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)


@functools.cache
def _sweep_once(folder: Path) -> None:
    """`sweep`, once in a process: folders may hold very many files."""
    sweep(folder)


def _temporary(path: Path) -> Path:
    """Return the temporary path to which a file's content is written before it is renamed."""
    return path.with_name(f"{temporary_prefix()}{next(_numbers)}-{path.name[:_SHOWN]}")


@functools.cache
def _machine() -> str:
    """Return the scope of process numbers (this boot, this container) as eight hexadecimal digits."""
    text = platform.node()
    with suppress(OSError):  # only Linux has these
        text += Path("/proc/sys/kernel/random/boot_id").read_text("ascii") + os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - no path
    return f"{zlib.crc32(text.encode()):08x}"


def _is_left_over(entry: Path) -> bool:
    """Check whether a temporary file or folder has no live owner."""
    with suppress(OSError):
        if time.time() - entry.lstat().st_mtime > _DAY:
            return True
    machine, _, rest = entry.name.removeprefix(TEMPORARY).partition("-")
    process = rest.partition("-")[0]
    return machine == _machine() and process.isdigit() and not is_running(int(process))


def is_running(process: int) -> bool:
    """Check whether a process of this number runs on this machine; True if unknown."""
    if os.name != "posix":
        return True  # elsewhere os.kill ends a process whatever the signal
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
