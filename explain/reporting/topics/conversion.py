"""How the clip became the model's input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from explain.drawing.numbers import evenly
from explain.drawing.sprites import clip_sprite
from explain.drawing.templates import render
from explain.reporting.sections import Content
from zoo import clips

if TYPE_CHECKING:
    from explain.drawing.sprites import Sprite
    from explain.reporting.context import Context

#: Frames of the clip as it was read that stand beside the model's.
_SHOWN = 6

#: Pixels of the longer side of these.
_SIDE = 160


def build_one(context: Context) -> Content:
    """One sentence for each step, warnings, and some frames before and after."""
    clip = context.clip
    steps = (
        clips.describe(clip, context.entry.input)
        if context.entry
        else ["The batch was given ready-made; for this page its values were scaled from its smallest to its largest."]
    )
    source: Sprite | None = None
    if context.entry and clip.frames.shape[1:3] != context.frames.shape[1:3]:
        source = _as_read(context)
    data: dict[str, Any] = {
        "source": clip.source,
        "frames": clip.total,
        "used": list(clip.indices),
        "size": [int(side) for side in clip.frames.shape[1:3]],
        "fps": clip.fps,
        "times": None if context.times is None else list(context.times),
        "steps": steps,
        "warnings": list(clip.warnings),
        "batch": list(context.batch.shape),
    }
    html = render(
        "conversion.html", context=context, source=source, **{key: data[key] for key in ("steps", "warnings", "batch")}
    )
    return Content(html=html, data=data, sprites=(source,) if source else ())


def _as_read(context: Context) -> Sprite:
    """Some frames before they were converted, made small by leaving pixels out."""
    frames = context.clip.frames.numpy()
    frames = frames[evenly(len(frames), _SHOWN)]
    step = max(1, -(-max(frames.shape[1:3]) // _SIDE))
    return clip_sprite("as-read", np.ascontiguousarray(frames[:, ::step, ::step]))
