"""Folders of results that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoo.errors import OutputError
from zoo.plain import plain, visible
from zoo.writing import TEMPORARY, sweep, temporary_prefix

#: Files that desktops, network disks and notebooks put into folders by themselves, beside hidden ones; in lower case.
_INCIDENTAL = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "@eadir", "lost+found"}


def check(folder: str | os.PathLike[str], kind: str) -> Path:
    """Return the absolute path of `folder` after checking that results can be written there.

    Called before any computation, so that errors are raised early.

    Args:
        folder: A new or empty folder, or one that `write` made with the same `kind`.
        kind: What will be written: "report", "attribution", "maximization".

    Raises:
        OutputError: if the folder holds anything else, or cannot be written.
    """
    path = _target(folder, kind)
    with _reported(path):
        place = next(place for place in (path, *path.parents) if place.exists())
        Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=place)).rmdir()
    return path


def write(folder: str | os.PathLike[str], kind: str, data: Mapping[str, Any], files: Mapping[str, bytes]) -> Path:
    """Write `files` (name to content), and `data` as `KIND.json`, to `folder`.

    Everything is written to a temporary folder first. A new folder is that one renamed: it appears whole or not at all.
    A folder that is there (it may be mounted, or somebody's current one) stays, and the files are renamed into it, the
    index last: a run that ends before that leaves it as it was. One killed between these few renames leaves files of
    two runs, and beside them the index that was to come, which says that they are ours: the next run replaces them all.

    Raises:
        OutputError: if the folder holds anything but earlier results of this kind, or cannot be written.
        TypeError: if `data` does not fit into JSON.
    """
    path = _target(folder, kind)
    index = f"{kind}.json"
    about = {"kind": f"motion-zoo {kind}", "files": [*files, index], **plain(data)}
    everything = {**files, index: visible(json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False)).encode()}
    with _reported(path):
        there = path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=temporary_prefix(), dir=path if there else path.parent))
        try:
            for name, content in everything.items():
                with (temporary / name).open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            if there:
                _replace_files(path, _files(path, kind), temporary, list(everything))
            else:
                temporary.chmod(0o777 & ~_umask())  # mkdtemp makes it private
                temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sweep(path if there else path.parent)  # only once the index exists: leftovers identify our files
    return path


def _replace_files(path: Path, earlier: set[str], temporary: Path, names: list[str]) -> None:
    """Rename files from `temporary` into `path`, the index last, and remove the others of the earlier results."""
    *others, index = names
    for name in others:
        (temporary / name).replace(path / name)
    for entry in path.iterdir():
        if entry.name in earlier.difference(names) and entry.is_file():
            entry.unlink()
    (temporary / index).replace(path / index)


def _target(folder: str | os.PathLike[str], kind: str) -> Path:
    path = Path(folder).expanduser().resolve()
    with _reported(path):
        if not path.exists():
            return path
        if not path.is_dir():
            raise OutputError(f"{path} is a file; expected a folder")
        found = sorted(entry.name for entry in path.iterdir() if not _is_incidental(entry.name))
    ours = _files(path, kind)
    foreign = [name for name in found if name not in ours]
    if foreign and not ours:
        shown = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        raise OutputError(
            f"{path} holds other files ({shown}); expected a new or empty folder, or one that holds an "
            f"earlier result ({kind}.json)"
        )
    if foreign:
        raise OutputError(
            f"{path} holds an earlier result ({kind}.json) and also {foreign[0]!r}; "
            "move that away or choose another folder"
        )
    return path


def _is_incidental(name: str) -> bool:
    """Check whether a file of this name can be ignored, as created by the system; such files are never touched."""
    return name.startswith(".") or name.lower() in _INCIDENTAL


def _files(path: Path, kind: str) -> set[str]:
    """Return the names of files that `write` put into `path`, or was about to when killed; empty otherwise."""
    indices = [path / f"{kind}.json", *path.glob(f"{TEMPORARY}*/{kind}.json")]
    return set().union(*(_listed(index, kind) for index in indices))


def _listed(place: Path, kind: str) -> set[str]:
    """Return the names of the files that an index lists."""
    try:
        index = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return set()
    if (
        not isinstance(index, dict)
        or index.get("kind") != f"motion-zoo {kind}"
        or not isinstance(index.get("files"), list)
    ):
        return set()
    return {name for name in index["files"] if isinstance(name, str)}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Convert errors of the operating system into one message."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write to {path}: {error.strerror or error}") from error
