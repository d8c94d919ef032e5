"""Reports: self-contained pages on what a model looks at in a clip or how several compare, and every number behind.

Importing this package imports no torch; `report` does, and `compare` on a clip.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explain.reporting.assembly import report
    from explain.reporting.comparison import compare
    from explain.reporting.composition import Report

_HOMES = {
    "Report": "explain.reporting.composition",
    "compare": "explain.reporting.comparison",
    "report": "explain.reporting.assembly",
}

__all__ = ["Report", "compare", "report"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'explain.reporting' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
