"""Per-clip cache from which an interrupted multi-clip report resumes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from zoo.errors import OutputError
from zoo.plain import plain
from zoo.writing import write_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explain.sources import Source

#: The key of a file's JSON; safetensors writes several keys in an order that changes from run to run.
_KEY = "clip"


class Work:
    """A hidden folder beside the report: two files per clip, named by what they depend on.

    Results of other weights, settings or files have other names, so stale results are never used.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.folder = out.parent / f".{out.name}.unfinished"
        self._settings = json.dumps(plain(settings), sort_keys=True)

    def name(self, source: Source) -> str:
        """Return the file name of a clip: a hash of the settings, and of its path, size and modification time."""
        told = json.dumps([self._settings, source.path, _state(source.path)])
        return hashlib.sha256(told.encode()).hexdigest()[:32]

    def holds(self, name: str) -> bool:
        """Check whether there is a cached result of this name."""
        return (self.folder / f"{name}.safetensors").exists()

    def load(self, name: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Load a cached result; None if it is missing or incomplete."""
        try:
            with safe_open(self.folder / f"{name}.safetensors", framework="pt") as file:
                return json.loads(file.metadata()[_KEY]), {
                    key: file.get_tensor(key)
                    for key in file.keys()  # noqa: SIM118 - not a dictionary
                }
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def save(self, name: str, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Save numbers and tensors of a clip, atomically.

        Raises:
            OutputError: if they cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder.parent}: {error.strerror}") from error
        told = json.dumps(plain(record), allow_nan=False)
        write_tensors(self.folder / f"{name}.safetensors", tensors, {_KEY: told})

    def drop(self, name: str) -> None:
        """Delete one cached result."""
        (self.folder / f"{name}.safetensors").unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the cache, once the report is written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _state(path: str) -> list[Any]:
    """Return size and modification time of a file, or of all files of a folder."""
    if path.startswith("sample:"):
        return []
    place = Path(path)
    state: list[Any] = []
    with suppress(OSError):  # unreadable files are reported when they are read
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        for file in files:
            found = file.stat()
            state.append([file.name, found.st_size, found.st_mtime_ns])
    return state


def fingerprint(model: nn.Module) -> str:
    """Compute the SHA-256 of a model's structure and of every parameter and buffer."""
    import torch

    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__}\n{model}".encode())
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):  # a module's own extra state
            digest.update(f"{name} {value!r}".encode())
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
