"""What each model says about the same clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting.rendering import render
from explain.reporting.sections import Content
from zoo import clips

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explain.reporting.context import Context

#: Classes named of each output.
_TOP = 3


def build(contexts: Sequence[Context]) -> Content:
    """The clip as each model sees it, and a table of answers, model by model."""
    views: dict[str, dict[str, Any]] = {}
    for context in contexts:
        view = views.setdefault(context.picture.name, {"context": context, "names": []})
        view["names"].append(context.name)
    heads = list(dict.fromkeys(head for context in contexts for head in context.prediction))
    models = [
        {
            "name": context.name,
            "target": context.target.description,
            "heads": {head: _short(said) for head, said in context.prediction.items()},
            "conversion": clips.describe(context.clip, context.entry.input) if context.entry else [],
            "batch": list(context.batch.shape),
        }
        for context in contexts
    ]
    data = {"truth": contexts[0].clip.label, "models": models}
    return Content(html=render("predictions.html", views=list(views.values()), heads=heads, **data), data=data)


def _short(said: Any) -> dict[str, Any]:
    return {**said, "top": said["top"][:_TOP]} if said["kind"] == "classes" else dict(said)
