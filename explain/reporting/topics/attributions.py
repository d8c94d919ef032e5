"""Sections on attributions: maps of a clip, of several models, and the agreement of methods over many clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from markupsafe import Markup
from torch import Tensor

from explain.attribution import Attribution, Method, runner
from explain.attribution.methods import find_method, title
from explain.attribution.options import accepted
from explain.attribution.results import TOLERATED
from explain.drawing import colours as colour
from explain.drawing.colours import ColourMap
from explain.drawing.numbers import exact, number_text, percent
from explain.drawing.sprites import Sprite, overlay_sprite
from explain.drawing.templates import render
from explain.faithfulness.verdicts import shares_of, strongest
from explain.model.memory import Progress
from explain.model.targets import resolve
from explain.reporting import intervals
from explain.reporting.context import Context
from explain.reporting.many.aggregation import Collection
from explain.reporting.sections import Content
from explain.reporting.topics import faithfulness
from zoo.errors import ModelError, PluginError
from zoo.models.heads import output_specs

#: Default methods of a report.
DEFAULT = ("saliency", "input_x_gradient", "integrated_gradients", "occlusion", "grad_cam", "grad_cam_per_frame")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One method, as input of the template."""

    name: str
    title: str
    summary: str
    layer: str | None
    #: Reason for the choice of this layer; empty if it was requested.
    note: str
    settings: Mapping[str, Any]
    #: The change of the output from the baseline to the clip, and the completeness error of the map's sum; None if the
    #: method is not complete.
    difference: float | None
    delta: float | None
    #: Magnitude at the end of the color scale.
    scale: float
    #: The value of each frame, and its unit (`Attribution.time`).
    time: list[float]
    time_unit: str
    #: Frame with the largest absolute value, its time if known, and its share of the sum of magnitudes.
    peak: int
    peak_seconds: float | None
    peak_share: float
    #: The share of each frame in a uniform distribution.
    even_share: float
    seconds: float
    colours: ColourMap
    picture: Sprite

    @property
    def incomplete(self) -> bool:
        """Check whether the completeness error exceeds a tenth of the change of the output."""
        return self.delta is not None and abs(self.delta) > TOLERATED * abs(self.difference or 0.0)

    @property
    def baseline(self) -> str:
        """Describe the baseline."""
        words = {None: "a clip of zeros", "zero": "a clip of zeros", "blur": "the blurred clip"}
        named = self.settings.get("baseline")
        if isinstance(named, list):
            several = [words.get(name, str(name).replace("_", " ")) for name in named]
            return f"the mean of {len(several)} baselines ({', '.join(several)})"
        return words.get(named, str(named))

    @property
    def there(self) -> Markup:
        """Describe the number of the strongest frame."""
        value = self.time[self.peak]
        size = exact(value, number_text(abs(value)))
        falls = "lowers" if value > 0 else "raises"
        if self.time_unit == "change":
            return Markup(": changing it, with the frames of its window, {} the output by {}").format(falls, size)
        if self.time_unit == "sum":
            given = "add {} to" if value > 0 else "take {} from"
            return Markup(f": its pixels together {given} the output").format(size)  # noqa: S704 - no foreign markup
        if self.time_unit == "mean":
            return Markup(": removing a part of it {} the output by {} on average").format(falls, size)
        return Markup(", with {} of the whole clip's attribution").format(percent(self.peak_share))

    @property
    def signed(self) -> bool:
        """Check whether there are positive and negative numbers."""
        return self.colours.low < 0


def build_one(context: Context) -> Content:
    """Run the methods and show them on one time axis; if every head is explained, one after the other.

    The data begin with the first head's numbers; those of the others are in a list under "others".
    """
    if not context.everything or len(context.outputs) == 1:
        return _one(context)
    heads = list(output_specs(context.model, context.outputs))
    contents = []
    for place, head in enumerate(heads):
        target = resolve(context.model, context.batch, head=head, truths=context.truths)
        key = f"output-{place}-" if place else ""
        contents.append(_one(replace(context, target=target, asked=None), key))
    first, *others = contents
    return Content(
        html=render("attributions_of_all.html", parts=list(zip(heads, contents, strict=True))),
        data={**first.data, "others": [one.data for one in others]},
        tensors={
            name if head == heads[0] else f"{head}/{name}": tensor
            for head, content in zip(heads, contents, strict=True)
            for name, tensor in content.tensors.items()
        },
        sprites=tuple(sprite for content in contents for sprite in content.sprites),
        problems=first.problems,
    )


def _one(context: Context, key: str = "") -> Content:
    """Build the maps of one target; `key` is the prefix of their sprites' and cards' names."""
    names = context.options.methods or DEFAULT
    shown: list[Shown] = []
    maps: list[Attribution] = []
    refused: list[dict[str, str]] = []
    problems: list[dict[str, str]] = []
    tensors: dict[str, Tensor] = {}
    for name in names:
        step = f"attribution: {name}"
        try:
            with context.timed(step) as progress:
                attribution = attribute(context, name, progress)
        except PluginError as error:
            refused.append({"method": name, "reason": str(error)})
            problems.append({"plugin": f"attribution method {name}", "reason": str(error)})
            continue
        except ModelError as error:
            if context.options.methods is not None:
                raise
            refused.append({"method": name, "reason": str(error)})
            continue
        tensors[f"{name}/raw"], tensors[f"{name}/map"] = attribution.raw, attribution.map
        maps.append(attribution)
        shown.append(show(find_method(name), attribution, context.seconds[step], key))
    tested, saved = faithfulness.check(context, maps) if maps else ([], "")
    moments = [
        strongest(one.time[0], trust.frames if trust else None, one.times)
        for one, trust in zip(maps, tested, strict=True)
    ]
    data = {
        "target": context.target.description,
        "value": float(context.target.value[0]),
        "steps": context.options.steps,
        "methods": [
            {**data_of(one), "strongest": moment and asdict(moment), "faithfulness": trust and trust.record}
            for one, moment, trust in zip(shown, moments, tested, strict=True)
        ],
        "refused": refused,
    }
    html = render(
        "attributions.html",
        context=context,
        shown=shown,
        tested=tested,
        moments=moments,
        saved=saved,
        refused=refused,
        target=data["target"],
        value=data["value"],
        box=_box(context),
        key=key,
    )
    return Content(
        html=html, data=data, tensors=tensors, sprites=tuple(one.picture for one in shown), problems=problems
    )


def _box(context: Context) -> str:
    """Return the position of an output's region in the frame, as CSS; empty if it has none."""
    target = context.target
    if target.region is None or target.head is None:
        return ""
    rows, columns = context.outputs[target.head].shape[-2:]
    (top, bottom), (left, right) = target.region[1:]
    if (rows, columns) != context.frames.shape[1:3] or (bottom - top, right - left) == (rows, columns):
        return ""
    sides = {"top": top / rows, "left": left / columns, "height": (bottom - top) / rows}
    sides["width"] = (right - left) / columns
    return ";".join(f"{name}:{100 * share:.3f}%" for name, share in sides.items())


def attribute(context: Context, name: str, progress: Progress) -> Attribution:
    """Compute one method's map; if incomplete from zeros, use the blurred clip if its error is smaller.

    Zeros can be so far out of distribution that the output jumps near them; a blurred clip is closer to the data
    (Sturmfels, Lundberg & Lee, Visualizing the Impact of Feature Attribution Baselines, Distill 2020).
    """
    layer, note = None, ""
    if find_method(name).needs_layer:
        layer, note = (context.options.layer, "") if context.options.layer else context.default_layer

    def against(baseline: str | None) -> Attribution:
        found = runner.attribute(
            context.model,
            context.batch,
            method=name,
            target=context.target,
            layer=layer,
            seed=context.seed,
            progress=progress,
            **accepted(find_method(name), {"baseline": baseline, "n_steps": context.options.steps}),
        )
        return dataclasses.replace(found, note="; ".join(filter(None, [note, found.note])))

    from_zeros = against(None)
    if float(from_zeros.missed[0]) <= TOLERATED:
        return from_zeros
    from_blur = against("blur")
    return from_blur if bool(from_blur.missed[0] < from_zeros.missed[0]) else from_zeros


def show(method: Method, attribution: Attribution, seconds: float, key: str = "") -> Shown:
    """Show a method's map on its own scale; `key` is the prefix of its sprite's name."""
    values = attribution.map[0].detach().float().cpu().numpy()
    share, scale, colours = colour.scaled(values)
    time = attribution.time[0].detach().float().cpu()
    shares = shares_of(time)
    peak = int(shares.argmax())
    delta = None if attribution.delta is None else float(attribution.delta[0])
    difference = None if delta is None else float(attribution.raw[0].double().sum()) - delta
    return Shown(
        name=method.name,
        title=title(method.name),
        summary=method.summary,
        layer=attribution.layer,
        note=attribution.note,
        settings=attribution.settings,
        difference=difference,
        delta=delta,
        scale=scale,
        time=time.tolist(),
        time_unit=attribution.time_unit,
        peak=peak,
        peak_seconds=None if attribution.times is None else attribution.times[peak],
        peak_share=float(shares[peak]),
        even_share=1 / len(shares),
        seconds=seconds,
        colours=colours,
        picture=overlay_sprite(f"map-{key}{method.name}".replace("_", "-"), share, colours),
    )


def data_of(one: Shown) -> dict[str, Any]:
    """Return the numbers of a method that a page shows."""
    drawn = {"name", "title", "summary", "colours", "picture"}
    kept = {field.name: getattr(one, field.name) for field in fields(one) if field.name not in drawn}
    return {"method": one.name, **kept, "signed": one.signed, "incomplete": one.incomplete}


#: Default methods of comparisons: the gradient, its path integral, and the last layers' activation for each frame.
DEFAULT_OF_MODELS = ("saliency", "integrated_gradients", "grad_cam_per_frame")

#: Below this share of the common scale a map is too faint to read.
_FAINT = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One model under one method."""

    context: Context
    shown: Shown
    #: The map on its own scale, if it is too faint on that of all models.
    own: Shown | None = None

    @property
    def shares(self) -> list[float]:
        """Return each frame's share of the whole clip's magnitude: models differ in scale, shares do not."""
        sizes = [abs(value) for value in self.shown.time]
        total = sum(sizes)
        return [value / total for value in sizes] if total else sizes

    def fainter(self, scale: float | None) -> float | None:
        """Return by how much this model's map is fainter than the strongest one's, if too faint to read."""
        return scale / self.shown.scale if scale is not None and 0 < self.shown.scale < _FAINT * scale else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One method over all models."""

    name: str
    title: str
    summary: str
    #: The scale of all models; None if each map has its own.
    scale: float | None
    #: Reason for separate scales.
    why: str
    colours: ColourMap
    panels: list[_Panel]
    refused: list[dict[str, str]]

    @property
    def largest(self) -> float:
        """Return the largest share of one frame in any model: the height of all curves."""
        return max((max(panel.shares) for panel in self.panels), default=0.0)


def build_models(contexts: Sequence[Context]) -> Content:
    """Run every method on every model."""
    names = contexts[0].options.methods or DEFAULT_OF_MODELS
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
    """Run one method on every model; with a common unit, all use the largest scale."""
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
    """Return why a method's values have no common unit in these models (`explain.attribution.maps`); else empty."""
    if method.reduction == "positive":
        return "What a layer holds has no unit that another model shares"
    inputs = {(one.entry.input.range, one.entry.input.std) if one.entry else None for one in contexts}
    if method.reduction == "magnitude" and len(inputs) > 1:
        return "A unit of input is another amount of light in each model"
    return ""


#: Minimum mean rank correlation of methods that agree: below, one explains less than 1% of the variance of the other's
#: ranks.
ENOUGH = 0.1


def build_clips(collection: Collection) -> Content:
    """Compute the mean rank correlation of each pair of methods' maps, with intervals."""
    methods = collection.methods
    table: list[list[dict[str, Any]]] = [
        [intervals.mean((_pair(one.record, row, column) for one in collection.entries), -1, 1) for column in methods]
        for row in methods
    ]
    pairs = [
        (table[row][column]["mean"], methods[row], methods[column])
        for row in range(len(methods))
        for column in range(row)
        if table[row][column]["mean"] is not None
    ]
    data = {"methods": methods, "correlation": table}
    return Content(
        html=render(
            "collected_agreement.html",
            least=min(pairs, default=None),
            most=max(pairs, default=None),
            title=title,
            enough=ENOUGH,
            **data,
        ),
        data=data,
    )


def _pair(record: Any, first: str, second: str) -> float | None:
    made = list(record["methods"])
    if "agreement" not in record or first not in made or second not in made:
        return None
    found: float | None = record["agreement"][made.index(first)][made.index(second)]
    return found
