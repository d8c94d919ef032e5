"""Weights on the Hugging Face Hub: pinned files, checked and cached, and repositories that `zoo push` made.

A file is named `hub:ORG/REPO@REVISION:FILE`, a whole repository `hub:ORG/REPO@REVISION`; REVISION is a commit of 40
hexadecimal digits, so that what a name stands for never changes, and a file that is here needs no network. Files lie in
the cache that all libraries of the Hub share (`HF_HUB_CACHE`, `HF_HOME`), in its documented layout; `HF_ENDPOINT` names
a mirror, `HF_TOKEN` a token; `ZOO_OFFLINE=1` and `HF_HUB_OFFLINE=1` forbid asking.

Files are fetched by `zoo.downloads`, not by `hf_hub_download`, which lets a server's `ETag` name a file on this machine
(huggingface_hub 2.4: an absolute or relative path in it leaves the cache). Here a file of the cache is named by its
repository, commit and path, which are checked, and by the digest of its own content.

A repository says in `config.json` which architecture of which plugin its weights are for. It holds data alone: the
architecture comes from an installed plugin, and nothing of a repository is executed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from zoo import catalog, downloads, foreign
from zoo import weights as files
from zoo.entries import Metric, ModelEntry, WeightsEntry, warn_of_licence
from zoo.errors import OutputError, UnknownNameError, UsageError, WeightsError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDPOINT: Final = "HF_ENDPOINT"
_HUB: Final = "https://huggingface.co"
#: Each of these, set to anything but 0, forbids the network.
OFFLINE: Final = (foreign.OFFLINE, "HF_HUB_OFFLINE")
#: What `zoo push` puts into a repository, beside the card.
WEIGHTS, GOLDEN, CONFIG = "model.safetensors", "golden.safetensors", "config.json"
#: Version of what `config.json` says.
FORMAT = 1
#: Bytes of `config.json`.
LONGEST_CONFIG = 2**20
#: Bytes of a file whose size no entry states, such as golden tensors.
LARGEST = 2**30
#: Seconds after which a server that does not listen is given up, and between two attempts.
_PATIENCE, _PAUSE = 4.0, 1.0
_NAME = r"[A-Za-z0-9_][\w.-]*"
_PLACE = re.compile(rf"hub:(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^@:]*))?(?::(?P<file>.*))?", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")
#: What an ETag of the Hub is: SHA-256 of large files, git's SHA-1 of others.
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FILE = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)
_DISTRIBUTION = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*", re.IGNORECASE | re.ASCII)
_TAG = re.compile(r"\w[\w.-]*", re.ASCII)
#: A host (a name, or an address of six in brackets), a port and a path, perhaps a user and a password.
_ADDRESS = re.compile(r"https?://([^\s/?#@]+@)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[^\s?#]*)?")
#: Modules of the HTTP clients that versions of the Hub's library use.
_HTTP = ("httpx", "httpcore")
_TOKEN = re.compile(r"hf_\w{4,}|(?<=://)[^/@\s]+(?=@)|(?<=[Bb]earer )\S+")


@dataclass(frozen=True)
class Place:
    """A file of a repository at one commit; the repository itself where `file` is empty."""

    repo: str
    revision: str
    file: str = ""

    def __str__(self) -> str:
        return f"hub:{self.repo}@{self.revision}" + (f":{self.file}" if self.file else "")

    def beside(self, file: str) -> Place:
        """Another file of the same folder."""
        folder = self.file.rpartition("/")[0]
        return dataclasses.replace(self, file=f"{folder}/{file}" if folder else file)


def is_repository(name: str) -> bool:
    """Whether a repository of the Hub may be called so: `ORG/REPO`."""
    # Folders of the cache are named ORG--REPO, which two names must not share.
    return re.fullmatch(rf"{_NAME}/{_NAME}", name, re.ASCII) is not None and not re.search(r"\.\.|--", name)


def parse(source: str) -> Place:
    """The place that `hub:ORG/REPO@REVISION` or `hub:ORG/REPO@REVISION:FILE` names.

    Raises:
        UsageError: where it names none, or is not pinned to a commit.
    """
    found = _PLACE.fullmatch(source)
    if found is None or not is_repository(found["repo"]):
        raise UsageError(f"{source!r} names nothing on the Hub; expected hub:ORG/REPO@REVISION or ...@REVISION:FILE")
    if not _REVISION.fullmatch(found["revision"] or ""):
        raise UsageError(
            f"{source!r} is not pinned: expected hub:{found['repo']}@REVISION with a commit of 40 hexadecimal digits "
            "(the repository's page lists its commits, and `zoo push` prints the one it made); "
            "a branch or tag may change"
        )
    if found["file"] is not None and not _FILE.fullmatch(found["file"]):
        raise UsageError(f"{source!r}: {found['file']!r} is no name of a file in a repository")
    return Place(found["repo"], found["revision"], found["file"] or "")


def cache() -> Path:
    """The folder in which all libraries of the Hub keep files."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def endpoint() -> str:
    """Address of the Hub, or of the mirror that `HF_ENDPOINT` names.

    Raises:
        UsageError: where that is no address.
    """
    address = os.environ.get(ENDPOINT) or _HUB
    if not _ADDRESS.fullmatch(address):
        said = one_line(_redacted(address))
        raise UsageError(f"{ENDPOINT} is {said!r}; expected the address of a server, https://HOST or http://HOST")
    return address.rstrip("/")


def reach(address: str) -> None:
    """Make sure that a server listens: the Hub's library would go on for half a minute, and more where none answers.

    Where a proxy stands between, nothing is asked.

    Raises:
        ConnectionError: where none does within some seconds.
    """
    import socket
    import time
    import urllib.request

    place = urllib.parse.urlsplit(address)
    host = place.hostname or ""
    proxies = urllib.request.getproxies()
    if ("all" in proxies or place.scheme in proxies) and not urllib.request.proxy_bypass(host):
        return
    began = time.monotonic()
    while True:
        try:
            port = place.port or {"https": 443}.get(place.scheme, 80)
            socket.create_connection((host, port), timeout=_PATIENCE).close()
        except (OSError, ValueError) as error:  # no such name, nobody there, no answer; a port that is none
            if time.monotonic() - began > _PATIENCE:
                raise ConnectionError(str(error)) from error
            time.sleep(_PAUSE)
        else:
            return


def is_offline(*, offline: bool = False) -> bool:
    """Whether the network may not be asked."""
    return foreign.is_offline(offline=offline, variables=OFFLINE)


def cached(source: str) -> Path:
    """The file of a source on this machine; nothing is fetched.

    Raises:
        WeightsError: where it is not here.
    """
    path = _inside(parse(source))
    if not path.is_file():
        raise WeightsError(f"{source} is not on this machine; `zoo download` or `zoo load` fetches it")
    return path


def _pointer(place: Place) -> Path:
    """Where the cache has the file, by its documented layout: `try_to_load_from_cache` costs 150 ms of imports."""
    folder = f"models--{place.repo.replace('/', '--')}"
    return cache() / folder / "snapshots" / place.revision / place.file


def _inside(place: Place) -> Path:
    """Where the cache has the file, if links there, which whoever may write into it can plant, lead nowhere else.

    Raises:
        WeightsError: where they do.
    """
    path = _pointer(place)
    home = _home(path)
    for one in (path, home / "blobs"):  # a file that is fetched goes to the second
        if not _lies_in(one, home):
            raise WeightsError(f"{one} is a link out of the cache and is not followed; remove it")
    return path


def _lies_in(path: Path, home: Path) -> bool:
    try:
        return path.resolve().is_relative_to(home)
    except (OSError, RuntimeError):  # links in a circle
        return False


def _home(path: Path) -> Path:
    """The folder that holds all of the repository of a file in the cache."""
    root = cache()
    return root.resolve() / path.relative_to(root).parts[0]


def find(weights: WeightsEntry) -> WeightsEntry | None:
    """As `obtain`, but None where something would have to be fetched. Imports no torch and not the Hub's library."""
    try:
        path = cached(weights.source)
        files.check(path, weights)
    except (WeightsError, OSError):
        return None
    return dataclasses.replace(weights, source=str(path))


def obtain(weights: WeightsEntry, *, offline: bool = False, token: str | None = None) -> WeightsEntry:
    """The entry with a file on this machine as its source, fetched where it is not here, and checked.

    A file in the cache that is not what the entry says is fetched again, once.

    Args:
        weights: An entry whose source is on the Hub.
        offline: Raise rather than ask the network.
        token: Of the Hub, where it is not that of the environment.

    Raises:
        WeightsError: where it cannot be fetched, or is not what its entry says.
        OutputError: where it cannot be stored.
        UsageError: where the source is not pinned, or `HF_ENDPOINT` is no address.
    """
    place = parse(weights.source)
    here = _inside(place).is_file()
    path = _fetch_whole(place, weights.bytes, offline=offline, token=token)
    try:
        files.check(path, weights)
    except WeightsError as error:
        if is_offline(offline=offline):
            raise
        _forget(path)
        said = f"{place} at {_shown(endpoint())} is not the file that its entry describes: {error}"
        if not here:
            raise WeightsError(said) from error
        path = _fetch_whole(place, weights.bytes, offline=False, token=token)
        try:
            files.check(path, weights)
        except WeightsError as again:
            _forget(path)
            raise WeightsError(said) from again
    return dataclasses.replace(weights, source=str(path))


def _fetch_whole(place: Place, most: int, *, offline: bool, token: str | None) -> Path:
    """The file; of an index its shards too."""
    path = _fetch(place, most, offline=offline, token=token)
    for part in files.parts(path)[1:]:
        _fetch(place.beside(part.name), most, offline=offline, token=token)
    return path


def _forget(path: Path) -> None:
    """Take a file that is not what it should be out of the cache, so that nothing reads it and it is fetched again."""
    parts = [path]
    with contextlib.suppress(WeightsError):
        parts = list(files.parts(path))
    for part in parts:
        with contextlib.suppress(OSError):
            _unlink(part, _home(part))


def _unlink(path: Path, home: Path) -> None:
    """Remove a file of the cache, or a link and what it leads to, but nothing that does not lie in the cache itself."""
    if not _lies_in(path.parent, home):
        return
    target = path.parent / path.readlink() if path.is_symlink() else None
    path.unlink(missing_ok=True)
    if target is not None:
        _unlink(target, home)


def fetch(place: Place, *, most: int = LARGEST, offline: bool = False, token: str | None = None) -> Path:
    """One file of a pinned commit whose SHA-256 no entry states: cached, else downloaded into the cache at once.

    The cache names a file by the digest of its content, which is that of the server's `ETag`: a file that changed since
    is fetched again.

    Args:
        place: The file.
        most: Largest size that is accepted, in bytes.
        offline: Raise rather than ask the network.
        token: Of the Hub, where it is not that of the environment.

    Raises:
        WeightsError, OutputError, UsageError: as `obtain`.
    """
    path = _fetch(place, most, offline=offline, token=token)
    if _has_content_of(path, path.resolve().name):
        return path
    if is_offline(offline=offline):
        raise WeightsError(f"{place} was changed or damaged since it was downloaded; load it once with a network")
    _forget(path)
    return _fetch(place, most, token=token)


def _has_content_of(path: Path, digest: str) -> bool:
    """Whether a file has this SHA-256, or this SHA-1 of git or plain; True where the name is no digest."""
    if not _DIGEST.fullmatch(digest):
        return True  # stored by another library, or where the cache has no links
    if len(digest) == 64:
        return files.sha256_of(path) == digest
    content = path.read_bytes()
    heads = (b"blob %d\0" % len(content), b"")
    return digest in {hashlib.sha1(head + content, usedforsecurity=False).hexdigest() for head in heads}


def _fetch(place: Place, most: int, *, offline: bool = False, token: str | None = None) -> Path:
    path = _inside(place)
    if path.is_file():
        return path
    if is_offline(offline=offline):
        raise WeightsError(
            f"{place} is not on this machine and may not be fetched (offline); load it once with a network"
        )
    address = endpoint()
    blobs = _home(path) / "blobs"
    with told(str(place), token):
        reach(address)
        with downloads.partial(blobs / hashlib.sha256(str(place).encode()).hexdigest()) as part:
            if path.is_file():  # another process fetched it meanwhile
                return _inside(place)
            named = _Named()
            downloads.download(lambda headers: _ask(place, address, token, headers, named), part, most=most)
            if named.commit != place.revision:
                raise WeightsError(f"{_shown(address)} gave another commit than that of {place}; nothing was loaded")
            if not _DIGEST.fullmatch(named.etag) or not _has_content_of(part, named.etag):
                raise WeightsError(
                    f"{place} from {_shown(address)} does not have the content that its ETag "
                    f"{one_line(named.etag)[:80]!r} names (expected its SHA-256 or git's SHA-1): it was damaged on its "
                    "way, or this is not a server of the Hub; nothing was loaded"
                )
            _store(part, blobs / named.etag, path)
    return _inside(place)


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
    """What the headers of the Hub say of a file."""

    commit: str | None = None
    etag: str = ""


@contextlib.contextmanager
def _ask(
    place: Place, address: str, token: str | None, headers: dict[str, str], named: _Named
) -> Iterator[downloads.Answer]:
    """One GET request for a file, with the HTTP client of the Hub's library; `named` is set from its headers.

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
            if _origin(target) not in (_origin(address), _origin(_HUB)):
                sent.pop("Authorization", None)
            url = target
    except Exception as error:
        if isinstance(error, errors.HfHubHTTPError) or not type(error).__module__.startswith(_HTTP):
            raise
        raise ConnectionError(one_line(error) or type(error).__name__) from error
    raise ConnectionError(f"more than {downloads.REDIRECTS} redirects")


def _origin(address: str) -> tuple[str, str, int | None]:
    place = urllib.parse.urlsplit(address)
    return place.scheme, (place.hostname or "").lower(), place.port or {"https": 443, "http": 80}.get(place.scheme)


def describe(name: str, *, offline: bool = False, token: str | None = None) -> tuple[ModelEntry, WeightsEntry]:
    """The architecture and the weights of `hub:ORG/REPO@REVISION`, a repository that `zoo push` made.

    Raises:
        WeightsError: where it cannot be fetched, or its `config.json` says no such thing.
        UnknownNameError: where the plugin with its architecture is not installed.
        UsageError: where the name is not pinned.
    """
    place = parse(name)
    if place.file:
        raise UsageError(f"{name!r} names a file; a model is hub:{place.repo}@{place.revision}")
    config = dataclasses.replace(place, file=CONFIG)
    path = fetch(config, most=LONGEST_CONFIG, offline=offline, token=token)
    try:
        said = _said(path)
        architecture = _matching(said["architecture"], catalog.NAME, "name of a model")
        distribution = _matching(said["distribution"], _DISTRIBUTION, "name of a distribution")
        listed = said["weights"]
        weights = WeightsEntry(
            tag=_matching(listed["tag"], _TAG, "tag"),
            source=f"{place}:{WEIGHTS}",
            bytes=int(listed["bytes"]),
            sha256=str(listed["sha256"]),
            license=_license(listed, str(config)),
            metrics=tuple(Metric(**metric) for metric in listed.get("metrics", ())),
            golden=f"{place}:{GOLDEN}",
            parameters=None if said.get("parameters") is None else int(said["parameters"]),
            **files.overrides_of(said),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        _forget(path)
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise WeightsError(f"{config} is not what `zoo push` writes, and nothing was loaded: {reason}") from error
    try:
        listing, *_ = catalog.find(f"{distribution}:{architecture}")
    except UnknownNameError as error:
        installed = {listing.plugin.distribution for listing in catalog.listings()}
        known = [listing.full_name for listing in catalog.listings()]
        hint = f"{place} is for {architecture} of {distribution}"
        hint += (
            ""
            if distribution in installed
            else f", which is not installed: pip install {distribution}, if you trust it"
        )
        raise UnknownNameError("model", f"{distribution}:{architecture}", known, hint) from error
    return dataclasses.replace(listing.entry, weights=(weights,)), weights


def _said(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LONGEST_CONFIG:
        raise ValueError(f"it is longer than {LONGEST_CONFIG:,} bytes")
    said = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise ValueError(f"expected a JSON object with format {FORMAT}")
    return said


def _license(listed: dict[str, Any], where: str) -> str:
    """The license of weights; version 0.1 wrote it under another name."""
    if "license" not in listed and "licence" in listed:
        warn_of_licence(where, stacklevel=5)
        return str(listed["licence"])
    return str(listed.get("license", "unknown"))


def _matching(text: object, pattern: re.Pattern[str], what: str) -> str:
    """The text; whoever reads a message copies names from it, so that they hold nothing else."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no {what}")
    return text


@contextlib.contextmanager
def told(what: str, token: str | None = None) -> Iterator[None]:
    """Turn errors of the Hub's library into one message each, without a token; `what` was asked for.

    What the library logs is shown without tokens and control characters, since servers write some of it, and it does
    not wait longer than `downloads.LONGEST_WAIT` where a server asks for that.

    Raises:
        WeightsError: where the Hub refuses or cannot be reached.
        OutputError: where a file cannot be stored.
        UsageError: where the token holds what no token holds.
    """
    if token is not None and re.search(r"[^!-~]", token):
        raise UsageError("the token holds a space, a line break or another character that tokens do not have")
    try:
        with _redacting(token), _limiting(what):
            yield
    except (OSError, ValueError, RuntimeError) as error:
        _raise(what, error, token)
    except Exception as error:
        if not type(error).__module__.startswith(("huggingface_hub", *_HTTP)):
            raise
        _raise(what, error, token)


@contextlib.contextmanager
def _redacting(token: str | None) -> Iterator[None]:
    """Keep tokens and control characters out of what the Hub's library logs."""
    import logging

    import huggingface_hub.hf_api  # with it come all loggers of the library

    def redact(record: logging.LogRecord) -> bool:
        record.msg, record.args = one_line(_redacted(record.getMessage(), token)), ()
        return True

    library = huggingface_hub.__name__
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith(library)]
    for logger in loggers:
        logger.addFilter(redact)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(redact)


@contextlib.contextmanager
def _limiting(what: str) -> Iterator[None]:
    """Refuse a wait that a server asks for and that is too long; the Hub's library waits as long as it is told."""
    from huggingface_hub import get_session

    def refuse(response: Any) -> None:
        wait = downloads.retry_after(response.headers)
        if response.status_code in downloads.PASSING and wait is not None and wait > downloads.LONGEST_WAIT:
            raise WeightsError(
                f"{what} was refused by {_shown(endpoint())} (answer {response.status_code}), which asks to wait "
                f"{wait:,.0f} seconds; try again then"
            )

    client = get_session()
    before = client.event_hooks
    client.event_hooks = {**before, "response": [*before["response"], refuse]}
    try:
        yield
    finally:
        client.event_hooks = before


def _raise(what: str, error: BaseException, token: str | None) -> NoReturn:
    """Say what went wrong; the error itself is not chained, since servers may repeat a token in theirs."""
    from huggingface_hub import errors

    where = _shown(endpoint())
    open_it = "log in with `hf auth login`, or give a token (--token, HF_TOKEN)"
    cause = error
    while cause.__cause__ is not None and isinstance(cause, errors.LocalEntryNotFoundError | RuntimeError):
        cause = cause.__cause__  # these only say that something went wrong
    response = getattr(cause, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(cause, errors.OfflineModeIsEnabled):
        said = "may not be fetched: HF_HUB_OFFLINE was set when this process began"
    elif isinstance(cause, errors.GatedRepoError):
        said = f"is gated: ask for access on its page at {where}, then {open_it}"
    elif isinstance(cause, errors.RevisionNotFoundError):
        said = f"does not exist: the repository at {where} has no such commit"
    elif isinstance(cause, errors.EntryNotFoundError) and status is not None:
        said = f"does not exist: the repository at {where} has no such file at this commit"
    elif isinstance(cause, errors.RepositoryNotFoundError) or status == 401:
        said = f"does not exist at {where} (answer {status}), or is private: check the name; if it is right, {open_it}"
    elif status == 403:
        said = f"is forbidden at {where} (answer 403): the token may not do this; {open_it}"
    elif status == 412:
        said = f"changed at {where} meanwhile (answer 412); do it again"
    elif status == 429:
        after = response.headers.get("Retry-After") if response is not None else None
        said = f"was refused by {where}: too many requests (answer 429); try again " + (
            f"in {after} seconds" if after and after.isdigit() else "later"
        )
    elif status is not None:
        said = f"failed: {where} answers {status}; try again later"
    elif isinstance(cause, errors.HFValidationError):
        raise UsageError(f"{what}: {_redacted(str(cause), token)}") from None
    elif isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        raise OutputError(f"{what} cannot be stored in {cache()}: {cause.strerror}; free some space and try again")
    elif isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError):
        raise OutputError(f"{what} cannot be stored in {cache()}: {cause.strerror}")
    else:
        reason = " ".join(str(cause).split("\n", 1)[0].split()) or type(cause).__name__
        said = f"could not be transferred: {where}: {_redacted(reason, token)}; check the network and try again"
    raise WeightsError(f"{what} {said}") from None


def _redacted(text: str, token: str | None = None) -> str:
    """A text without tokens."""
    import huggingface_hub

    known = (token, os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), huggingface_hub.get_token())
    for secret in known:
        if secret and secret.strip():
            text = text.replace(secret.strip(), "***")
    return _TOKEN.sub("***", text)


def _shown(address: str) -> str:
    return _redacted(address)
