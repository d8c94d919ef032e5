"""Addresses on the Hugging Face Hub: `hub:ORG/REPO@REVISION:FILE`, pinned to a commit."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from zoo.errors import UsageError

_NAME = r"[A-Za-z0-9_][\w.-]*"

_PLACE = re.compile(rf"hub:(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[^@:]*))?(?::(?P<file>.*))?", re.ASCII)

_REVISION = re.compile(r"[0-9a-f]{40}")

_FILE = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)*", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A file of a repository at one commit; the repository itself where `file` is empty."""

    repo: str
    revision: str
    file: str = ""

    def __str__(self) -> str:
        return f"hub:{self.repo}@{self.revision}" + (f":{self.file}" if self.file else "")

    def beside(self, file: str) -> Place:
        """Return another file of the same folder."""
        folder = self.file.rpartition("/")[0]
        return dataclasses.replace(self, file=f"{folder}/{file}" if folder else file)


def is_repository(name: str) -> bool:
    """Check whether a name is a valid repository of the Hub: `ORG/REPO`."""
    # Folders of the cache are named ORG--REPO, which two names must not share.
    return re.fullmatch(rf"{_NAME}/{_NAME}", name, re.ASCII) is not None and not re.search(r"\.\.|--", name)


def parse(source: str) -> Place:
    """Parse `hub:ORG/REPO@REVISION` or `hub:ORG/REPO@REVISION:FILE`.

    Raises:
        UsageError: if it is malformed, or not pinned to a commit.
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
