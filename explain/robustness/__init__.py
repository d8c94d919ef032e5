"""Robustness of a model's outputs to noise, missing pixels and wrong frames.

Importing this package does not import torch; functions are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.robustness.checking import check_robustness
    from explain.robustness.clips import ClipsRobustness, check_robustness_on_clips
    from explain.robustness.recipes import check_robustness_on_recipe
    from explain.robustness.results import Curve, Measure, Robustness

#: Module that defines each public name; imported on first access.
_HOMES = {
    "ClipsRobustness": "explain.robustness.clips",
    "Curve": "explain.robustness.results",
    "Measure": "explain.robustness.results",
    "Robustness": "explain.robustness.results",
    "check_robustness": "explain.robustness.checking",
    "check_robustness_on_clips": "explain.robustness.clips",
    "check_robustness_on_recipe": "explain.robustness.recipes",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
