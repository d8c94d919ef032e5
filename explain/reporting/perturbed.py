"""What perturbations do to a model's answers, as part of a page: what each looks like, curves, and words."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.ticker import MaxNLocator

from explain.reporting import composition, figures, writing
from explain.reporting.assembly import untrained
from explain.reporting.builtin.provenance import versions
from explain.reporting.media import Sprite, as_frames, clip_sprite
from explain.reporting.rendering import evenly, numbers, render
from explain.reporting.sections import Content
from explain.robustness.perturbations import BUILT_IN
from zoo.clips import instant

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from markupsafe import Markup
    from matplotlib.axes import Axes
    from torch import nn

    from explain.robustness.perturbations import Perturbation
    from explain.robustness.results import Curve, Measure, Robustness
    from explain.robustness.spoiling import Spoiled

#: CSS pixels of a drawing: its width, the room to the left and right of charts, and their height.
_WIDTH, _LEFT, _RIGHT, _CHART = 340.0, 62.0, 8.0, 84.0
#: CSS pixels of a row of names above a chart, of the room between charts, and of the words beneath the last.
_NAMES, _BETWEEN, _BENEATH = 17.0, 12.0, 27.0
#: Pictures of single frames beside each other; of clips, rows and frames in each.
_STILLS, _ROWS, _FRAMES = 5, 3, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Pictures at one level, beside each other."""

    level: str
    #: Places in the sprite.
    places: list[int]
    #: What they show, for those who cannot see them.
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One perturbation, as the template takes it."""

    name: str
    title: str
    level: str
    #: What happens, a sentence an output.
    sentences: list[str]
    chart: Markup
    picture: Sprite | None
    strips: list[Strip]
    #: What the pictures show, in words.
    caption: str


def content(result: Robustness, spoiled: Spoiled | None, saved: str = "") -> Content:
    """Every perturbation with pictures, curves and sentences, and a table of the levels at which answers are lost.

    Args:
        result: What was measured.
        spoiled: The batch whose first sample is shown; None shows none.
        saved: What was saved on, in words.
    """
    known = {one.name: one for one in BUILT_IN}
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


def level_text(value: float | None) -> str:
    """A level as it is written on a page."""
    return "never" if value is None else f"{value:.3g}"


def _told(result: Robustness) -> list[Measure]:
    """The shares that are spoken of: accuracies where the truth is known, else what is unchanged."""
    known = {measure.name.removesuffix(" accuracy") for measure in result.shares if measure.name.endswith(" accuracy")}
    return [
        measure
        for measure in result.shares
        if not (measure.name.endswith(" unchanged") and measure.name.removesuffix(" unchanged") in known)
    ]


def charts_of(result: Robustness) -> list[list[Measure]]:
    """The measures that are drawn, chart by chart: shares or, of one clip, probabilities; then each unit by itself."""
    told = _told(result)
    if result.samples == 1:
        told = [one for one in result.measures.values() if one.kind == "probability"] or told
    groups = [told] if told else []
    errors = [one for one in result.measures.values() if one.kind == "error"]
    # A logit says no more than its probability; another number stands alone.
    rest = errors if told or errors else [one for one in result.measures.values() if not one.bounded]
    alike = dict.fromkeys((one.unit, bool(one.lines)) for one in rest)
    return groups + [[one for one in rest if (one.unit, bool(one.lines)) == kind] for kind in alike]


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
    """Where an error rises above a line."""
    first = curve.beyond(measure.name, value)
    if first is None:
        return f"below that of {what} up to {level_text(float(curve.levels[-1]))}."
    already = first == float(curve.levels[0])
    return f"above that of {what}{' even unchanged' if already else f' from {level_text(first)} on'}."


def summary(result: Robustness) -> str:
    """What the answers do not survive and what they do, by the first share that is measured, in words.

    Where there is none, what takes the first error that has a line above it.
    """
    if not _told(result):
        return _outdone(result)
    share = _told(result)[0]
    lost = {_within(curve.title): curve.half_lost(share.name) for curve in result.curves.values()}
    broken = [f"{title} ({level_text(level)})" for title, level in lost.items() if level is not None]
    borne = [title for title, level in lost.items() if level is None]
    what = share.name.removesuffix(" unchanged")
    if result.samples == 1 and share.name.endswith(" unchanged"):
        said = (f"The answer for {what} does not survive {_listed(broken)}.", f"It survives {_listed(borne)}.")
    else:
        verb = "of the answers for " + what + " is lost" if what != share.name else f"of the {what} is lost"
        said = (f"Half {verb} under {_listed(broken)}.", f"Less is lost under {_listed(borne)}.")
    return " ".join(text for text, which in zip(said, (broken, borne), strict=True) if which)


def _outdone(result: Robustness) -> str:
    """Which perturbations make the first error that has a line greater than that, and which do not."""
    if not result.lined:
        return ""
    measure = result.lined[0]
    what, value = next(iter(measure.lines.items()))
    beyond = {_within(curve.title): curve.beyond(measure.name, value) for curve in result.curves.values()}
    if all(float(curve.mean[measure.name][0]) > value for curve in result.curves.values()):
        return f"{measure.name} is above that of {what} even unchanged."
    above = [f"{title} ({level_text(level)})" for title, level in beyond.items() if level is not None]
    below = [title for title, level in beyond.items() if level is None]
    said = (
        f"{measure.name} rises above that of {what} under {_listed(above)}.",
        f"It stays below under {_listed(below)}." if above else f"{measure.name} stays below that of {what}.",
    )
    return " ".join(text for text, which in zip(said, (above, below), strict=True) if which)


def _within(title: str) -> str:
    """A title within a sentence; people's names keep their capital."""
    return title if title.startswith(("Gaussian", "Poisson")) else title.lower()


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def _pictures(curve: Curve, one: Perturbation, spoiled: Spoiled) -> tuple[Sprite, list[Strip], str]:
    """What some levels look like, on the first sample in the first draw."""
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


def draw(curve: Curve, groups: Sequence[Sequence[Measure]], name: str) -> Markup:
    """The curves of a perturbation as inline SVG, a chart for each group of measures, one under another."""
    above = [_NAMES * math.ceil(len(group) / 2) for group in groups]
    height = sum(above) + len(groups) * (_CHART + _BETWEEN) + _BENEATH
    with figures.style():
        drawn = figures.figure(_WIDTH, height)
        drawn.set_layout_engine("none")  # a layout would take longer than all the rest
        top = 0.0
        for place, (names, group) in enumerate(zip(above, groups, strict=True)):
            top += names
            bottom = 1 - (top + _CHART) / height
            size = ((_WIDTH - _LEFT - _RIGHT) / _WIDTH, _CHART / height)
            axes = drawn.add_axes((_LEFT / _WIDTH, bottom, *size))
            top += _CHART + _BETWEEN
            paint(axes, curve, group)
            if place == len(groups) - 1:
                axes.set_xlabel(curve.level)
            else:
                axes.tick_params(labelbottom=False)
        return figures.svg(drawn, name, f"{curve.title}: {_in_words(curve, groups)}")


def paint(axes: Axes, curve: Curve, group: Sequence[Measure]) -> None:
    """The curves of some measures, each between its mean minus and plus one standard error."""
    levels = curve.levels.tolist()
    for place, measure in enumerate(group):
        colour, (marker, line) = figures.series(place)
        mean, error = curve.mean[measure.name], curve.error[measure.name].nan_to_num()
        few = len(levels) <= 12
        axes.plot(
            levels,
            mean.tolist(),
            color=colour,
            linestyle=line,
            marker=marker if few else "",
            markersize=4,
            label=measure.name,
        )
        if _has_band(curve, measure):
            low, high = mean - error, mean + error
            if measure.bounded:
                low, high = low.clamp(0, 1), high.clamp(0, 1)
            axes.fill_between(levels, low.tolist(), high.tolist(), color=colour, alpha=0.16, linewidth=0)
        for what, value in measure.lines.items():
            # of several measures each has its own, in its colour, and names stand where others do not
            shade, left = (figures.SOFT, True) if len(group) == 1 else (colour, place % 2 == 0)
            over = value < float(mean.max())  # above a line higher than all curves stands the legend
            axes.axhline(value, color=shade, linewidth=1, linestyle=":")
            axes.annotate(
                what,
                (0 if left else 1, value),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2 if over else -2),
                textcoords="offset points",
                ha="left" if left else "right",
                va="bottom" if over else "top",
                color=shade,
                fontsize=9,
                zorder=1.9,  # over the grid, beneath the curves
                bbox={"facecolor": figures.CARD, "edgecolor": "none", "pad": 0.5},
            )
    if group[0].bounded:
        axes.set_ylim(-0.04, 1.04)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
    elif all(measure.kind == "error" for measure in group):
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    if all(level == int(level) for level in levels):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.02)
    axes.grid(axis="y", linewidth=0.7)
    axes.set_ylabel(group[0].unit.replace(" per ", "\nper "))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, handlelength=1.8, columnspacing=1.2)


def _has_band(curve: Curve, measure: Measure) -> bool:
    """Whether any standard error is known, and not nought."""
    return bool(curve.error[measure.name].nan_to_num().any())


def _in_words(curve: Curve, groups: Sequence[Sequence[Measure]]) -> str:
    parts = []
    for measure in (one for group in groups for one in group):
        first, last = (float(curve.mean[measure.name][at]) for at in (0, -1))
        if math.isfinite(first) and math.isfinite(last):
            parts.append(f"{measure.name} from {first:.2g} to {last:.2g}")
    return ", ".join(parts)


def write_page(
    folder: str | os.PathLike[str],
    model: nn.Module,
    result: Robustness,
    spoiled: Spoiled | None,
    about: Mapping[str, Any],
    sentence: str,
) -> Path:
    """Write robustness.html, robustness.json and tensors.safetensors; gives the path of the page.

    Args:
        folder: Where to; `writing.check` has seen it.
        model: What was perturbed.
        result: What was measured.
        spoiled: As in `content`.
        about: What the files say of themselves: "model", "clips", "sha256", and "left_out", clips that could not be
            used ("clip", "reason").
        sentence: The result in words.
    """
    part = composition.Part(name="perturbations", title="How much it bears", content=content(result, spoiled))
    notices = untrained(model, "")
    left_out = about.get("left_out", ())
    if left_out:
        first = left_out[0]
        several = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        notices.append(f"Left out: {first['clip']} ({first['reason']}){several}.")
    written = composition.write(
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
