"""Whether a map can be trusted: what removing its pixels does, and whether it depends on the model at all.

Nothing here imports torch until a function is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.faithfulness.checking import check_faithfulness
    from explain.faithfulness.results import Curves, Faithfulness, Randomized, Verdict

#: Where each public name is defined; imported when it is first asked for.
_HOMES = {
    "Curves": "explain.faithfulness.results",
    "Faithfulness": "explain.faithfulness.results",
    "Randomized": "explain.faithfulness.results",
    "Verdict": "explain.faithfulness.results",
    "check_faithfulness": "explain.faithfulness.checking",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
