"""Which pixels of which frames an output rests on: methods of ours, some by Captum, and any class of Captum.

docs/methods.md says which are Captum's, and why others are ours.

Nothing here imports torch until a function is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.attribution.job import Job, Raw
    from explain.attribution.methods import Method
    from explain.attribution.results import Attribution
    from explain.attribution.runner import applicability, attribute

#: Where each public name is defined; imported when it is first asked for.
_HOMES = {
    "Attribution": "explain.attribution.results",
    "Job": "explain.attribution.job",
    "Method": "explain.attribution.methods",
    "Raw": "explain.attribution.job",
    "applicability": "explain.attribution.runner",
    "attribute": "explain.attribution.runner",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
