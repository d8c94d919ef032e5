"""Names: natural order, wildcards, and public names of packages that are imported when they are first asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are imported when they are first asked for.

    Args:
        package: Its name.
        homes: Of each public name, the module that defines it; "package.module:" is that module itself.
    """

    def find(name: str) -> Any:
        import importlib

        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, is_module, _ = homes[name].partition(":")
        module = importlib.import_module(home)
        return module if is_module else getattr(module, name)

    return find, lambda: sorted(homes)


def natural(name: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts resnet9 before resnet18."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def is_pattern(name: str) -> bool:
    """Check whether a name contains wildcards."""
    return any(character in name for character in "*?[")


def short_name(source: str) -> str:
    """Return the display name of a clip: its file or its sample."""
    return source if "sample:" in source else Path(source).name
