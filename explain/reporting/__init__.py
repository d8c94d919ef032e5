"""Reports: one self-contained page on what a model looks at in a clip, and every number behind it.

Importing this package imports no torch; `report` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explain.reporting.assembly import Report, report

__all__ = ["Report", "report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'explain.reporting' has no attribute {name!r}")
    from explain.reporting import assembly

    return getattr(assembly, name)


def __dir__() -> list[str]:
    return __all__
