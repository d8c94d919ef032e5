"""Downloads of all files from networks: resumable, locked, and bounded in size, rate and waiting time.

The server never chooses a file's name: the caller provides its path and checks its digest. A file
arrives in a partial file beside its place, `.NAME.part`, under a lock, so that one process fetches it and the others
wait. An interrupted download leaves that one partial file, and the next run resumes it.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from zoo.errors import OutputError, one_line
from zoo.writing import is_running

if TYPE_CHECKING:

    class Headers(Protocol):
        """Headers of an answer; looking one up ignores case."""

        def get(self, name: str, /) -> str | None:
            """Return the value of a header, or None."""

    Ask = Callable[[dict[str, str]], AbstractContextManager["Answer"]]

#: Attempts in a row that bring less than `PROGRESS` bytes before a download is given up.
TRIES: Final = 5

#: Bytes after which an attempt counts as progress.
PROGRESS: Final = 2**16

#: Seconds before the second attempt; each further one waits twice as long, at most `LONGEST_PAUSE`.
PAUSE: Final = 1.0

LONGEST_PAUSE: Final = 8.0

#: Longest `Retry-After`, in seconds, that is waited for.
LONGEST_WAIT: Final = 60.0

#: Seconds without a byte after which an attempt ends.
READ_TIMEOUT: Final = 30.0

#: A server has to send this many bytes per second on average over `RATE_WINDOW` seconds.
LEAST_RATE: Final = 1000.0

RATE_WINDOW: Final = 60.0

#: Redirects that are followed for one request.
REDIRECTS: Final = 10

#: Answers of a server after which the request is repeated.
PASSING: Final = frozenset({408, 429, 500, 502, 503, 504})

#: Seconds after which a partial file that no process holds is removed when another file is fetched into its folder.
ABANDONED: Final = 86_400.0

_CHUNK = 2**20


@dataclass(frozen=True)
class Answer:
    """A server's answer to one request, its body not read yet."""

    #: HTTP status.
    status: int
    headers: Headers
    #: The body, in pieces as they arrive.
    body: Iterator[bytes]
    #: Raise the error that this status means to the caller.
    fail: Callable[[], Any]


@contextlib.contextmanager
def partial(target: Path) -> Iterator[Path]:
    """Hold the partial file of `target` for one process; others wait until it is done.

    It is left in place where the block raises an OSError or is interrupted, so that the next run resumes it, and
    removed where the block ends or raises anything else. Partial files that ended processes left in the same folder
    are removed.

    Raises:
        OutputError: if the folder cannot be written.
    """
    from filelock import FileLock

    part = target.with_name(f".{target.name}.part")
    lock = FileLock(f"{part}.lock")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _sweep(part)
        lock.acquire()
    except OSError as error:
        raise OutputError(f"cannot write {part.parent}: {error.strerror or error}") from error
    keep = True
    try:
        yield part
        keep = False
    except (OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        keep = False
        raise
    finally:
        with contextlib.suppress(OSError):
            if not keep or not part.stat().st_size:
                part.unlink()
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)  # noqa: PTH108 - a text; whoever waits for it looks for the file again
        lock.release()


def _sweep(part: Path) -> None:
    """Remove other partial files of this folder that no running process writes."""
    from filelock import FileLock, Timeout

    for other in part.parent.glob(".*.part"):
        if other == part:
            continue
        with contextlib.suppress(OSError, Timeout):
            owner = re.fullmatch(r"\..+\.(\d+)\.part", other.name)  # as version 0.1 named them
            if owner is not None and not is_running(int(owner[1])):
                other.unlink()
            elif time.time() - other.stat().st_mtime > ABANDONED:
                with FileLock(f"{other}.lock", blocking=False):
                    other.unlink()
                    os.unlink(f"{other}.lock")  # noqa: PTH108 - a text


def download(ask: Ask, part: Path, *, most: int) -> None:
    """Fetch what is missing of a file into `part`, resuming after broken connections.

    Args:
        ask: Sends one GET request with the headers that it is given; raises OSError where the connection fails.
        part: The partial file, appended to.
        most: Largest size that is accepted, in bytes.

    Raises:
        ConnectionError: if the server sends too much or too slowly, or connections keep failing.
        OutputError: if the bytes cannot be stored.
        Exception: what `Answer.fail` raises of an answer that another attempt would not change, or of a server that
            keeps answering so, or that asks for a wait of more than `LONGEST_WAIT` seconds.
    """
    failed = 0
    while True:
        here, final = size_of(part), False
        pause = min(PAUSE * 2**failed, LONGEST_PAUSE)
        try:
            with ask({"Range": f"bytes={here}-"} if here else {}) as answer:
                if answer.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    _receive(answer, part, most)
                    return
                if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and here:
                    part.unlink()  # the file is another one than when the partial one was begun
                asked = retry_after(answer.headers)
                passing = answer.status in PASSING or bool(here and not size_of(part))
                final = not passing or failed + 1 >= TRIES or (asked or 0) > LONGEST_WAIT
                if final:
                    answer.fail()
                pause = pause if asked is None else asked
                failed += 1
        except OSError as error:
            if final or isinstance(error, _FinalError):
                raise
            failed = 0 if size_of(part) - here >= PROGRESS else failed + 1
            if failed >= TRIES:
                raise
        time.sleep(pause)


class _FinalError(ConnectionError):
    """A download that another attempt would not help."""


def _receive(answer: Answer, part: Path, most: int) -> None:
    """Append the body of a response; start over if the server sends the whole file."""
    from tqdm import tqdm

    resumed = answer.status == HTTPStatus.PARTIAL_CONTENT
    here = size_of(part) if resumed else 0
    length = answer.headers.get("Content-Length") or ""
    total = here + int(length) if length.isdigit() else None
    if total is not None and total > most:
        _refuse(part, most)
    rate = _Rate()
    with (
        _opened(part, "ab" if resumed else "wb") as file,
        tqdm(
            desc=one_line(part.name.removeprefix(".").removesuffix(".part")),
            total=total,
            initial=here,
            unit="B",
            unit_scale=True,
            disable=None,
            file=sys.stderr,
        ) as bar,
    ):
        for chunk in answer.body:
            here += len(chunk)
            if here > most:
                _refuse(part, most)
            _put(file, chunk, part)
            bar.update(len(chunk))
            rate.add(len(chunk))
    if total is not None and here < total:
        raise ConnectionError(f"the connection broke after {here:,} of {total:,} bytes")


def _refuse(part: Path, most: int) -> None:
    part.unlink(missing_ok=True)
    raise _FinalError(f"the server sends more than the {most:,} bytes that are expected")


class _Rate:
    """Transfer rate of a response."""

    def __init__(self) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def add(self, size: int) -> None:
        """Count received bytes; raise where a whole window brought too few."""
        self._bytes += size
        seconds = time.monotonic() - self._since
        if seconds < RATE_WINDOW:
            return
        if self._bytes < LEAST_RATE * seconds:
            raise _FinalError(
                f"the server sent {self._bytes:,} bytes in {seconds:.0f} seconds, less than {LEAST_RATE:,.0f} a second"
            )
        self._since, self._bytes = time.monotonic(), 0


def retry_after(headers: Headers) -> float | None:
    """Return the seconds to wait: `Retry-After` in seconds or as a date, or the reset of `RateLimit`."""
    said = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", said):
        return float(said)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    reset = re.search(r"\bt=(\d+)", headers.get("RateLimit") or "")
    return float(reset[1]) if reset else None


@contextlib.contextmanager
def ask_url(address: str, headers: dict[str, str]) -> Iterator[Answer]:
    """Send one GET request with Python's own client, which uses the environment's proxies.

    Raises:
        OSError: if the connection fails.
    """
    import http.client
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = REDIRECTS

        def redirect_request(self, *given: Any) -> urllib.request.Request | None:
            check_redirect(address, given[-1])
            return super().redirect_request(*given)

    request = urllib.request.Request(address, headers={"Accept-Encoding": "identity", **headers})  # noqa: S310 - callers check it
    try:
        with urllib.request.build_opener(Redirects).open(request, timeout=READ_TIMEOUT) as answer:
            yield Answer(answer.status, answer.headers, iter(lambda: answer.read1(_CHUNK), b""), lambda: None)
    except urllib.error.HTTPError as error:
        status, reason = error.code, error.reason

        def fail() -> None:
            raise _FinalError(f"the server answers {status} {one_line(reason)}")

        with contextlib.closing(error):
            yield Answer(status, error.headers, iter(()), fail)
    except urllib.error.URLError as error:
        raise ConnectionError(one_line(error.reason)) from error
    except http.client.HTTPException as error:
        raise ConnectionError(one_line(error) or type(error).__name__) from error


def check_redirect(address: str, target: str) -> None:
    """Refuse a redirect that leaves HTTP, or from an encrypted address to one that is not.

    Raises:
        ConnectionError: if it does.
    """
    schemes = {"https"} if urlsplit(address).scheme == "https" else {"https", "http"}
    try:
        scheme = urlsplit(target).scheme
    except ValueError:
        scheme = ""
    if scheme not in schemes:
        raise _FinalError(f"the server redirects to {one_line(target)[:80]!r}, which is not followed from {address}")


def size_of(part: Path) -> int:
    """Return the bytes of a partial file; 0 if it does not exist."""
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


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
        hint = "; free some space and try again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise OutputError(f"cannot write {part.parent}: {error.strerror}{hint}") from error
