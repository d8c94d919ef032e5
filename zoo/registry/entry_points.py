"""Discovery of the entry-point group `zoo.plugins` without imports, and detection of imports of torch."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from importlib import metadata
from importlib.metadata import EntryPoint
from types import FrameType
from typing import Any, NamedTuple, Self

from zoo.errors import PluginWarning, describe, one_line

__all__ = ["GROUP", "EntryPoint", "Watch", "canonical", "installed"]

#: Entry-point group that plugins register in.
GROUP = "zoo.plugins"


def canonical(name: str) -> str:
    """Normalize the name of a distribution as in PEP 503: `My_Plugin` and `my-plugin` are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> list[tuple[str, str, EntryPoint]]:
    """Return distribution, version and entry point of all plugins in the group, in a stable order.

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
    #: Folder of the installation, if its finder provides it.
    folder: object


class _Readable(metadata.Distribution):
    """A distribution whose files may begin with a byte-order mark, as editors on Windows write them."""

    def __init__(self, inner: metadata.Distribution) -> None:
        self._inner = inner
        #: Folder of the metadata, if its finder provides it.
        self.place: Any = getattr(inner, "_path", None)

    def read_text(self, filename: str) -> str | None:
        """Return the text of one of its files, or None."""
        text = self._inner.read_text(filename)
        if text is None and self.place is not None and (self.place / filename).is_file():
            raise PermissionError(f"{filename} must not be read")  # importlib.metadata passes it over
        return text and text.removeprefix("\ufeff")

    def locate_file(self, path: Any) -> Any:
        """Return the path of one of its files."""
        return self._inner.locate_file(path)


def _found() -> Iterator[_Found]:
    """Return every distribution with plugins, in the order of `sys.path`."""
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
    """Return a sort key that puts 1.10 after 1.9, and 1.0 after 1.0rc1."""
    parts = re.findall(r"\d+|[a-z]+", version.lower())
    return [*((1, int(part)) if part.isdigit() else (2 * (part == "post"), part) for part in parts), (1, -1)]


def _report_versions(used: _Found, other: _Found) -> None:
    warnings.warn(
        f"{used.distribution} is installed in two versions: {used.version} in {one_line(used.folder)} is used, and "
        f"{other.version} in {one_line(other.folder)} is not; uninstall one of them",
        PluginWarning,
        stacklevel=4,
    )


class Watch:
    """While it is entered, notes where in the code of a package a module is first imported.

    Args:
        module: Name of the module to look out for; where it was imported before, nothing is noted.
        package: Whose line is to blame, where it, or something that it imports, imports the module.
    """

    def __init__(self, module: str, package: str) -> None:
        self.module = module
        self.package = package
        #: "path/of/file.py:line" of the import; empty for none.
        self.importer = ""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Record the importing code; find nothing, so that the import proceeds as usual."""
        del path, target
        if name != self.module or self.importer:
            return
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the importer is only visible on the stack
        while frame is not None:
            code = frame.f_code.co_filename
            if not self.importer and not code.startswith("<frozen"):
                self.importer = f"{code}:{frame.f_lineno}"
            if str(frame.f_globals.get("__name__")).partition(".")[0] == self.package:
                self.importer = f"{code}:{frame.f_lineno}"
                return
            frame = frame.f_back

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
