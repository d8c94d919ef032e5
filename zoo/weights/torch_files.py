"""Third-party weights saved by torch.save: fetched, checked by hash, and converted to safetensors once.

The converted file and a record of it are in the user's cache folder. A file that torchvision itself downloaded is taken
from torch's cache. `ZOO_MIRROR` names a server to ask instead of the one in the URL; `ZOO_OFFLINE=1` forbids asking.

Publishers name such files by the first 8 digits of their SHA-256, which is all that an entry can state: 32 bits, which
a forger can match. The record therefore keeps the whole digest of the first file that was taken, and from then on no
other file is accepted.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError, WeightsError, one_line
from zoo.weights.caches import cache_folder
from zoo.weights.transfer import is_offline
from zoo.writing import write, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.entries import WeightsEntry

MIRROR = "ZOO_MIRROR"

#: Share of a published size, and bytes, by which a file may be larger: publishers give sizes rounded.
ROUNDING, SLACK = 0.001, 2**16


def obtain(weights: WeightsEntry, *, offline: bool = False) -> WeightsEntry:
    """Return the entry with a local file as its source, and that file's size and full SHA-256.

    Entries of other sources are returned unchanged. Files are downloaded and converted unless that was done before.

    Args:
        weights: An entry of the catalog.
        offline: Raise instead of using the network; same as `ZOO_OFFLINE=1`.

    Raises:
        WeightsError: if it cannot be fetched, is not the file that was published, or holds no state dictionary.
        OutputError: if it cannot be stored.
        UsageError: if `ZOO_MIRROR` is not an address.
    """
    if not weights.is_foreign:
        return weights
    converted = find(weights)
    if converted is not None:
        return converted
    from zoo.weights import downloads

    target, _ = _places(weights)
    address, known = _address(weights), _torch_cache(weights)
    here = known.is_file()
    if not here and is_offline(offline=offline):
        raise WeightsError(
            f"{weights.source} is not on this machine and may not be fetched (offline); put it at {known}, or load it "
            "once with a network"
        )
    try:
        with downloads.partial(target) as part:
            if (converted := find(weights)) is not None:  # another process made it meanwhile
                return converted
            if not here:
                most = weights.bytes + max(SLACK, round(ROUNDING * weights.bytes))
                downloads.download(lambda headers: downloads.ask_url(address, headers), part, most=most)
            return _convert(weights, known if here else part, str(known) if here else address)
    except ConnectionError as error:
        raise WeightsError(
            f"cannot download {address}: {error}; put the file at {known}, or name a server that has it in {MIRROR}"
        ) from error


def _convert(weights: WeightsEntry, path: Path, origin: str) -> WeightsEntry:
    """Check a published file, `path`, which came from `origin`, and store it as safetensors with a record."""
    import json

    from zoo.weights.digests import sha256_of

    target, record = _places(weights)
    digest = sha256_of(path, remembered=False)
    pinned = _pinned(weights)
    if not digest.startswith(pinned):
        earlier = f", the digest of the file that was taken first (recorded in {record})" * (pinned != weights.sha256)
        raise WeightsError(
            f"{origin} is not the file that was published: its SHA-256 begins with {digest[: len(pinned)]}, expected "
            f"{pinned}{earlier}; it was damaged on its way or replaced, get it again"
        )
    tensors = _tensors(path, weights)
    source = {"source": weights.source, "source_sha256": digest}
    write_tensors(target, tensors, {"origin": json.dumps(source)})  # one key: safetensors gives several no order
    made = {**source, "bytes": target.stat().st_size, "sha256": sha256_of(target)}
    write(record, json.dumps(made, indent=1) + "\n")
    return _local(weights, target, made)


def _pinned(weights: WeightsEntry) -> str:
    """Return the known part of the published file's SHA-256: all of it once a file was accepted."""
    import json

    try:
        digest = json.loads(_places(weights)[1].read_text(encoding="utf-8"))["source_sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return weights.sha256
    return digest if isinstance(digest, str) and digest.startswith(weights.sha256) else weights.sha256


def find(weights: WeightsEntry) -> WeightsEntry | None:
    """Do as `obtain`, but return None if a download is needed. Imports no torch."""
    import json

    target, record = _places(weights)
    try:
        made = dict(json.loads(record.read_text(encoding="utf-8")))
        from zoo.weights.digests import sha256_of  # `zoo list` asks for many that were never made

        whole = target.stat().st_size == made["bytes"] and str(made["source_sha256"]).startswith(weights.sha256)
        whole = whole and sha256_of(target) == made["sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return None  # never made, or damaged since: a cache is made again
    return _local(weights, target, made) if whole else None


def is_missing(weights: WeightsEntry) -> bool:
    """Check whether a download is needed. `zoo list` calls it for all: one lookup for files never fetched."""
    if weights.is_hub:
        from zoo.weights import hub  # few entries need it

        return hub.find(weights) is None
    if not weights.is_foreign:
        return False
    record = os.path.join(cache_folder(), "weights", f"{_stem(weights)}.json")  # noqa: PTH118 - pathlib takes long to import
    return not os.path.exists(record) or find(weights) is None  # noqa: PTH110 - as above


def _local(weights: WeightsEntry, target: Path, made: Mapping[str, Any]) -> WeightsEntry:
    return dataclasses.replace(weights, source=str(target), bytes=made["bytes"], sha256=made["sha256"])


def _places(weights: WeightsEntry) -> tuple[Path, Path]:
    """Return the paths of the converted file and its record; published names contain their hash."""
    from pathlib import Path

    folder, stem = Path(cache_folder()) / "weights", _stem(weights)
    return folder / f"{stem}.safetensors", folder / f"{stem}.json"


def _stem(weights: WeightsEntry) -> str:
    stem = os.path.splitext(_published_name(weights))[0]  # noqa: PTH122 - as above
    return stem if weights.sha256[:8] in stem else f"{stem}-{weights.sha256[:8]}"


def _torch_cache(weights: WeightsEntry) -> Path:
    """Return the path at which torch.hub, and torchvision with it, stores the file of this URL."""
    from pathlib import Path

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
    return home / "hub" / "checkpoints" / _published_name(weights)


def _published_name(weights: WeightsEntry) -> str:
    """Return the file name of a URL."""
    return weights.source.partition("#")[0].partition("?")[0].rpartition("/")[2]


def _address(weights: WeightsEntry) -> str:
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return weights.source
    if not mirror.startswith(("https://", "http://")):
        raise UsageError(f"{MIRROR} is {mirror!r}; expected the address of a server, https://HOST or http://HOST")
    from urllib.parse import urlsplit

    return mirror.rstrip("/") + urlsplit(weights.source).path


def _tensors(path: Path, weights: WeightsEntry) -> dict[str, Tensor]:
    """Load the state dictionary of a file of torch.save, executing none of its code."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling an untrusted file can raise anything
        reason = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise WeightsError(f"{weights.source} cannot be read as a state dictionary: {reason}") from error
    if not isinstance(state, dict) or not state or not all(isinstance(one, torch.Tensor) for one in state.values()):
        raise WeightsError(f"{weights.source} holds no state dictionary of names and tensors: {type(state).__name__}")
    return {_renamed(str(name), weights): tensor for name, tensor in state.items() if not _is_left(str(name), weights)}


def _is_left(name: str, weights: WeightsEntry) -> bool:
    return any(name.startswith(beginning) for beginning in weights.left)


def _renamed(name: str, weights: WeightsEntry) -> str:
    for there, here in weights.renamed:
        name = name.replace(there, here)
    return name
