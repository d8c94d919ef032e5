"""What the model says about the clip, head by head, with its confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting import films
from explain.reporting.rendering import number_text, percent_text, render
from explain.reporting.sections import Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from explain.reporting.context import Context


def build(context: Context) -> Content:
    """The clip beside the prediction of each head."""
    shown = films.films(context)
    heads = {
        name: {**said, **films.facts(shown[name])} if name in shown else said
        for name, said in context.prediction.items()
    }
    data = {"target": context.target.description, "truth": context.clip.label, "heads": heads}
    return Content(
        html=render("prediction.html", context=context, films=shown, **data),
        data=data,
        tensors={name: context.outputs[name] for name in shown},
        sprites=tuple(sprite for film in shown.values() for sprite in film.sprites),
    )


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
    verb = "It gives" if all(head["kind"] == "clip" for head in prediction.values()) else "It says"
    return f"{verb}: " + ", ".join(said[:-1]) + (" and " if said[1:] else "") + said[-1] + "."


def _in_words(head: Mapping[str, Any]) -> str:
    if head["kind"] == "classes":
        best = head["top"][0]
        return f"{best['label']} ({percent_text(best['probability'])} sure)"
    if head["kind"] == "value":
        return f"{head['value']:.2f} {head['unit']}".strip()
    *_, height, width = head["shape"]
    frames = head["shape"][1] if len(head["shape"]) == 4 else 1
    what, of = f"a clip of {frames} frames" if frames > 1 else "a picture", "its input"
    if head.get("follows"):
        what, of = (f"the next {frames} frames", "the true ones") if frames > 1 else ("the next frame", "the true one")
    error, again = head["squared_error"], head.get("last_frame_again")
    far = "" if error is None else f" (mean squared error from {of} {number_text(error)}"
    far += "" if error is None or again is None else f"; the last frame again has {number_text(again)}"
    return f"{what}, {width} by {height} pixels{far and far + ')'}"
