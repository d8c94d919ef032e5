"""Each attribution method over the clip, model beside model, on one colour scale where numbers have one unit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from explain.attribution.methods import find_method
from explain.reporting import colour
from explain.reporting.builtin.attributions import Shown, attribute, data_of, show, title
from explain.reporting.media import overlay_sprite
from explain.reporting.rendering import render
from explain.reporting.sections import Content
from zoo.errors import ModelError, PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from explain.attribution import Method
    from explain.reporting.colour import ColourMap
    from explain.reporting.context import Context

#: Methods where none were asked for: the gradient, the sum of gradients, and what the last layers hold of each frame.
DEFAULT = ("saliency", "integrated_gradients", "grad_cam_per_frame")
#: Below this share of the common scale a map is too faint to read.
_FAINT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One model under one method."""

    context: Context
    shown: Shown
    #: The map in colours of its own, where those of all models leave it too faint to read.
    own: Shown | None = None

    @property
    def shares(self) -> list[float]:
        """Each frame's share of the whole clip's attribution, without signs: models differ in size, shares do not."""
        sizes = [abs(value) for value in self.shown.time]
        total = sum(sizes)
        return [value / total for value in sizes] if total else sizes

    def fainter(self, scale: float | None) -> float | None:
        """How many times less strongly this model reacts than the strongest one, where that hides its map."""
        return scale / self.shown.scale if scale is not None and 0 < self.shown.scale < _FAINT * scale else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One method over all models."""

    name: str
    title: str
    summary: str
    #: The one scale of all models; None where each map has its own.
    scale: float | None
    #: Why each has its own.
    why: str
    colours: ColourMap
    panels: list[_Panel]
    refused: list[dict[str, str]]

    @property
    def largest(self) -> float:
        """The largest share of one frame in any model: the height of all curves."""
        return max((max(panel.shares) for panel in self.panels), default=0.0)


def build(contexts: Sequence[Context]) -> Content:
    """Run every method on every model."""
    names = contexts[0].options.methods or DEFAULT
    tensors: dict[str, Tensor] = {}
    problems: list[dict[str, str]] = []
    rows = [_row(name, contexts, tensors, problems) for name in names]
    data = {
        "steps": contexts[0].options.steps,
        "methods": [
            {
                "method": row.name,
                "scale": row.scale,
                "own_scales": row.why or None,
                "models": [
                    {
                        "model": panel.context.name,
                        "target": panel.context.target.description,
                        "value": float(panel.context.target.value[0]),
                        **{key: value for key, value in data_of(panel.shown).items() if key != "method"},
                        "shares": panel.shares,
                        "fainter": panel.fainter(row.scale),
                    }
                    for panel in row.panels
                ],
                "refused": row.refused,
            }
            for row in rows
        ],
    }
    return Content(
        html=render("compared_attributions.html", rows=rows, moving=any(len(one.frames) > 1 for one in contexts)),
        data=data,
        tensors=tensors,
        sprites=tuple(
            one.picture for row in rows for panel in row.panels for one in (panel.shown, panel.own) if one is not None
        ),
        problems=problems,
    )


def _row(name: str, contexts: Sequence[Context], tensors: dict[str, Tensor], problems: list[dict[str, str]]) -> _Row:
    """One method on every model; where their numbers have one unit, the largest scale of them serves all."""
    method = find_method(name)
    made: list[tuple[int, Context, Any, Shown]] = []
    refused: list[dict[str, str]] = []
    for place, context in enumerate(contexts):
        step = f"{name}: {context.name}"
        try:
            with context.timed(step) as progress:
                attribution = attribute(context, name, progress)
        except (PluginError, ModelError) as error:
            refused.append({"model": context.name, "reason": str(error)})
            if isinstance(error, PluginError):
                problems.append({"plugin": f"attribution method {name}", "reason": str(error)})
            continue
        tensors[f"{name}/{context.name}/map"] = attribution.map
        made.append((place, context, attribution, show(method, attribution, context.seconds[step])))
    why = _incomparable(method, [context for _, context, *_ in made])
    scale = None if why else max((shown.scale for *_, shown in made), default=0.0)
    colours = colour.signed() if any(shown.signed for *_, shown in made) else colour.magnitude()
    panels = []
    for place, context, attribution, shown in made:
        values = attribution.map[0].detach().float().cpu().numpy()
        own = replace(shown, picture=replace(shown.picture, name=f"{shown.picture.name}-{place}-own"))
        if scale is None:
            panels.append(_Panel(context=context, shown=own))
            continue
        share = values / scale if scale else values
        picture = overlay_sprite(
            f"map-{name.replace('_', '-')}-{place}", share if colours.low < 0 else abs(share), colours
        )
        panel = _Panel(context=context, shown=replace(shown, picture=picture, colours=colours))
        panels.append(replace(panel, own=own if panel.fainter(scale) else None))
    return _Row(
        name=name,
        title=title(name),
        summary=method.summary,
        scale=scale,
        why=why,
        colours=colours,
        panels=panels,
        refused=refused,
    )


def _incomparable(method: Method, contexts: Sequence[Context]) -> str:
    """Why numbers of a method have no common unit in these models (`explain.attribution.maps`); empty where they do."""
    if method.reduction == "positive":
        return "What a layer holds has no unit that another model shares"
    inputs = {(one.entry.input.range, one.entry.input.std) if one.entry else None for one in contexts}
    if method.reduction == "magnitude" and len(inputs) > 1:
        return "A unit of input is another amount of light in each model"
    return ""
