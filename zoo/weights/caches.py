"""Cache folders of downloaded files, and the checks that keep paths inside them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zoo.errors import WeightsError
from zoo.weights.places import Place, parse


def cache_folder() -> str:
    """Return the user's cache folder as platformdirs does; on Linux without its import, as slow as `zoo list`."""
    if sys.platform == "linux":
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - as above
        if cache.startswith("/"):
            return os.path.join(cache, "motion-zoo")  # noqa: PTH118 - as above
    from platformdirs import user_cache_dir

    return user_cache_dir("motion-zoo")


def hub_cache() -> Path:
    """Return the Hub's cache folder, shared by all libraries."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cached(source: str) -> Path:
    """Return the local file of a source; nothing is fetched.

    Raises:
        WeightsError: if it is not on this machine.
    """
    path = file_inside(parse(source))
    if not path.is_file():
        raise WeightsError(f"{source} is not on this machine; `zoo download` or `zoo load` fetches it")
    return path


def pointer_of(place: Place) -> Path:
    """Return the path of a file in the cache's documented layout: `try_to_load_from_cache` costs 150 ms of imports."""
    folder = f"models--{place.repo.replace('/', '--')}"
    return hub_cache() / folder / "snapshots" / place.revision / place.file


def file_inside(place: Place) -> Path:
    """Return the path of a cached file, if no link, which other writers can plant, leads out of the cache.

    Raises:
        WeightsError: if one does.
    """
    path = pointer_of(place)
    home = repository_folder(path)
    for one in (path, home / "blobs"):  # a file that is fetched goes to the second
        if not lies_in(one, home):
            raise WeightsError(f"{one} is a link out of the cache and is not followed; remove it")
    return path


def lies_in(path: Path, home: Path) -> bool:
    """Check whether a path, with links resolved, is inside a folder."""
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links in a circle
        return False


def repository_folder(path: Path) -> Path:
    """Return the cache folder of a file's repository."""
    root = hub_cache()
    return root.resolve() / path.relative_to(root).parts[0]


def unlink_inside(path: Path, home: Path) -> None:
    """Remove a cached file, or a link and its target, but nothing outside the cache."""
    if not lies_in(path.parent, home):
        return
    target = path.parent / path.readlink() if path.is_symlink() else None
    path.unlink(missing_ok=True)
    if target is not None:
        unlink_inside(target, home)
