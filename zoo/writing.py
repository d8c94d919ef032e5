"""Files that are written at once: whoever looks sees the old one or the new one."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from zoo.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Replace a safetensors file, as `write` does. Its bytes are made first, so that a full disk is an OSError."""
    from safetensors.torch import save

    write(path, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata=metadata))


def check_writable(path: Path) -> None:
    """Raise OutputError where `write` could not put a file, before long work is done for it."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: {os.strerror(errno.EISDIR)}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
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
        OutputError: where it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
