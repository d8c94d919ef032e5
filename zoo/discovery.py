"""What is installed in the entry-point group `zoo.plugins`; nothing is imported."""

from __future__ import annotations

import re
import warnings
from importlib import metadata
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import PluginWarning, describe, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GROUP", "EntryPoint", "canonical", "installed"]

#: Entry-point group that plugins register in.
GROUP = "zoo.plugins"


def canonical(name: str) -> str:
    """The name of a distribution as PEP 503 compares it: `My_Plugin` and `my-plugin` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> list[tuple[str, str, EntryPoint]]:
    """Distribution, version and entry point of everything installed in the group, in a stable order.

    What cannot be read is reported and left out. Of several versions of one distribution the one that Python imports is
    taken: the first on `sys.path`, of one folder the highest; the others are reported.
    """
    versions: dict[str, list[_Found]] = {}
    for one in _found():
        versions.setdefault(canonical(one.distribution), []).append(one)
    points: list[tuple[str, str, EntryPoint]] = []
    for same in versions.values():
        used = max((one for one in same if one.folder == same[0].folder), key=lambda one: _order(one.version))
        for other in same:
            if other.version != used.version:
                _report_versions(used, other)
        points += [(used.distribution, used.version, point) for point in used.points]
    return sorted(points, key=lambda item: (item[0], item[2].name))


class _Found(NamedTuple):
    """A distribution with plugins."""

    distribution: str
    version: str
    points: list[EntryPoint]
    #: Where it is installed, as far as its finder says.
    folder: object


class _Readable(metadata.Distribution):
    """A distribution whose files may begin with a byte-order mark, as editors on Windows write them."""

    def __init__(self, inner: metadata.Distribution) -> None:
        self._inner = inner
        #: Where its metadata lies, as far as its finder says.
        self.place: Any = getattr(inner, "_path", None)

    def read_text(self, filename: str) -> str | None:
        """The text of one of its files; None where there is none."""
        text = self._inner.read_text(filename)
        if text is None and self.place is not None and (self.place / filename).is_file():
            raise PermissionError(f"{filename} must not be read")  # importlib.metadata passes it over
        return text and text.removeprefix("\ufeff")

    def locate_file(self, path: Any) -> Any:
        """The place of one of its files."""
        return self._inner.locate_file(path)


def _found() -> Iterator[_Found]:
    """Every distribution with plugins, in the order of `sys.path`."""
    for inner in metadata.distributions():
        distribution = _Readable(inner)
        try:
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            points = list(distribution.entry_points.select(group=GROUP))
            for point in points:
                if not (point.name and EntryPoint.pattern.match(point.value)):
                    raise ValueError(f"expected 'name = package.module', got '{point.name} = {point.value}'")
            about = distribution.metadata if points else {"Name": "", "Version": ""}
            name, version = about["Name"] or "unknown", about["Version"] or ""
        except Exception as error:  # noqa: BLE001 - metadata of anybody's distribution may hold anything
            where = one_line(distribution.place or "an installed distribution")
            warnings.warn(f"the entry points of {where} cannot be read: {describe(error)}", PluginWarning, stacklevel=4)
        else:
            if points:
                yield _Found(name, version, points, getattr(distribution.place, "parent", None))


def _order(version: str) -> list[tuple[int, int | str]]:
    """Sort key that puts 1.10 after 1.9, and 1.0 after 1.0rc1."""
    parts = re.findall(r"\d+|[a-z]+", version.lower())
    return [*((1, int(part)) if part.isdigit() else (2 * (part == "post"), part) for part in parts), (1, -1)]


def _report_versions(used: _Found, other: _Found) -> None:
    warnings.warn(
        f"{used.distribution} is installed in two versions: {used.version} in {one_line(used.folder)} is used, and "
        f"{other.version} in {one_line(other.folder)} is not; uninstall one of them",
        PluginWarning,
        stacklevel=4,
    )
