"""Weights that others publish as files of torch.save: fetch them, check their hash, convert them to safetensors once.

The converted file and a record of it lie in the user's cache folder. A file that torchvision itself downloaded is taken
from torch's cache. `ZOO_MIRROR` names a server to ask instead of the one in the URL; `ZOO_OFFLINE=1` forbids asking.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import OutputError, UsageError, WeightsError
from zoo.writing import write, write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from zoo.entries import WeightsEntry

MIRROR = "ZOO_MIRROR"
OFFLINE = "ZOO_OFFLINE"
#: How often a download is begun or gone on with, and the seconds to wait before each further try.
TRIES = 3
PAUSE = 1.0
#: Seconds without a byte after which a server counts as dead.
TIMEOUT = 30.0
_CHUNK = 2**20


def obtain(weights: WeightsEntry, *, offline: bool = False) -> WeightsEntry:
    """The entry with a file on this machine as its source, and that file's size and full SHA-256.

    What is no foreign file is given back as it is. Others are downloaded and converted unless that was done before.

    Args:
        weights: An entry of the catalogue.
        offline: Raise rather than ask the network; `ZOO_OFFLINE=1` says the same.

    Raises:
        WeightsError: where it cannot be fetched, is not the file that was published, or holds no state dictionary.
        OutputError: where it cannot be stored.
        UsageError: where `ZOO_MIRROR` is no address.
    """
    if not weights.is_foreign:
        return weights
    converted = find(weights)
    if converted is not None:
        return converted
    import json

    from zoo.weights import sha256_of

    target, record = _places(weights)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot store weights in {target.parent}: {error.strerror}") from error
    with _original(weights, target, offline=is_offline(offline=offline)) as path:
        digest = _hash(path)
        if not digest.startswith(weights.sha256):
            found = _address(weights) if path.suffix == ".part" else path
            raise WeightsError(
                f"{found} is not the file that was published: its sha256 begins with {digest[:8]}, expected "
                f"{weights.sha256}; it was damaged on its way or replaced, get it again"
            )
        tensors = _tensors(path, weights)
    origin = {"source": weights.source, "source_sha256": digest}
    write_tensors(target, tensors, {"origin": json.dumps(origin)})  # one key: safetensors gives several no order
    made = {**origin, "bytes": target.stat().st_size, "sha256": sha256_of(target)}
    write(record, json.dumps(made, indent=1) + "\n")
    return _local(weights, target, made)


def is_offline(*, offline: bool = False, variables: Sequence[str] = (OFFLINE,)) -> bool:
    """Whether the network may not be asked: it was said, or one of these variables says so."""
    return offline or any(os.environ.get(name, "") not in {"", "0"} for name in variables)


def find(weights: WeightsEntry) -> WeightsEntry | None:
    """As `obtain`, but None where the file would have to be fetched. Imports no torch."""
    import json

    target, record = _places(weights)
    try:
        made = dict(json.loads(record.read_text(encoding="utf-8")))
        from zoo.weights import sha256_of  # `zoo list` asks for many that were never made

        whole = target.stat().st_size == made["bytes"] and str(made["source_sha256"]).startswith(weights.sha256)
        whole = whole and sha256_of(target) == made["sha256"]
    except (OSError, ValueError, TypeError, KeyError):
        return None  # never made, or damaged since: a cache is made again
    return _local(weights, target, made) if whole else None


def is_missing(weights: WeightsEntry) -> bool:
    """Whether the file would have to be downloaded. `zoo list` asks for all: what was never fetched costs a look."""
    if weights.is_hub:
        from zoo import hub  # few entries need it

        return hub.find(weights) is None
    if not weights.is_foreign:
        return False
    record = os.path.join(cache_folder(), "weights", f"{_stem(weights)}.json")  # noqa: PTH118 - pathlib takes long to import
    return not os.path.exists(record) or find(weights) is None  # noqa: PTH110 - as above


def cache_folder() -> str:
    """The user's cache folder, as platformdirs says; on Linux without its import, which takes as long as `zoo list`."""
    if sys.platform == "linux":
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - as above
        if cache.startswith("/"):
            return os.path.join(cache, "motion-zoo")  # noqa: PTH118 - as above
    from platformdirs import user_cache_dir

    return user_cache_dir("motion-zoo")


def _local(weights: WeightsEntry, target: Path, made: Mapping[str, Any]) -> WeightsEntry:
    return dataclasses.replace(weights, source=str(target), bytes=made["bytes"], sha256=made["sha256"])


def _places(weights: WeightsEntry) -> tuple[Path, Path]:
    """Where the converted file and its record lie; the names of published files hold their hash."""
    from pathlib import Path

    folder, stem = Path(cache_folder()) / "weights", _stem(weights)
    return folder / f"{stem}.safetensors", folder / f"{stem}.json"


def _stem(weights: WeightsEntry) -> str:
    stem = os.path.splitext(_published_name(weights))[0]  # noqa: PTH122 - as above
    return stem if weights.sha256[:8] in stem else f"{stem}-{weights.sha256[:8]}"


def _torch_cache(weights: WeightsEntry) -> Path:
    """Where torch.hub, and torchvision with it, puts the file of this URL."""
    from pathlib import Path

    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser()
    return home / "hub" / "checkpoints" / _published_name(weights)


def _published_name(weights: WeightsEntry) -> str:
    """Name of the file that the URL stands for."""
    return weights.source.partition("#")[0].partition("?")[0].rpartition("/")[2]


def _address(weights: WeightsEntry) -> str:
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return weights.source
    if not mirror.startswith(("https://", "http://")):
        raise UsageError(f"{MIRROR} is {mirror!r}; expected the address of a server, https://HOST or http://HOST")
    from urllib.parse import urlsplit

    return mirror.rstrip("/") + urlsplit(weights.source).path


@contextlib.contextmanager
def _original(weights: WeightsEntry, target: Path, *, offline: bool) -> Iterator[Path]:
    """The published file: from torch's cache, or downloaded for as long as it is needed."""
    known = _torch_cache(weights)
    if known.is_file():
        yield known
        return
    if offline:
        raise WeightsError(
            f"{weights.source} is not on this machine and may not be fetched (offline); put it at {known}, or load it "
            "once with a network"
        )
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _download(_address(weights), part, f"put the file at {known}, or name a server that has it in {MIRROR}")
        yield part
    finally:
        part.unlink(missing_ok=True)


def _download(address: str, part: Path, otherwise: str) -> None:
    """Fetch a file, going on where a connection broke."""
    import http.client  # slow to import, and `zoo list` looks at this module
    import urllib.error

    for tried in range(1, TRIES + 1):
        try:
            return _fetch(address, part)
        except urllib.error.HTTPError as error:
            reason, final = f"the server answers {error.code} {error.reason}", 400 <= error.code < 500
        except (OSError, http.client.HTTPException) as error:
            reason, final = str(getattr(error, "reason", error)) or type(error).__name__, False
        if final or tried == TRIES:
            raise WeightsError(f"cannot download {address}: {reason}; {otherwise}")
        time.sleep(PAUSE)
    return None


def _fetch(address: str, part: Path) -> None:
    """Append what is missing of a file; the whole file where the server gives no parts."""
    import http
    import sys
    import urllib.request

    from tqdm import tqdm

    here = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={here}-"} if here else {})  # noqa: S310 - checked
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - http(s), by `is_foreign` and `_address`
        here = here if answer.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        length = answer.headers.get("Content-Length")
        total = here + int(length) if length else None
        with (
            _opened(part, "ab" if here else "wb") as file,
            tqdm(
                desc=part.name.removeprefix(".").partition(".safetensors")[0],
                total=total,
                initial=here,
                unit="B",
                unit_scale=True,
                disable=None,
                file=sys.stderr,
            ) as bar,
        ):
            while chunk := answer.read(_CHUNK):
                _put(file, chunk, part)
                bar.update(len(chunk))
    got = part.stat().st_size
    if total is not None and got < total:
        raise ConnectionError(f"the connection broke after {got:,} of {total:,} bytes")


def _opened(part: Path, mode: str) -> BinaryIO:
    try:
        return part.open(mode, buffering=0)  # type: ignore[return-value]  # a binary file
    except OSError as error:
        raise OutputError(f"cannot write {part.parent}: {error.strerror}") from error


def _put(file: BinaryIO, chunk: bytes, part: Path) -> None:
    try:
        written = 0
        while written < len(chunk):
            written += file.write(memoryview(chunk)[written:])
    except OSError as error:
        hint = "; free some space and load it again" if error.errno == errno.ENOSPC else ""
        raise OutputError(f"cannot write {part.parent}: {error.strerror}{hint}") from error


def _hash(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensors(path: Path, weights: WeightsEntry) -> dict[str, Tensor]:
    """The state dictionary in a file of torch.save; no code in it runs."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a stranger's file makes an unpickler raise has no end
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
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
