"""The page on activation maximization: each synthesized clip beside its top-activating clips."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from explain.attribution.maps import to_map
from explain.drawing import colours
from explain.drawing.sprites import Sprite, animation, as_frames, clip_sprite, overlay_sprite
from explain.drawing.templates import render
from explain.maximization import Maximization, TopClip, TopClips
from explain.model.layouts import input_of
from explain.reporting import pages, writing
from explain.reporting.pages import Report
from explain.reporting.reading import untrained
from explain.reporting.sections import Content
from explain.results import packed
from zoo import clips, devices
from zoo.names import short_name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Real:
    """A real clip, as input of the template."""

    clip: TopClip
    name: str
    picture: Sprite
    overlay: Sprite | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A synthesized clip, as input of the template."""

    name: str
    initial: float
    activation: float
    history: list[float]
    picture: Sprite
    real: list[_Real] = field(default_factory=list)


def rows(result: Maximization, top: TopClips | None = None) -> list[dict[str, Any]]:
    """Return the numbers of each synthesized clip for JSON."""
    best = dict(zip(top.units, top.clips, strict=True)) if top else {}
    told = []
    for index, (unit, name) in enumerate(zip(result.units, result.names, strict=True)):
        row: dict[str, Any] = {
            "layer": result.layer,
            "unit": unit if isinstance(unit, int) else None,
            "name": name,
            "initial": float(result.initial[index]),
            "activation": float(result.activation[index]),
            "history": result.history[:, index].tolist(),
        }
        if isinstance(unit, int) and unit in best:
            row["clips"] = [
                {
                    "clip": clip.source,
                    "label": clip.label,
                    "mean": clip.mean,
                    "highest": clip.highest,
                    "position": list(clip.position),
                    "frame": clip.place[0],
                    "seconds": clip.seconds,
                    "moment": clip.moment,
                    "row": clip.place[1],
                    "column": clip.place[2],
                }
                for clip in best[unit]
            ]
        told.append(row)
    return told


def write(
    folder: str | os.PathLike[str],
    model: nn.Module,
    result: Maximization,
    *,
    name: str,
    top: TopClips | None = None,
) -> Report:
    """Write `maximization.html`, `maximization.json`, an animation per synthesized clip, and files for `.load`.

    Args:
        folder: A new or empty folder, or an earlier maximization.
        model: The model, for preprocessing real clips.
        result: The result of `explain.maximize`.
        name: The model's name on the page.
        top: Top-activating clips of the same units, by files or samples.

    Raises:
        OutputError: The folder contains other files, or cannot be written.
    """
    path = writing.check(folder, "maximization")
    files = {**_animations(result), "maximization.safetensors": packed(result)}
    if top is not None:
        files["top_clips.safetensors"] = packed(top)
    best = dict(zip(top.units, top.clips, strict=True)) if top else {}
    pictures: dict[str, Sprite] = {}
    overlays: list[Sprite] = []
    made = []
    for index, (unit, wish) in enumerate(zip(result.units, result.names, strict=True)):
        # An image, or a still, is one frame.
        shown = result.clips[index, :, :1] if _is_still(result) else result.clips[index]
        of_unit = best.get(unit, ()) if isinstance(unit, int) else ()
        real = _real(model, top, of_unit, f"map-{index}", pictures) if top is not None else []
        overlays += [one.overlay for one in real if one.overlay]
        made.append(
            _Made(
                name=wish,
                initial=float(result.initial[index]),
                activation=float(result.activation[index]),
                history=result.history[:, index].tolist(),
                picture=clip_sprite(f"unit-{index}", as_frames(shown), lossy=True),
                real=real,
            )
        )
    sprites = [*(one.picture for one in made), *pictures.values(), *overlays]
    html = render("wishes.html", made=made, settings=result.settings, top=top)
    title = "Made up, and found" if top else "Made up"
    section = pages.Part(name="units", title=title, content=Content(html=html))
    data = {
        "model": name,
        **result.settings,
        "units": rows(result, top),
        "clips_looked_at": top.count if top else None,
        "problems": [{"clip": clip, "reason": reason} for clip, reason in (top.problems if top else ())],
        "device": str(devices.like(model).device),
        "versions": pages.versions(),
    }
    return pages.write(
        path,
        "maximization",
        [section],
        data,
        {},
        {},
        sprites,
        files,
        model_name=name,
        layer=result.layer,
        notices=_notices(model, top),
        frames=max(sprite.frames for sprite in sprites),
    )


def _is_still(result: Maximization) -> bool:
    return result.settings.get("parametrization") == "fourier2d"


def _animations(result: Maximization) -> dict[str, bytes]:
    """Encode a looping animation for each synthesized clip, small ones enlarged."""
    files: dict[str, bytes] = {}
    shown = result.clips[:, :, :1] if _is_still(result) else result.clips
    scale = max(1, round(256 / max(shown.shape[3:])))
    seen: Counter[str] = Counter()
    for index, unit in enumerate(result.units):
        stem = f"unit-{unit}" if isinstance(unit, int) else re.sub(r"[^\w.+-]+", "-", unit).strip("-")[:60]
        seen[stem] += 1
        name = f"{stem}_{seen[stem]}.webp" if seen[stem] > 1 else f"{stem}.webp"
        files[name] = animation(as_frames(shown[index]), frames_per_second=12, scale=scale)
    return files


def _real(
    model: nn.Module, top: TopClips, best: tuple[TopClip, ...], name: str, pictures: dict[str, Sprite]
) -> list[_Real]:
    """Overlay real clips with the unit's map, on one scale; each clip's frames are stored once."""
    spec = input_of(model)
    if spec is None:
        return []
    most = max((clip.highest for clip in best), default=0.0)
    real = []
    for place, clip in enumerate(best):
        if clip.source not in pictures:
            decoded = clips.decode(clip.source, start=top.start, end=top.end, spec=spec)
            frames = clips.convert(decoded, spec)
            frames = frames.flip(-1) if spec.channels == "BGR" else frames
            times = clips.times_of(decoded, spec)
            pictures[clip.source] = clip_sprite(f"clip-{len(pictures)}", frames.numpy(), times=times)
        overlay = None
        if most > 0:
            heat = to_map(clip.map[None, None].float(), "positive", "NCTHW", (spec.frames, *spec.size))[0] / most
            overlay = overlay_sprite(f"{name}-{place}", heat.numpy(), colours.magnitude())
        shown = short_name(clip.source)
        real.append(_Real(clip=clip, name=shown, picture=pictures[clip.source], overlay=overlay))
    return real


def _notices(model: nn.Module, top: TopClips | None) -> list[str]:
    """Return the notices for the reader."""
    said = untrained(model, ", and its units want nothing in particular")
    if top is not None and top.problems:
        clip, reason = top.problems[0]
        more = f", and {len(top.problems) - 1} more" if len(top.problems) > 1 else ""
        said.append(f"Note: left out {clip} ({reason}){more}.")
    return said
