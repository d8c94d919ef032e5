"""Access to the local file of a weights entry, whatever its source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import PluginError, UnknownNameError, UsageError, WeightsError, describe
from zoo.isolation import contained
from zoo.weights import caches

if TYPE_CHECKING:
    from zoo.entries import WeightsEntry


def locate(source: str) -> Path:
    """Return the file that "package:path/in/package" or a path names.

    Raises:
        WeightsError: if a bundled file is missing from its package.
        UnknownNameError, UsageError: if there is no such file on disk, or a folder.
    """
    if source.startswith("hub:"):
        return caches.cached(source)
    if source.startswith(("https://", "http://")):
        raise WeightsError(f"{source} is not on this machine; `zoo load MODEL` downloads it")
    package, colon, inside = source.partition(":")
    if colon and len(package) > 1 and all(part.isidentifier() for part in package.split(".")):  # C: is a drive
        return _bundled(package, inside)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the weights file in it")
    if not path.is_file():
        siblings = [other.name for other in path.parent.glob("*.safetensors")]
        raise UnknownNameError("weights file", path.name, siblings, f"there is no such file in {path.parent}")
    return path


def _bundled(package: str, inside: str) -> Path:
    from importlib.resources import files

    try:
        with contained():  # it imports the package
            path = Path(str(files(package))) / inside
    except ModuleNotFoundError as error:
        raise PluginError(f"{package}:{inside} names a package that is not installed") from error
    except Exception as error:
        raise PluginError(f"{package}:{inside} names a package that cannot be imported: {describe(error)}") from error
    if not path.is_file():
        raise WeightsError(
            f"{package}:{inside} is missing from the installed package (looked at {path}); reinstall it, or, where "
            "the package is yours, put the file there"
        )
    return path


def obtain(weights: WeightsEntry, *, offline: bool = False, token: str | None = None) -> WeightsEntry:
    """Return the entry with a local file as its source; third-party and Hub files are fetched.

    Args:
        weights: An entry of the catalog.
        offline: Raise instead of using the network; same as `ZOO_OFFLINE=1`.
        token: Hub token; by default that of the environment.

    Raises:
        WeightsError, OutputError, UsageError: as `zoo.weights.torch_files.obtain` and `zoo.weights.hub.obtain`.
    """
    if weights.is_hub:
        from zoo.weights import hub

        return hub.obtain(weights, offline=offline, token=token)
    if weights.is_foreign:
        from zoo.weights import torch_files

        return torch_files.obtain(weights, offline=offline)
    return weights
