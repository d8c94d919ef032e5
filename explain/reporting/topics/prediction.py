"""Sections on predictions: of one model on one clip or many clips, and of several models."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from explain.drawing import colours
from explain.drawing import colours as colour
from explain.drawing.colours import ColourMap
from explain.drawing.numbers import exact, number_text, numbers, percent_text
from explain.drawing.sprites import Sprite, clip_sprite, overlay_sprite
from explain.drawing.templates import render
from explain.model.layouts import input_of
from explain.model.regions import Bounds
from explain.reporting import intervals
from explain.reporting.context import Context
from explain.reporting.many.aggregation import Collection, Group, measured
from explain.reporting.reading import compared_with
from explain.reporting.sections import Content
from zoo import clips
from zoo.models.prediction import like_output, to_frames


def build_one(context: Context) -> Content:
    """Show the clip beside the prediction of each head."""
    shown = films(context)
    heads = {
        name: {**said, **facts(shown[name])} if name in shown else said for name, said in context.prediction.items()
    }
    data = {"target": context.target.description, "truth": context.clip.label, "heads": heads}
    return Content(
        html=render("prediction.html", context=context, films=shown, **data),
        data=data,
        tensors={name: context.outputs[name] for name in shown},
        sprites=tuple(sprite for film in shown.values() for sprite in film.sprites),
    )


def sentence(prediction: Mapping[str, Mapping[str, Any]]) -> str:
    """Summarize the prediction in one sentence, naming heads if there are several; empty if no head has words."""
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


#: Number of classes listed per head.
_TOP_OF_MODELS = 3


def build_models(contexts: Sequence[Context]) -> Content:
    """Show the clip as each model sees it, a table of predictions by model, and output clips."""
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
        colours=colours.signed(),
        errors=errors,
        compared_with=compared_with,
        likeliest=any(said["kind"] == "classes" for context in contexts for said in context.prediction.values()),
        **data,
    )
    pictures = [film.picture for _, film in given]
    return Content(html=html, data=data, sprites=(*pictures, *after.values(), *(over for _, over in changes.values())))


def _decimals(said: Sequence[Mapping[str, Any]]) -> int:
    """Return the decimals that give the largest value of any model three significant digits."""
    largest = max((abs(one["value"]) for one in said if math.isfinite(one["value"])), default=0.0)
    return min(max(2 - math.floor(math.log10(largest)), 0), 6) if largest else 2


def _with_decimals(label: str | None, unit: str, places: int) -> str | None:
    """Return a clip's label, with its number of this unit rounded to the decimals of the predictions."""
    if not label or not unit:
        return label
    pattern = rf"\b\d+(\.\d+)?(?= {re.escape(unit)}\b)"
    return re.sub(pattern, lambda number: f"{float(number[0]):.{places}f}", label)


def _short(said: Any) -> dict[str, Any]:
    return {**said, "top": said["top"][:_TOP_OF_MODELS]} if said["kind"] == "classes" else dict(said)


#: Maximum number of classes listed before the rest is counted.
MOST = 12

#: The k of top-k accuracy, if there are more classes than that.
_TOP = 5


def build_clips(collection: Collection) -> Content:
    """Show accuracy with its interval if labels name classes, every head, and the groups of clips."""
    heads = {head: _head(collection, head) for head in collection.classes}
    values = {}
    for head in collection.entries[0].record["heads"]:
        found = [one for entry in collection.entries if (one := measured(entry.record["heads"][head])) is not None]
        if found:
            numbers = [number for number, _ in found]
            values[head] = {
                "unit": found[0][1],
                "values": intervals.mean(numbers),
                "least": min(numbers),
                "most": max(numbers),
                "last_frame_again": _again(collection, head),
            }
    by, groups = collection.groups()
    data: dict[str, Any] = {
        "clips": len(collection.entries),
        "left_out": len(collection.failed),
        "grouped_by": by,
        "heads": heads,
        "values": values,
        "groups": [_group(collection, group) for group in groups],
    }
    shown = {**data, "groups": data["groups"][:MOST], "more": len(groups) - MOST}
    return Content(
        html=render(
            "collected_predictions.html",
            head=collection.head,
            measured=any(group["error"] for group in shown["groups"]),
            **shown,
        ),
        data=data,
    )


def _again(collection: Collection, head: str) -> dict[str, Any] | None:
    """Return the error of repeating each clip's last frame; None for heads that do not predict frames."""
    found = [entry.record["heads"][head].get("last_frame_again") for entry in collection.entries]
    return intervals.mean(found) if any(one is not None for one in found) else None


def _head(collection: Collection, head: str) -> dict[str, Any]:
    classes = collection.classes[head]
    known = [one for one in collection.entries if head in one.truth]
    said = Counter(one.said[head] for one in collection.entries)
    nearly = None
    if known and len(classes) > 2 * _TOP:
        near = sum(
            one.truth[head] in [top["index"] for top in one.record["heads"][head]["top"][:_TOP]] for one in known
        )
        nearly = intervals.share(near, len(known))
    return {
        "accuracy": intervals.share(sum(one.said[head] == one.truth[head] for one in known), len(known)),
        "top5": nearly,
        "confidence": intervals.mean(
            (one.record["heads"][head]["top"][0]["probability"] for one in collection.entries), 0, 1
        ),
        "said": [
            {"label": classes[index], "clips": count, "share": count / len(collection.entries)}
            for index, count in said.most_common(6)
        ],
        "classes_said": len(said),
    }


def _group(collection: Collection, group: Group) -> dict[str, Any]:
    head = collection.head
    known = [one for one in group.entries if one.right is not None]
    judged = known if collection.known else group.entries  # the others have no probability of a true class
    wrong = Counter(
        collection.classes[head][one.said[head]] for one in group.entries if head is not None and one.right is False
    )
    return {
        "name": group.name,
        "clips": len(group.entries),
        "accuracy": intervals.share(sum(bool(one.right) for one in known), len(known)),
        "score": intervals.mean((one.score for one in judged), 0, 1) if head is not None else None,
        "error": intervals.mean((one.error for one in judged), 0)
        if any(one.error is not None for one in judged)
        else None,
        "mistaken_for": [{"label": label, "clips": count} for label, count in wrong.most_common(2)],
    }


#: Size in pixels of the longer side of the outline of a region.
_DRAWN = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Difference between an output and the clip that it reconstructs or predicts, if both have one shape."""

    #: Reference of the difference, in words, and as a sprite.
    of: str
    beneath: Sprite
    #: Overlay on the reference: red where the output is higher, blue where it is lower.
    picture: Sprite
    #: The difference, T x H x W, the mean over channels.
    changes: npt.NDArray[np.floating]
    #: Magnitude at the end of the color scale, in the units of the batch.
    scale: float
    colours: ColourMap
    #: Mean squared error of all pixels and channels, and frame by frame.
    squared_error: float
    over_time: list[float]
    #: Error of repeating the clip's last frame; None for heads that do not predict frames.
    last_frame_again: float | None

    @property
    def worst(self) -> int:
        """Return the frame with the largest error."""
        return int(np.argmax(self.over_time))


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One output clip."""

    name: str
    picture: Sprite
    #: Frames, rows and columns.
    extent: tuple[int, int, int]
    #: Whether it predicts the following frames.
    follows: bool
    #: The following frames; None for heads that do not predict them, or if the clip ends.
    truth: Sprite | None
    #: None if the clip has another shape, or ends before the predicted frames.
    difference: Difference | None
    #: Outline of the target, and its description; None if the target is another head, or all of this one.
    place: Sprite | None
    region: str

    @property
    def sprites(self) -> list[Sprite]:
        """Return all sprites."""
        drawn = [self.picture, self.truth, self.difference.picture if self.difference else None, self.place]
        return [one for one in drawn if one is not None]


def films(context: Context, suffix: str = "") -> dict[str, Film]:
    """Return every output that is a clip, by name.

    Args:
        context: The model and the clip.
        suffix: Suffix of the sprites' names, if a page shows several models.
    """
    heads = [name for name, said in context.prediction.items() if said["kind"] == "clip"]
    return {name: _film(context, name, f"{place}{suffix}") for place, name in enumerate(heads)}


def facts(film: Film) -> dict[str, Any]:
    """Return the numbers of an output clip that a page shows."""
    own, times = film.difference, film.picture.times
    if own is None:
        return {"difference": None}
    return {
        "difference": {
            "scale": own.scale,
            "squared_error": own.squared_error,
            "over_time": own.over_time,
            "worst": own.worst,
            "worst_seconds": None if times is None else times[own.worst],
            "times": None if times is None else list(times),
        }
    }


def painted(name: str, changes: npt.NDArray[np.floating], scale: float) -> Sprite:
    """Draw a difference, T x H x W, in the signed colors, which end at `scale`."""
    # Signed even if all values have one sign, so that errors above and below remain distinguishable.
    return overlay_sprite(name, changes / scale if scale else changes, colour.signed())


def _film(context: Context, name: str, place: str) -> Film:
    output, spec = context.outputs[name], input_of(context.model)
    frames = to_frames(output[0], spec).numpy()
    after = context.truths.get(name)
    times = context.output_times(name, len(frames))
    truth = None if after is None else clip_sprite(f"truth-{place}", to_frames(after[0], spec).numpy(), times=times)
    extent = (frames.shape[0], frames.shape[1], frames.shape[2])
    target = context.target
    whole = tuple((0, size) for size in extent)
    framed = target.head == name and target.region is not None and target.region != whole
    return Film(
        name=name,
        picture=clip_sprite(f"output-{place}", frames, times=times),
        extent=extent,
        follows=bool(context.prediction[name].get("follows")),
        truth=truth,
        difference=_difference(context, name, f"difference-{place}", truth),
        place=_framed(f"region-{place}", extent, target.region) if framed and target.region else None,
        region=" at ".join(filter(None, [target.description, context.explained_at])) if framed else "",
    )


def _difference(context: Context, name: str, sprite: str, truth: Sprite | None) -> Difference | None:
    said, output = context.prediction[name], context.outputs[name].float()
    clip = context.truths.get(name) if said.get("follows") else like_output(context.model, context.batch).float().cpu()
    if clip is None or output.shape != clip.shape:
        return None
    changes = (output - clip)[0]
    changes = changes if changes.ndim == 4 else changes.unsqueeze(1)
    mean = changes.mean(dim=0).numpy()
    _, scale, _ = colour.scaled(mean)
    errors = changes.double().square().mean(dim=(0, 2, 3))
    return Difference(
        of=compared_with(said),
        beneath=truth or context.picture,
        picture=painted(sprite, mean, scale),
        changes=mean,
        scale=scale,
        colours=colour.signed(),
        squared_error=float(errors.mean()),
        over_time=errors.tolist(),
        last_frame_again=said.get("last_frame_again"),
    )


def _framed(name: str, extent: tuple[int, int, int], region: Bounds) -> Sprite:
    """Draw the outline of a region in each of its frames, finer than the pixels of a small clip."""
    frames, height, width = extent
    scale = max(1, _DRAWN // max(height, width))
    (first, behind), *sides = region
    line = max(1, scale * max(height, width) // 96)
    drawn: npt.NDArray[np.floating] = np.zeros((frames, height * scale, width * scale), dtype=np.float32)
    (top, bottom), (left, right) = ((start * scale, stop * scale) for start, stop in sides)
    drawn[first:behind, top:bottom, left:right] = 1
    drawn[first:behind, top + line : bottom - line, left + line : right - line] = 0
    return overlay_sprite(name, drawn, colour.signed())
