"""Explanations of video models: attributions, activation maximization, receptive fields, and reports.

Importing this package does not import torch; functions are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.names import lazily

if TYPE_CHECKING:
    from explain.attribution import Attribution, applicability, attribute
    from explain.attribution.methods import Method
    from explain.faithfulness import Faithfulness, check_faithfulness
    from explain.fields.effective import EffectiveField, effective_field
    from explain.fields.theoretical import ReceptiveField, receptive_fields
    from explain.maximization import Maximization, TopClips, maximize, top_clips
    from explain.maximization.unit_views import UnitView, view_units
    from explain.model.regions import Region
    from explain.reporting import Report, compare, report
    from explain.reporting.sections import Content, Section
    from explain.robustness import (
        ClipsRobustness,
        Robustness,
        check_robustness,
        check_robustness_on_clips,
        check_robustness_on_recipe,
    )
    from explain.temporal import TemporalParameters, temporal_parameters

#: Module that defines each public name; imported on first access.
_HOMES = {
    "Attribution": "explain.attribution",
    "ClipsRobustness": "explain.robustness",
    "Content": "explain.reporting.sections",
    "EffectiveField": "explain.fields.effective",
    "Faithfulness": "explain.faithfulness",
    "Maximization": "explain.maximization",
    "Method": "explain.attribution.methods",
    "ReceptiveField": "explain.fields.theoretical",
    "Region": "explain.model.regions",
    "Report": "explain.reporting",
    "Robustness": "explain.robustness",
    "Section": "explain.reporting.sections",
    "TemporalParameters": "explain.temporal",
    "TopClips": "explain.maximization",
    "UnitView": "explain.maximization.unit_views",
    "applicability": "explain.attribution",
    "attribute": "explain.attribution",
    "check_faithfulness": "explain.faithfulness",
    "check_robustness": "explain.robustness",
    "check_robustness_on_clips": "explain.robustness",
    "check_robustness_on_recipe": "explain.robustness",
    "compare": "explain.reporting",
    "effective_field": "explain.fields.effective",
    "maximize": "explain.maximization",
    "receptive_fields": "explain.fields.theoretical",
    "report": "explain.reporting",
    "temporal_parameters": "explain.temporal",
    "top_clips": "explain.maximization",
    "view_units": "explain.maximization.unit_views",
}

__all__ = list(_HOMES)

__getattr__, __dir__ = lazily(__name__, _HOMES)
