"""Where files from elsewhere are kept on this machine, and the guard that keeps them inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zoo.errors import WeightsError
from zoo.weights.places import Place, parse


def cache_folder() -> str:
    """The user's cache folder, as platformdirs says; on Linux without its import, which takes as long as `zoo list`."""
    if sys.platform == "linux":
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - as above
        if cache.startswith("/"):
            return os.path.join(cache, "motion-zoo")  # noqa: PTH118 - as above
    from platformdirs import user_cache_dir

    return user_cache_dir("motion-zoo")


def hub_cache() -> Path:
    """The folder in which all libraries of the Hub keep files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached(source: str) -> Path:
    """The file of a source on this machine; nothing is fetched.

    Raises:
        WeightsError: if it is not here.
    """
    path = file_inside(parse(source))
    if not path.is_file():
        raise WeightsError(f"{source} is not on this machine; `zoo download` or `zoo load` fetches it")
    return path


def pointer_of(place: Place) -> Path:
    """Where the cache has the file, by its documented layout: `try_to_load_from_cache` costs 150 ms of imports."""
    folder = f"models--{place.repo.replace('/', '--')}"
    return hub_cache() / folder / "snapshots" / place.revision / place.file


def file_inside(place: Place) -> Path:
    """Where the cache has the file, if links there, which whoever may write into it can plant, lead nowhere else.

    Raises:
        WeightsError: if they do.
    """
    path = pointer_of(place)
    home = repository_folder(path)
    for one in (path, home / "blobs"):  # a file that is fetched goes to the second
        if not lies_in(one, home):
            raise WeightsError(f"{one} is a link out of the cache and is not followed; remove it")
    return path


def lies_in(path: Path, home: Path) -> bool:
    """Whether a path, its links followed, lies in a folder."""
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links in a circle
        return False


def repository_folder(path: Path) -> Path:
    """The folder that holds all of the repository of a file in the cache."""
    root = hub_cache()
    return root.resolve() / path.relative_to(root).parts[0]


def unlink_inside(path: Path, home: Path) -> None:
    """Remove a file of the cache, or a link and what it leads to, but nothing that does not lie in the cache itself."""
    if not lies_in(path.parent, home):
        return
    target = path.parent / path.readlink() if path.is_symlink() else None
    path.unlink(missing_ok=True)
    if target is not None:
        unlink_inside(target, home)
