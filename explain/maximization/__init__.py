"""What a unit wants to see: clips made to activate it as much as possible, and the real ones that come nearest.

Nothing here imports torch until a function is called for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.maximization.optimisation import maximize
    from explain.maximization.results import Maximization
    from explain.maximization.top_activating import TopClip, TopClips, top_clips

#: Where each public name is defined; imported when it is first asked for.
_HOMES = {
    "Maximization": "explain.maximization.results",
    "TopClip": "explain.maximization.top_activating",
    "TopClips": "explain.maximization.top_activating",
    "maximize": "explain.maximization.optimisation",
    "top_clips": "explain.maximization.top_activating",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
