"""Results of one clip of many: prediction, maps and their tests, small enough to cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from explain.attribution import Attribution
from explain.attribution.layer_choice import default_layer
from explain.attribution.methods import find_method
from explain.drawing.fields import centre_share
from explain.drawing.sprites import clip_sprite
from explain.faithfulness.measures import all_tests
from explain.faithfulness.randomization import rank_correlation
from explain.faithfulness.verdicts import shares_of, strongest
from explain.model.layouts import entry_of, input_of
from explain.model.targets import resolve as resolve_target
from explain.reporting import reading
from explain.reporting.context import Context, silent
from explain.reporting.many.aggregation import Collection
from explain.reporting.sections import Section
from explain.reporting.topics import attributions, faithfulness
from zoo import devices
from zoo.clips import Clip
from zoo.errors import ModelError, PluginError
from zoo.models.prediction import outputs, to_frames
from zoo.registry import plugins

#: Number of classes listed per head.
_TOP = 5

#: Cached fields of the sections that plugins add to a page on many clips.
_OF_SECTIONS = ("name", "title", "clips", "after")

#: Maximum rows and columns of each method's cached spatial map.
GRID = 32

#: Rows and columns of a thumbnail.
_THUMBNAIL = (48, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Results of one clip."""

    #: Plain numbers, stored for every clip.
    record: dict[str, Any]
    #: Small tensors, stored for every clip: `probabilities/HEAD`, `time/METHOD` (T), `space/METHOD` (at most 32 x 32),
    #: `thumbnail`.
    tensors: dict[str, Tensor]
    #: Model input frames, output clips and their ground truth (uint8), and maps, stored for the few clips that the page
    #: shows: `frames`, `given/HEAD`, `truth/HEAD`, `map/METHOD`.
    views: dict[str, Tensor]


def examine(collection: Collection, clip: Clip, progress: Callable[[str, int, int], None] = silent) -> Examined:
    """Compute the prediction for one clip, run the methods and the tests.

    Args:
        collection: Settings shared by all clips.
        clip: The decoded clip.
        progress: Called as progress(step, done, total).

    Raises:
        ModelError: the model's output is not finite.
        UnknownNameError, UsageError, MemoryLimitError: as raised by `explain.attribute`.
    """
    began = time.perf_counter()
    context = context_of(collection, clip, progress)
    made, refused = _maps(collection, context)
    added = [(plugin.key, one) for plugin, one in plugins.collect("explain_sections", Section, context=context)]
    record: dict[str, Any] = {
        "warnings": list(clip.warnings),
        "shown": clip.label,
        "classes": dict(clip.classes),
        "frames": len(context.frames),
        "times": None if context.times is None else list(context.times),
        "heads": {head: _short(said) for head, said in context.prediction.items()},
        "target": context.target.description,
        "head": context.target.head,
        "value": float(context.target.value[0]),
        "is_mean": context.target.region is not None,
        "further": [one.title for _, one in added if not one.clips],
        "added": [[key, {name: getattr(one, name) for name in _OF_SECTIONS}] for key, one in added if one.clips],
        "methods": {one.method: _numbers(one) for one in made},
        "refused": refused,
        "note": collection.kept.get("note", ""),
    }
    tensors = {
        f"probabilities/{head}": _probabilities(said) for head, said in context.prediction.items() if _named(said)
    }
    frames = torch.from_numpy(context.frames)
    views: dict[str, Tensor] = {"frames": frames, **_films(context)}
    for one in made:
        size = one.map[0].detach().abs().float()
        tensors[f"time/{one.method}"] = shares_of(one.time[0]).float().cpu()
        tensors[f"space/{one.method}"] = _shares(_coarse(size.sum(dim=0))).cpu()
        views[f"map/{one.method}"] = one.map[0].detach().float().cpu()
    tensors["thumbnail"] = _thumbnail(frames)
    if made[1:]:
        with context.timed("agreement of methods"):
            record["agreement"] = agreement(made)
    if collection.tests and made:
        results, said = faithfulness.check(context, made, short=True)
        record["tests"] = said
        record["faithfulness"] = {
            one.method: _tested(result.record) for one, result in zip(made, results, strict=True) if result
        }
    for one in made:
        verdict = faithfulness.verdict_on(record.get("faithfulness", {}).get(one.method), "frames")
        moment = strongest(one.time[0], verdict, one.times)
        record["methods"][one.method]["strongest"] = moment and asdict(moment)
    record["seconds"] = {**context.seconds, "": time.perf_counter() - began}
    return Examined(record=record, tensors=tensors, views=views)


def context_of(collection: Collection, clip: Clip, progress: Callable[[str, int, int], None]) -> Context:
    """Compute the prediction for one clip; no methods are run."""
    model = collection.model
    decoded, frames, batch = reading.see(model, clip)
    said, truths = reading.ask(model, decoded, batch, top=10**9)
    if collection.maps and "layer" not in collection.kept:
        collection.kept["layer"] = _layer(collection, batch)
    layer, note = collection.kept.get("layer", (None, ""))
    collection.kept["note"] = note
    return Context(
        model=model,
        entry=entry_of(model),
        name=collection.name,
        clip=decoded,
        frames=frames.numpy(),
        picture=clip_sprite("clip", frames[:1].numpy()),  # unused: the page draws the few clips that it shows
        batch=batch,
        target=resolve_target(model, batch, collection.asked, truths=truths),
        asked=collection.asked,
        prediction=said,
        truths=truths,
        device=str(devices.like(model).device),
        seed=collection.seed,
        options=replace(collection.options, layer=layer),
        progress=progress,
        kept=collection.kept,
    )


def _films(context: Context) -> dict[str, Tensor]:
    """Return output clips, and the frames they predict, in display values."""
    spec = input_of(context.model)
    heads = [head for head, said in context.prediction.items() if said["kind"] == "clip"]
    given = outputs(context.model, context.batch) if heads else {}
    found = {f"given/{head}": to_frames(given[head][0], spec) for head in heads}
    return found | {f"truth/{head}": to_frames(truth[0], spec) for head, truth in context.truths.items()}


def _layer(collection: Collection, batch: Tensor) -> tuple[str | None, str]:
    """Return the layer of methods that use one, and why; chosen once, since it depends on the model alone."""
    if collection.options.layer is not None or not any(
        find_method(name).needs_layer for name in collection.asked_methods
    ):
        return collection.options.layer, ""
    try:
        return default_layer(collection.model, batch)
    except ModelError:
        return None, ""  # each method reports it


def _maps(collection: Collection, context: Context) -> tuple[list[Attribution], dict[str, str]]:
    made, refused = [], {}
    for name in collection.asked_methods:
        try:
            with context.timed(f"attribution: {name}") as shown:
                made.append(attributions.attribute(context, name, shown))
        except (ModelError, PluginError) as error:
            refused[name] = str(error)
    return made, refused


def _named(said: Mapping[str, Any]) -> bool:
    return bool(said["kind"] == "classes")


def _short(said: Mapping[str, Any]) -> dict[str, Any]:
    return {**said, "top": said["top"][:_TOP]} if _named(said) else dict(said)


def _probabilities(said: Mapping[str, Any]) -> Tensor:
    values = torch.zeros(len(said["top"]))
    for one in said["top"]:
        values[one["index"]] = one["probability"]
    return values


def _numbers(attribution: Attribution) -> dict[str, Any]:
    """Return the stored numbers of one map."""
    shares = shares_of(attribution.time[0])
    missed = float(attribution.missed[0])
    peak = int(shares.argmax())
    return {
        "layer": attribution.layer,
        "settings": dict(attribution.settings),
        "empty": not bool(attribution.map.any()),
        "peak": peak,
        "peak_seconds": None if attribution.times is None else attribution.times[peak],
        "peak_share": float(shares.max()),
        "even_share": 1 / len(shares),
        "centre": centre_share(attribution.map[0].detach().abs().sum(dim=0)),
        "missed": missed,
    }


def _shares(values: Tensor) -> Tensor:
    """Return magnitudes as shares of their sum; zeros if the sum is zero."""
    values = values.abs()
    total = values.sum()
    return values / total if float(total) else values


def _coarse(sizes: Tensor) -> Tensor:
    """Reduce H x W magnitudes to at most GRID rows and columns."""
    grid = min(GRID, sizes.shape[0]), min(GRID, sizes.shape[1])
    return F.adaptive_avg_pool2d(sizes[None, None].float(), grid)[0, 0]


def _thumbnail(frames: Tensor) -> Tensor:
    """Return a small middle frame, or the most visible one if that is empty, on black: uint8, H x W x 3."""
    contrast = frames.float().flatten(1).std(dim=1)
    middle = (len(frames) - 1) // 2
    frame = (
        frames[middle if float(contrast[middle]) else int(contrast.argmax())]
        .expand(-1, -1, 3)
        .permute(2, 0, 1)[None]
        .float()
    )
    height, width = frame.shape[2:]
    scale = min(_THUMBNAIL[0] / height, _THUMBNAIL[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small = F.interpolate(frame, size=size, mode="bilinear", antialias=True)[0].round().clamp(0, 255)
    top, left = ((whole - part) // 2 for whole, part in zip(_THUMBNAIL, size, strict=True))
    picture = torch.zeros(*_THUMBNAIL, 3, dtype=torch.uint8)
    picture[top : top + size[0], left : left + size[1]] = small.permute(1, 2, 0).to(torch.uint8)
    return picture


def agreement(made: list[Attribution]) -> list[list[float | None]]:
    """Return Spearman's rank correlation of magnitudes for all pairs of maps: methods x methods, None if undefined."""
    sizes = [one.map[:1].detach().abs().float() for one in made]
    table: list[list[float | None]] = [
        [1.0 if row == column else None for column in range(len(made))] for row in range(len(made))
    ]
    for row in range(len(made)):
        for column in range(row):
            found = float(rank_correlation(sizes[row], sizes[column])[0])
            table[row][column] = table[column][row] = found if found == found else None
    return table


#: Numbers of `Faithfulness.record` that are stored besides the measures.
_AREAS = ("deletion", "insertion", "random_deletion", "random_insertion", "centre_deletion", "centre_insertion")

_OF_FRAMES = ("deletion", "random_deletion")


def _tested(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of one map's tests, without curves."""
    curves, frames = list(record["curves"].values()), record["curves"].get("temporal")
    depths = record["randomization"]
    return {
        "verdict": record["verdict"],
        "reasons": dict(record["reasons"]),
        **{name: curves[-1][name]["area"] if curves else None for name in _AREAS},
        **{f"frames_{name}": frames and frames[name]["area"] for name in _OF_FRAMES},
        "correlation": depths[0]["correlation"] if depths else None,
        **{test.name: record[test.name] for test in all_tests()},
    }
