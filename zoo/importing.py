"""Who imports a module that should not be imported."""

from __future__ import annotations

import sys
from typing import Any, Self


class Watch:
    """While it is entered, notes where in the code a module is first imported.

    Args:
        module: Name of the module to look out for; where it was imported before, nothing is noted.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        #: "path/of/file.py:line" of the import; empty for none.
        self.importer = ""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Note who asks; find nothing, so that the import goes on as usual."""
        del path, target
        if name != self.module or self.importer:
            return
        frame = sys._getframe(1)  # noqa: SLF001 - the stack is where the answer stands
        while frame.f_back is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        self.importer = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)
