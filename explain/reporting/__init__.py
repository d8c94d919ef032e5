"""Reports and comparisons of models: self-contained pages, and every number behind them.

Importing this package does not import torch; `report` does, and `compare` on a clip.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.reporting.driver import compare, report
    from explain.reporting.pages import Report

_HOMES = {
    "Report": "explain.reporting.pages",
    "compare": "explain.reporting.driver",
    "report": "explain.reporting.driver",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
