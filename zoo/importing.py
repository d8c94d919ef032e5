"""Imports that wait until a name is asked for, and who imports a module that should not be imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import FrameType


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are imported when they are first asked for.

    Args:
        package: Its name.
        homes: Of each public name, the module that defines it.
    """

    def find(name: str) -> Any:
        import importlib

        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return find, lambda: sorted(homes)


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
        """Note who asks; find nothing, so that the import goes on as usual."""
        del path, target
        if name != self.module or self.importer:
            return
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the stack is where the answer stands
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
