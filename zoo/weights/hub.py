"""Weights files on the Hugging Face Hub: found in the cache or downloaded, at a pinned commit."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError, one_line
from zoo.limits import LARGEST_CARD
from zoo.weights import digests, downloads, files
from zoo.weights.caches import cached, file_inside, repository_folder, unlink_inside
from zoo.weights.places import Place, parse
from zoo.weights.transfer import HTTP_CLIENTS, HUB, endpoint, is_hub_offline, reach, told, without_secrets

if TYPE_CHECKING:
    from zoo.entries import WeightsEntry

#: Files that `zoo push` puts into a repository, beside the card.
WEIGHTS, GOLDEN, CONFIG = "model.safetensors", "golden.safetensors", "config.json"

#: Format of the Hub's ETags: SHA-256 of large files, git's SHA-1 of others.
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def find(weights: WeightsEntry) -> WeightsEntry | None:
    """Do as `obtain`, but return None if a download is needed. Imports neither torch nor the Hub's library."""
    try:
        path = cached(weights.source)
        digests.check(path, weights)
    except (WeightsError, OSError):
        return None
    return dataclasses.replace(weights, source=str(path))


def obtain(weights: WeightsEntry, *, offline: bool = False, token: str | None = None) -> WeightsEntry:
    """Return the entry with a checked local file as its source, downloading it if needed.

    A cached file that does not match the entry is fetched again, once.

    Args:
        weights: An entry whose source is on the Hub.
        offline: Raise instead of using the network.
        token: Hub token; by default that of the environment.

    Raises:
        WeightsError: if it cannot be fetched, or does not match its entry.
        OutputError: if it cannot be stored.
        UsageError: if the source is not pinned, or `HF_ENDPOINT` is not an address.
    """
    place = parse(weights.source)
    here = file_inside(place).is_file()
    path = _fetch_whole(place, weights.bytes, offline=offline, token=token)
    try:
        digests.check(path, weights)
    except WeightsError as error:
        if is_hub_offline(offline=offline):
            raise
        forget(path)
        said = f"{place} at {without_secrets(endpoint())} is not the file that its entry describes: {error}"
        if not here:
            raise WeightsError(said) from error
        path = _fetch_whole(place, weights.bytes, offline=False, token=token)
        try:
            digests.check(path, weights)
        except WeightsError as again:
            forget(path)
            raise WeightsError(said) from again
    return dataclasses.replace(weights, source=str(path))


def _fetch_whole(place: Place, most: int, *, offline: bool, token: str | None) -> Path:
    """Return the file, and for an index its shards."""
    path = _fetch(place, most, offline=offline, token=token)
    for part in files.parts(path)[1:]:
        _fetch(place.beside(part.name), most, offline=offline, token=token)
    return path


def forget(path: Path) -> None:
    """Take a file that is not what it should be out of the cache, so that nothing reads it and it is fetched again."""
    parts = [path]
    with contextlib.suppress(WeightsError):
        parts = list(files.parts(path))
    for part in parts:
        with contextlib.suppress(OSError):
            unlink_inside(part, repository_folder(part))


def fetch(place: Place, *, most: int = LARGEST_CARD, offline: bool = False, token: str | None = None) -> Path:
    """Return one file of a pinned commit whose SHA-256 is unknown: cached, else downloaded into the cache.

    The cache names a file by the digest of its content, which is that of the server's `ETag`: a file that changed since
    is fetched again.

    Args:
        place: The file.
        most: Largest size that is accepted, in bytes.
        offline: Raise instead of using the network.
        token: Hub token; by default that of the environment.

    Raises:
        WeightsError, OutputError, UsageError: as `obtain`.
    """
    path = _fetch(place, most, offline=offline, token=token)
    if _has_content_of(path, path.resolve().name):
        return path
    if is_hub_offline(offline=offline):
        raise WeightsError(f"{place} was changed or damaged since it was downloaded; load it once with a network")
    forget(path)
    return _fetch(place, most, token=token)


def _has_content_of(path: Path, digest: str) -> bool:
    """Check whether a file has this SHA-256, or this SHA-1 of git or plain; True if the name is not a digest."""
    if not _DIGEST.fullmatch(digest):
        return True  # stored by another library, or where the cache has no links
    if len(digest) == 64:
        return digests.sha256_of(path) == digest
    content = path.read_bytes()
    heads = (b"blob %d\0" % len(content), b"")
    return digest in {hashlib.sha1(head + content, usedforsecurity=False).hexdigest() for head in heads}


def _fetch(place: Place, most: int, *, offline: bool = False, token: str | None = None) -> Path:
    path = file_inside(place)
    if path.is_file():
        return path
    if is_hub_offline(offline=offline):
        raise WeightsError(
            f"{place} is not on this machine and may not be fetched (offline); load it once with a network"
        )
    address = endpoint()
    blobs = repository_folder(path) / "blobs"
    with told(str(place), token):
        reach(address)
        with downloads.partial(blobs / hashlib.sha256(str(place).encode()).hexdigest()) as part:
            if path.is_file():  # another process fetched it meanwhile
                return file_inside(place)
            named = _Named()
            downloads.download(lambda headers: _ask(place, address, token, headers, named), part, most=most)
            if named.commit != place.revision:
                raise WeightsError(
                    f"{without_secrets(address)} gave another commit than that of {place}; nothing was loaded"
                )
            if not _DIGEST.fullmatch(named.etag) or not _has_content_of(part, named.etag):
                raise WeightsError(
                    f"{place} from {without_secrets(address)} does not have the content that its ETag "
                    f"{one_line(named.etag)[:80]!r} names (expected its SHA-256 or git's SHA-1): it was damaged on its "
                    "way, or this is not a server of the Hub; nothing was loaded"
                )
            _store(part, blobs / named.etag, path)
    return file_inside(place)


def _store(part: Path, blob: Path, path: Path) -> None:
    """Give a downloaded file its name in the cache, and make `path` in a snapshot lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part.replace(blob)
    link = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        link.symlink_to(os.path.relpath(blob, path.parent))
    except OSError:  # no links on this file system: the snapshot holds the file itself, as the Hub's library does
        blob.replace(path)
    else:
        link.replace(path)


@dataclass
class _Named:
    """Metadata of a file in the Hub's headers."""

    commit: str | None = None
    etag: str = ""


@contextlib.contextmanager
def _ask(
    place: Place, address: str, token: str | None, headers: dict[str, str], named: _Named
) -> Iterator[downloads.Answer]:
    """Send one GET request for a file with the Hub library's HTTP client; `named` is set from its headers.

    Redirects are followed here, so that the token goes to the Hub's own address alone.
    """
    from huggingface_hub import (
        constants,
        errors,
        get_session,
        get_token,
        hf_hub_url,
        hf_raise_for_status,
        is_offline_mode,
    )

    if is_offline_mode():  # as it was when the library was imported; its client would refuse each attempt
        raise WeightsError(f"{place} may not be fetched: HF_HUB_OFFLINE was set when this process began")
    named.commit = None
    url = hf_hub_url(place.repo, place.file, revision=place.revision, endpoint=address)
    sent = {"User-Agent": "motion-zoo", "Accept-Encoding": "identity", **headers}
    if token is None and not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        token = get_token()
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    try:
        for _ in range(downloads.REDIRECTS):
            with get_session().stream(
                "GET", url, headers=sent, follow_redirects=False, timeout=downloads.READ_TIMEOUT
            ) as response:
                if named.commit is None:
                    named.commit = response.headers.get("X-Repo-Commit")
                    named.etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag") or ""
                    named.etag = named.etag.removeprefix("W/").strip('"')
                if not response.has_redirect_location:
                    yield downloads.Answer(
                        response.status_code,
                        response.headers,
                        response.iter_bytes(),
                        lambda: hf_raise_for_status(response),
                    )
                    return
                target = urllib.parse.urljoin(url, response.headers["Location"])
            downloads.check_redirect(url, target)
            if _origin(target) not in (_origin(address), _origin(HUB)):
                sent.pop("Authorization", None)
            url = target
    except Exception as error:
        if isinstance(error, errors.HfHubHTTPError) or not type(error).__module__.startswith(HTTP_CLIENTS):
            raise
        raise ConnectionError(one_line(error) or type(error).__name__) from error
    raise ConnectionError(f"more than {downloads.REDIRECTS} redirects")


def _origin(address: str) -> tuple[str, str, int | None]:
    place = urllib.parse.urlsplit(address)
    return place.scheme, (place.hostname or "").lower(), place.port or {"https": 443, "http": 80}.get(place.scheme)
