"""What each model says about the same clip."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from explain.reporting import colour
from explain.reporting.films import films, painted
from explain.reporting.rendering import exact, numbers, render
from explain.reporting.sections import Content
from explain.reporting.sequels import compared_with
from zoo import clips

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from explain.reporting.context import Context
    from explain.reporting.media import Sprite

#: Classes named of each output.
_TOP = 3


def build(contexts: Sequence[Context]) -> Content:
    """The clip as each model sees it, a table of answers, model by model, and those answers that are clips."""
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
    told = [
        (head, said) for context in contexts for head, said in context.prediction.items() if said["kind"] == "value"
    ]
    values = {head: [said for name, said in told if name == head] for head, _ in told}
    decimals = {head: _decimals(said) for head, said in values.items()}

    def fixed(head: str, value: float) -> Markup:
        return exact(value, f"{value:.{decimals[head]}f}".replace("-", "\N{MINUS SIGN}"))

    shown = contexts[0].clip.label
    for head, places in decimals.items():
        shown = _with_decimals(shown, values[head][0]["unit"], places)
    given = [
        (context.name, film)
        for place, context in enumerate(contexts)
        for film in films(context, f"-of-{place}").values()
    ]
    scale = max((film.difference.scale for _, film in given if film.difference), default=0.0)
    after: dict[bytes, Sprite] = {}
    for _, film in given:
        if film.truth:
            after.setdefault(film.truth.content, film.truth)
    changes = {
        film.picture.name: (
            after[film.truth.content] if film.truth else film.difference.beneath,
            painted(f"apart-{place}", film.difference.changes, scale),
        )
        for place, (_, film) in enumerate(given)
        if film.difference
    }
    errors = {
        head: numbers([(context.prediction.get(head) or {}).get("squared_error") for context in contexts])
        for head in heads
    }
    html = render(
        "predictions.html",
        views=list(views.values()),
        heads=heads,
        shown=shown,
        fixed=fixed,
        given=given,
        after=list(after.values()),
        changes=changes,
        scale=scale,
        colours=colour.signed(),
        errors=errors,
        compared_with=compared_with,
        likeliest=any(said["kind"] == "classes" for context in contexts for said in context.prediction.values()),
        **data,
    )
    pictures = [film.picture for _, film in given]
    return Content(html=html, data=data, sprites=(*pictures, *after.values(), *(over for _, over in changes.values())))


def _decimals(said: Sequence[Mapping[str, Any]]) -> int:
    """Digits after the point that give the largest answer of any model three in all."""
    largest = max((abs(one["value"]) for one in said if math.isfinite(one["value"])), default=0.0)
    return min(max(2 - math.floor(math.log10(largest)), 0), 6) if largest else 2


def _with_decimals(label: str | None, unit: str, places: int) -> str | None:
    """A clip's label, its number of this unit with as many decimals as the answers beside it."""
    if not label or not unit:
        return label
    pattern = rf"\b\d+(\.\d+)?(?= {re.escape(unit)}\b)"
    return re.sub(pattern, lambda number: f"{float(number[0]):.{places}f}", label)


def _short(said: Any) -> dict[str, Any]:
    return {**said, "top": said["top"][:_TOP]} if said["kind"] == "classes" else dict(said)
