"""SHA-256 of weights files: computed once, remembered, and checked against what an entry states."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import OutputError, WeightsError
from zoo.weights import caches, identification
from zoo.weights.files import INDEX, parts, size_of
from zoo.writing import write

if TYPE_CHECKING:
    from zoo.entries import WeightsEntry

#: Nanoseconds within which a file may be changed twice and keep the same modification time.
_TICK = 20_000_000


def sha256_of(path: Path, *, remembered: bool = True) -> str:
    """Return the SHA-256 of a file, cached by its path, size, modification time and inode.

    Args:
        path: The file.
        remembered: False hashes the file again in any case.
    """
    path = path.resolve()
    status = path.stat()
    young = status.st_mtime_ns + _TICK - time.time_ns()
    if 0 < young <= _TICK:  # a change within the same tick of the file system's clock would go unseen ever after
        time.sleep(young / 1e9)
    identity = [status.st_size, status.st_mtime_ns, status.st_ino]
    memory = _remembered()
    known = memory.get(str(path))
    if remembered and isinstance(known, list) and known[:-1] == identity:
        return str(known[-1])
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    _remember({**memory, str(path): [*identity, digest]})
    return digest


def _memory_file() -> Path:

    return Path(caches.cache_folder(), "sha256.json")


def _remembered() -> dict[str, Any]:
    try:
        memory = json.loads(_memory_file().read_text())
    except (OSError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(memory: dict[str, Any]) -> None:
    """Write the cache atomically; errors are ignored, as they cost only time."""
    target = _memory_file()
    with contextlib.suppress(OSError, OutputError):
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, json.dumps({path: known for path, known in memory.items() if Path(path).exists()}))


def digest_of(path: Path, *, remembered: bool = True) -> str:
    """SHA-256 as entries give it: of the file; of shards that of the lines `sha256sum` prints of the index and them."""
    if not path.name.endswith(INDEX):
        return sha256_of(path, remembered=remembered)
    lines = [f"{sha256_of(part, remembered=remembered)}  {part.name}\n" for part in parts(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def check(path: Path, weights: WeightsEntry) -> None:
    """Raise WeightsError unless the file is the one that its entry describes."""
    size, digest = size_of(path), ""
    if size == weights.bytes:
        digest = digest_of(path)
        if digest == weights.sha256:
            return
    kind = identification.identify_file(path)
    if kind and not (path.name.endswith(INDEX) and "JSON" in kind):
        raise WeightsError(f"{path} {kind}")
    if size != weights.bytes:
        raise WeightsError(f"{path} has {size:,} bytes, its entry says {weights.bytes:,}; reinstall or fetch it again")
    raise WeightsError(
        f"{path} has sha256 {digest}, its entry says {weights.sha256}; "
        "the file was changed: reinstall or fetch it again"
    )
