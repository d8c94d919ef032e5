"""The best and the worst clips, playing, each under the map that passes most tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from explain.reporting import colour
from explain.reporting.builtin.attributions import title
from explain.reporting.collected.trust import tested
from explain.reporting.media import clip_sprite, overlay_sprite
from explain.reporting.rendering import render
from explain.reporting.sections import Content
from zoo.clips import moment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from explain.reporting.collected.collection import Collection, Entry
    from explain.reporting.media import Sprite


#: What of a card is drawn.
_PICTURES = ("picture", "overlay", "given", "after")


def build(collection: Collection) -> Content:
    """A few clips of either end; with fewer clips, all of them."""
    method, passed = _method(collection)
    best, worst = collection.extremes()
    tensors: dict[str, Tensor] = {}
    shown = {
        name: [_card(collection, one, method, f"{name}-{at}", tensors) for at, one in enumerate(entries)]
        for name, entries in (("best", best), ("worst", worst))
    }
    cards = [card for group in shown.values() for card in group]
    sprites = [card[name] for card in cards for name in _PICTURES if card[name] is not None]
    told = {
        name: [{key: value for key, value in card.items() if key not in _PICTURES} for card in group]
        for name, group in shown.items()
    }
    data = {"method": method, "passed": passed, **told}
    html = render(
        "collected_examples.html",
        groups=shown,
        method=method,
        passed=passed,
        title=title,
        judged=bool(collection.known),
        head=collection.head,
        measured=any(one.error is not None for one in collection.entries),
    )
    return Content(html=html, data=data, tensors=tensors, sprites=tuple(sprites))


def _method(collection: Collection) -> tuple[str | None, int]:
    """The method whose maps pass most often, and how often; of equals the first."""
    methods = collection.methods
    passed = {method: tested(collection, method)["verdicts"]["passes"]["hits"] for method in methods}
    if not methods:
        return None, 0
    best = max(methods, key=lambda method: passed[method])
    return best, passed[best]


def _card(
    collection: Collection, one: Entry, method: str | None, key: str, tensors: dict[str, Tensor]
) -> dict[str, Any]:
    views = collection.views.get(one.source.name, {})
    frames = views.get("frames")
    times = one.record["times"]
    picture = None if frames is None else clip_sprite(f"clip-{key}", frames.numpy(), times=times and tuple(times))
    overlay = None
    values = views.get(f"map/{method}")
    if values is not None:
        tensors |= {
            f"{key}/{name.removeprefix('map/')}": view for name, view in views.items() if name.startswith("map/")
        }
        share, _, colours = colour.scaled(values.numpy())
        overlay = overlay_sprite(f"map-{key}", share, colours)
    peak = one.record["methods"].get(method, {}).get("peak")
    return {
        "clip": one.source.name,
        "label": one.label,
        "right": one.right,
        "truth": collection.true_class(one),
        "said": None if one.head is None else collection.classes[one.head][one.said[one.head]],
        "probability": None if one.head is None else one.record["heads"][one.head]["top"][0]["probability"],
        "score": one.score,
        "error": one.error,
        "target": one.record["target"],
        "is_mean": one.record["is_mean"],
        "peak": peak,
        "moment": None if peak is None else moment(peak, one.record["frames"], times),
        "strongest": one.record["methods"].get(method, {}).get("strongest"),
        "verdict": one.record.get("faithfulness", {}).get(method, {}).get("verdict"),
        "signed": overlay is not None and colours.low < 0,
        "picture": picture,
        "overlay": overlay,
        "given": _film(views, "given", key),
        "after": _film(views, "truth", key),
    }


def _film(views: Mapping[str, Tensor], what: str, key: str) -> Sprite | None:
    """The first output clip, or what it predicts; None where there is none."""
    found = next((name for name in views if name.startswith(f"{what}/")), None)
    return None if found is None else clip_sprite(f"{what}-{key}", views[found].numpy())
