"""What the model says about the clip, head by head, with its confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting.rendering import percent_text, render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from explain.reporting.context import Context


def build(context: Context) -> Content:
    """The clip beside the prediction of each head."""
    data = {"target": context.target.description, "truth": context.clip.label, "heads": context.prediction}
    return Content(html=render("prediction.html", context=context, **data), data=data)


def sentence(prediction: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole prediction in one sentence, with heads named where there are several; empty where none has words."""
    several = len(prediction) > 1
    said = [
        f"{name} {described}" if several else described
        for name, head in prediction.items()
        if (described := _in_words(head))
    ]
    if not said:
        return ""
    return "It says: " + ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1] + "."


def _in_words(head: Mapping[str, Any]) -> str:
    if head["kind"] == "classes":
        best = head["top"][0]
        return f"{best['label']} ({percent_text(best['probability'])} sure)"
    if head["kind"] == "value":
        return f"{head['value']:.2f} {head['unit']}".strip()
    return ""
