"""Robustness to perturbations: the section, and the page of `explain robustness`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from markupsafe import Markup
from torch import nn

from explain.drawing.numbers import evenly, numbers
from explain.drawing.robustness import _has_band, _told, charts_of, draw, level_text
from explain.drawing.sprites import Sprite, as_frames, clip_sprite
from explain.drawing.templates import render
from explain.reporting import pages, writing
from explain.reporting.context import DEAR, FORBIDDING, Context, operations
from explain.reporting.pages import versions
from explain.reporting.reading import untrained
from explain.reporting.sections import Content
from explain.robustness.checking import check_robustness
from explain.robustness.perturbations import Perturbation, all_perturbations
from explain.robustness.perturbed_clips import Spoiled
from explain.robustness.results import Curve, Measure, Robustness
from zoo.clips import instant
from zoo.errors import MemoryLimitError, ModelError

#: Perturbations that are run if passes are expensive.
FEW = ("gaussian_noise", "missing_square", "dropped_frames", "shuffled_frames")


def build_one(context: Context) -> Content:
    """Run all perturbations at a few levels, unless the model is too large."""
    effort, saved = effort_for(context)
    nothing = Robustness(measures={}, curves={}, samples=1)
    if effort is None:
        return content(nothing, None, saved)
    try:
        with context.timed("robustness") as progress:
            truth = {name: after.to(context.batch) for name, after in context.truths.items()}
            result = check_robustness(
                context.model, context.batch, truth=truth or None, seed=context.seed, progress=progress, **effort
            )
    except (MemoryLimitError, ModelError) as error:
        return content(nothing, None, f"The clip could not be perturbed: {error}.")
    spoiled = Spoiled(context.model, context.batch, fill=result.settings["fill"], seed=context.seed)
    return content(result, spoiled, saved)


def effort_for(context: Context) -> tuple[dict[str, Any] | None, str]:
    """Return the computation that a report spends, None for none, and its description."""
    if context.options.thorough:
        return {}, ""
    cost = operations(context)
    if cost > FORBIDDING:
        return None, "One pass of this model is too dear to perturb the clip in a report; explain robustness does it."
    if cost > DEAR:
        few: dict[str, Any] = {"perturbations": FEW, "levels": 3, "draws": 1}
        return few, "Passes of this model are dear, so these are few; explain robustness takes all, and more levels."
    return {"levels": 5, "draws": 1}, "One draw at each of five levels; explain robustness takes more of both."


#: Number of images of single frames in a row; for clips, rows and frames per row.
_STILLS, _ROWS, _FRAMES = 5, 3, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Images at one level, side by side."""

    level: str
    #: Indices in the sprite.
    places: list[int]
    #: Alternative text of the images.
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One perturbation, as input of the template."""

    name: str
    title: str
    level: str
    #: Description of the effect, a sentence per head.
    sentences: list[str]
    chart: Markup
    picture: Sprite | None
    strips: list[Strip]
    #: Caption of the images.
    caption: str


def content(result: Robustness, spoiled: Spoiled | None, saved: str = "") -> Content:
    """Build every perturbation with images, curves and sentences, and a table of the levels of first change and loss.

    Args:
        result: The measured robustness.
        spoiled: The batch whose first sample is shown; None shows no images.
        saved: Description of reduced computation.
    """
    known = {one.name: one for one in all_perturbations()}
    groups = charts_of(result)
    shown = [_shown(result, curve, known[name], groups, spoiled) for name, curve in result.curves.items()]
    shares = _told(result)
    html = render(
        "perturbations.html",
        result=result,
        shown=shown,
        shares=shares,
        saved=saved,
        banded=any(
            _has_band(curve, one) for curve in result.curves.values() for one in itertools.chain.from_iterable(groups)
        ),
        lost=[
            (
                one,
                [
                    (result.curves[one.name].first_change(share.name), result.curves[one.name].half_lost(share.name))
                    for share in shares
                ],
            )
            for one in shown
        ],
        last=[
            (measure, numbers([float(curve.mean[measure.name][-1]) for curve in result.curves.values()]))
            for measure in result.measures.values()
        ],
        lines=[(measure, what, value) for measure in result.measures.values() for what, value in measure.lines.items()],
        level=level_text,
    )
    sprites = tuple(one.picture for one in shown if one.picture is not None)
    return Content(html=html, data=result.record(), tensors=result.tensors(), sprites=sprites)


def _shown(
    result: Robustness, curve: Curve, one: Perturbation, groups: Sequence[Sequence[Measure]], spoiled: Spoiled | None
) -> Shown:
    picture, strips, caption = (None, [], "") if spoiled is None else _pictures(curve, one, spoiled)
    return Shown(
        name=one.name,
        title=curve.title,
        level=curve.level,
        sentences=[_sentence(result, curve, measure) for measure in _told(result)]
        + [
            f"{measure.name}: {_compared(curve, measure, what, value)}"
            for measure in result.lined
            for what, value in measure.lines.items()
        ],
        chart=draw(curve, groups, f"robustness-{one.name}"),
        picture=picture,
        strips=strips,
        caption=caption,
    )


def _sentence(result: Robustness, curve: Curve, measure: Measure) -> str:
    first, half = curve.first_change(measure.name), curve.half_lost(measure.name)
    what, end = measure.name.removesuffix(" unchanged"), level_text(float(curve.levels[-1]))
    if result.samples == 1 and measure.name.endswith(" unchanged"):
        if first is None:
            return f"{what}: the same answer up to {end}."
        if half is None:
            return f"{what}: another answer from {level_text(first)} on, though in less than half of the draws."
        later = "" if half == first else f", in half of the draws at {level_text(half)}"
        return f"{what}: first another answer at {level_text(first)}{later}."
    if first is None:
        return f"{measure.name}: none lost up to {end}."
    return f"{measure.name}: lower from {level_text(first)} on, " + (
        "never halved." if half is None else f"halved at {level_text(half)}."
    )


def _compared(curve: Curve, measure: Measure, what: str, value: float) -> str:
    """Return where an error rises above a reference line."""
    first = curve.beyond(measure.name, value)
    if first is None:
        return f"below that of {what} up to {level_text(float(curve.levels[-1]))}."
    already = first == float(curve.levels[0])
    return f"above that of {what}{' even unchanged' if already else f' from {level_text(first)} on'}."


def _pictures(curve: Curve, one: Perturbation, spoiled: Spoiled) -> tuple[Sprite, list[Strip], str]:
    """Draw some levels, on the first sample in the first draw."""
    levels = curve.levels.tolist()
    count = spoiled.extent[0]
    liveliest = int(spoiled.clips[0].std(dim=(0, 2, 3), correction=0).argmax())
    if one.over_time:
        first = min(max(0, liveliest - _FRAMES // 2), max(0, count - _FRAMES))
        frames = list(range(first, min(first + _FRAMES, count)))
        chosen = [levels[at] for at in evenly(len(levels), _ROWS + 1)][-_ROWS:]
        caption = f"{instant(frames[0], spoiled.times, frames[-1])} of 0-{count - 1}".capitalize()
    else:
        frames = [liveliest]
        chosen = [levels[at] for at in evenly(len(levels), _STILLS)]
        caption = f"{instant(frames[0], spoiled.times)} of 0-{count - 1}".capitalize() if count > 1 else ""
    looks = torch.cat([spoiled.clip(0, one, level)[:, frames] for level in chosen], dim=1)
    sprite = clip_sprite(f"robustness-{one.name.replace('_', '-')}", as_frames(looks))
    strips = [
        Strip(
            level=level_text(level),
            places=list(range(at * len(frames), (at + 1) * len(frames))),
            label=f"{curve.title} at level {level_text(level)}",
        )
        for at, level in enumerate(chosen)
    ]
    return sprite, strips, caption


def write_page(
    folder: str | os.PathLike[str],
    model: nn.Module,
    result: Robustness,
    spoiled: Spoiled | None,
    about: Mapping[str, Any],
    sentence: str,
) -> Path:
    """Write robustness.html, robustness.json and tensors.safetensors; return the path of the page.

    Args:
        folder: Output folder, checked by `writing.check`.
        model: The tested model.
        result: The measured robustness.
        spoiled: As in `content`.
        about: Metadata of the files: "model", "clips", "sha256", and "left_out", clips that could not be used ("clip",
            "reason").
        sentence: The result in words.
    """
    part = pages.Part(name="perturbations", title="How much it bears", content=content(result, spoiled))
    notices = untrained(model, "")
    left_out = about.get("left_out", ())
    if left_out:
        first = left_out[0]
        several = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        notices.append(f"Left out: {first['clip']} ({first['reason']}){several}.")
    written = pages.write(
        writing.check(folder, "robustness"),
        "robustness",
        [part],
        {**about, "summary": sentence, "warnings": notices, "problems": [], "versions": versions()},
        {},
        about,
        model_name=about["model"],
        clip_name=about["clips"],
        summary=f"Measured on {about['clips']}.",
        sentence=sentence,
        notices=notices,
        frames=1,
    )
    return written.page
