"""What is installed in the entry-point group `zoo.plugins`: read from the folders of sys.path, nothing is imported.

`importlib.metadata` would say the same; importing it takes as long as everything else that `zoo list` does.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from zoo.errors import PluginWarning

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Entry-point group that plugins register in.
GROUP = "zoo.plugins"


@dataclass(frozen=True)
class EntryPoint:
    """One line of the group: `name = value`."""

    name: str
    #: "package.module" or "package.module:attribute".
    value: str

    def load(self) -> Any:
        """Import what the line names."""
        module, _, attributes = self.value.partition(":")
        return reduce(getattr, filter(None, attributes.split(".")), importlib.import_module(module))


def installed() -> list[tuple[str, str, EntryPoint]]:
    """Distribution, version and entry point of everything installed in the group, in a stable order.

    What cannot be read is reported and left out.
    """
    if any(map(_holds_more, sys.meta_path)) or any(map(os.path.isfile, sys.path)):
        found = list(_anywhere())
    else:
        found = [item for folder in dict.fromkeys(sys.path) for item in _in_folder(folder or os.curdir)]
    return sorted(found, key=lambda item: (item[0], item[2].name))


def _holds_more(finder: Any) -> bool:
    """Whether distributions may lie elsewhere than in folders: a bundler's finder says so."""
    return hasattr(finder, "find_distributions") and getattr(finder, "__name__", "") != "PathFinder"


def _anywhere() -> Iterator[tuple[str, str, EntryPoint]]:
    """Entry points in archives and wherever else finders look."""
    from importlib import metadata

    for distribution in metadata.distributions():
        try:
            lines = _lines_of_group(distribution.read_text("entry_points.txt") or "")
            points = [_entry_point(line) for line in lines]
            name, version = (distribution.metadata["Name"] or "unknown", distribution.version) if points else ("", "")
        except Exception as error:  # noqa: BLE001 - metadata of a stranger's distribution may be anything
            _report(getattr(distribution, "_path", "an installed distribution"), error)
        else:
            yield from ((name, version, point) for point in points)


def _in_folder(folder: str) -> Iterator[tuple[str, str, EntryPoint]]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - as below
    except OSError:  # sys.path may name what is not there
        return
    for name in names:
        if not name.endswith((".dist-info", ".egg-info")):
            continue
        metadata = os.path.join(folder, name)  # noqa: PTH118 - pathlib takes several times as long, for each distribution
        try:
            points = [_entry_point(line) for line in _lines_of_group(_read(metadata, "entry_points.txt"))]
            if not points:
                continue
            said = _headers(_read(metadata, "METADATA") or _read(metadata, "PKG-INFO"))
        except (OSError, ValueError) as error:
            _report(metadata, error)
            continue
        for point in points:
            yield said.get("name", "unknown"), said.get("version", ""), point


def _read(metadata: str, name: str) -> str:
    try:
        with open(os.path.join(metadata, name), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - as above
            return file.read()
    except (FileNotFoundError, NotADirectoryError):  # an egg-info may be a file
        return ""


def _lines_of_group(text: str) -> list[str]:
    if GROUP not in text:
        return []
    section, lines = "", []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        elif section == f"[{GROUP}]" and line and not line.startswith(("#", ";")):
            lines.append(line)
    return lines


def _entry_point(line: str) -> EntryPoint:
    name, equals, value = (part.strip() for part in line.partition("="))
    if not (name and equals and value):
        raise ValueError(f"expected 'name = package.module', got {line!r}")
    return EntryPoint(name, value.partition("[")[0].strip())  # extras are pip's concern


def _headers(text: str) -> dict[str, str]:
    """The fields at the head of a distribution's metadata, by lower-case name."""
    head = text.partition("\n\n")[0]
    return {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in head.splitlines())}


def _report(where: object, error: Exception) -> None:
    warnings.warn(f"the entry points of {where} cannot be read: {error}", PluginWarning, stacklevel=3)
