"""Faithfulness of maps: the effect of removing marked pixels, and the dependence on the model's weights.

Nothing here imports torch until a function is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.faithfulness.checking import check_faithfulness
    from explain.faithfulness.results import Curves, Faithfulness, Randomized, Verdict

#: Module that defines each public name; imported on first access.
_HOMES = {
    "Curves": "explain.faithfulness.results",
    "Faithfulness": "explain.faithfulness.results",
    "Randomized": "explain.faithfulness.results",
    "Verdict": "explain.faithfulness.results",
    "check_faithfulness": "explain.faithfulness.checking",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
