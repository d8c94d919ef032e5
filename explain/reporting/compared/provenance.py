"""What was run: models, weights, evaluations, the settings and the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting.builtin.provenance import of_model, of_run
from explain.reporting.rendering import render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explain.reporting.context import Subject

#: What a page tells of an evaluation beside its figures.
_TOLD = ("measured_as", "clips_measured", "sha256", "torch", "device")


def build(subjects: Sequence[Subject]) -> Content:
    """Facts about each model and its evaluation, then about the run."""
    data = facts(subjects)
    return Content(html=render("compared_provenance.html", **data), data=data)


def facts(subjects: Sequence[Subject]) -> dict[str, Any]:
    """What someone needs who wants to get the same numbers again."""
    models = [
        {
            **of_model(subject),
            "evaluation": {key: subject.evaluation.get(key) for key in _TOLD} if subject.evaluation else None,
        }
        for subject in subjects
    ]
    return {"models": models, **of_run(subjects[0])}
