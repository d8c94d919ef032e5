"""The Hub endpoint, its errors as errors of the zoo, and tokens kept out of messages."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from zoo.errors import OutputError, UsageError, WeightsError, one_line
from zoo.weights import downloads
from zoo.weights.caches import hub_cache

OFFLINE = "ZOO_OFFLINE"


def is_offline(*, offline: bool = False, variables: Sequence[str] = (OFFLINE,)) -> bool:
    """Check whether the network is disabled, by argument or by one of these variables."""
    return offline or any(os.environ.get(name, "") not in {"", "0"} for name in variables)


ENDPOINT: Final = "HF_ENDPOINT"

HUB: Final = "https://huggingface.co"

#: Each of these, set to anything but 0, forbids the network.
HUB_OFFLINE: Final = (OFFLINE, "HF_HUB_OFFLINE")

#: Seconds after which a server that does not listen is given up, and between two attempts.
_PATIENCE, _PAUSE = 4.0, 1.0

#: A host (a name, or an address of six in brackets), a port and a path, perhaps a user and a password.
_ADDRESS = re.compile(r"https?://([^\s/?#@]+@)?([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[^\s?#]*)?")

#: Modules of the HTTP clients that versions of the Hub's library use.
HTTP_CLIENTS = ("httpx", "httpcore")

_TOKEN = re.compile(r"hf_\w{4,}|(?<=://)[^/@\s]+(?=@)|(?<=[Bb]earer )\S+")


def endpoint() -> str:
    """Return the Hub's address, or that of the mirror in `HF_ENDPOINT`.

    Raises:
        UsageError: if it is invalid.
    """
    address = os.environ.get(ENDPOINT) or HUB
    if not _ADDRESS.fullmatch(address):
        said = one_line(_redacted(address))
        raise UsageError(f"{ENDPOINT} is {said!r}; expected the address of a server, https://HOST or http://HOST")
    return address.rstrip("/")


def reach(address: str) -> None:
    """Check that a server is reachable: the Hub's library would retry for half a minute or more.

    Behind a proxy, nothing is checked.

    Raises:
        ConnectionError: if it does not respond within some seconds.
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
        except (OSError, ValueError) as error:  # unknown host, refused, no response; an invalid port
            if time.monotonic() - began > _PATIENCE:
                raise ConnectionError(str(error)) from error
            time.sleep(_PAUSE)
        else:
            return


def is_hub_offline(*, offline: bool = False) -> bool:
    """Check whether the network is disabled."""
    return is_offline(offline=offline, variables=HUB_OFFLINE)


@contextlib.contextmanager
def told(what: str, token: str | None = None) -> Iterator[None]:
    """Turn errors of the Hub's library into one message each, without a token; `what` was asked for.

    What the library logs is shown without tokens and control characters, since servers write some of it, and it does
    not wait longer than `downloads.LONGEST_WAIT` where a server asks for that.

    Raises:
        WeightsError: if the Hub refuses or cannot be reached.
        OutputError: if a file cannot be stored.
        UsageError: if the token holds what no token holds.
    """
    if token is not None and re.search(r"[^!-~]", token):
        raise UsageError("the token holds a space, a line break or another character that tokens do not have")
    try:
        with _redacting(token), _limiting(what):
            yield
    except (OSError, ValueError, RuntimeError) as error:
        _raise(what, error, token)
    except Exception as error:
        if not type(error).__module__.startswith(("huggingface_hub", *HTTP_CLIENTS)):
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
    """Refuse a server's request to wait too long; the Hub's library would wait as long as requested."""
    from huggingface_hub import get_session

    def refuse(response: Any) -> None:
        wait = downloads.retry_after(response.headers)
        if response.status_code in downloads.PASSING and wait is not None and wait > downloads.LONGEST_WAIT:
            raise WeightsError(
                f"{what} was refused by {without_secrets(endpoint())} (answer {response.status_code}), which asks "
                f"to wait {wait:,.0f} seconds; try again then"
            )

    client = get_session()
    before = client.event_hooks
    client.event_hooks = {**before, "response": [*before["response"], refuse]}
    try:
        yield
    finally:
        client.event_hooks = before


def _raise(what: str, error: BaseException, token: str | None) -> NoReturn:
    """Describe the failure; the error itself is not chained, since servers may echo a token in theirs."""
    from huggingface_hub import errors

    where = without_secrets(endpoint())
    open_it = "log in with `hf auth login`, or give a token (--token, HF_TOKEN)"
    cause = error
    while cause.__cause__ is not None and isinstance(cause, errors.LocalEntryNotFoundError | RuntimeError):
        cause = cause.__cause__  # these only report that something failed
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
        raise OutputError(f"{what} cannot be stored in {hub_cache()}: {cause.strerror}; free some space and try again")
    elif isinstance(cause, OSError) and cause.errno is not None and not isinstance(cause, ConnectionError):
        raise OutputError(f"{what} cannot be stored in {hub_cache()}: {cause.strerror}")
    else:
        reason = " ".join(str(cause).split("\n", 1)[0].split()) or type(cause).__name__
        said = f"could not be transferred: {where}: {_redacted(reason, token)}; check the network and try again"
    raise WeightsError(f"{what} {said}") from None


def _redacted(text: str, token: str | None = None) -> str:
    """Remove tokens from a text."""
    import huggingface_hub

    known = (token, os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), huggingface_hub.get_token())
    for secret in known:
        if secret and secret.strip():
            text = text.replace(secret.strip(), "***")
    return _TOKEN.sub("***", text)


def without_secrets(address: str) -> str:
    """Return the address without passwords and tokens."""
    return _redacted(address)
