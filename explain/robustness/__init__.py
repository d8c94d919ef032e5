"""What noise, missing pixels and wrong frames do to what a model says.

Nothing here imports torch until a function is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.robustness.checking import check_robustness
    from explain.robustness.results import Curve, Measure, Robustness

#: Where each public name is defined; imported when it is first asked for.
_HOMES = {
    "Curve": "explain.robustness.results",
    "Measure": "explain.robustness.results",
    "Robustness": "explain.robustness.results",
    "check_robustness": "explain.robustness.checking",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
