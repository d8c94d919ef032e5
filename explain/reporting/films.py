"""An output that is a clip, as a page shows it: beside what it was made from or predicts, and its difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explain.layouts import input_of
from explain.reporting import colour
from explain.reporting.media import Sprite, clip_sprite, overlay_sprite
from explain.reporting.sequels import compared_with
from zoo.prediction import like_output, to_frames

if TYPE_CHECKING:
    import numpy.typing as npt

    from explain.regions import Bounds
    from explain.reporting.colour import ColourMap
    from explain.reporting.context import Context

#: Pixels that the longer side of the frame around a region is drawn on.
_DRAWN = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An output less the clip that it was made from, or that it predicts, where both have one shape."""

    #: What it is the difference from, in words, and as a picture.
    of: str
    beneath: Sprite
    #: Over that: red where the output is higher, blue where it is lower.
    picture: Sprite
    #: The same as numbers, T x H x W, the mean over channels.
    changes: npt.NDArray[np.floating]
    #: Magnitude that takes the last colour, in the units of the batch.
    scale: float
    colours: ColourMap
    #: Mean squared error of all pixels and channels, and frame by frame.
    squared_error: float
    over_time: list[float]
    #: That of the clip's last frame in the place of a prediction; None for what predicts nothing.
    last_frame_again: float | None

    @property
    def worst(self) -> int:
        """The frame with the largest error."""
        return int(np.argmax(self.over_time))


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """One output clip."""

    name: str
    picture: Sprite
    #: Frames, rows and columns.
    extent: tuple[int, int, int]
    #: Whether it predicts how the clip goes on.
    follows: bool
    #: How the clip goes on; None for what predicts nothing, and where the clip ends.
    truth: Sprite | None
    #: None where the clip has another shape, or ends before what is predicted.
    difference: Difference | None
    #: What is explained, as a frame around it, and in words; None where that is another output, or all of this one.
    place: Sprite | None
    region: str

    @property
    def sprites(self) -> list[Sprite]:
        """All pictures."""
        drawn = [self.picture, self.truth, self.difference.picture if self.difference else None, self.place]
        return [one for one in drawn if one is not None]


def films(context: Context, suffix: str = "") -> dict[str, Film]:
    """Every output that is a clip, by name.

    Args:
        context: The model and the clip.
        suffix: Of the names of pictures, where a page shows several models.
    """
    heads = [name for name, said in context.prediction.items() if said["kind"] == "clip"]
    return {name: _film(context, name, f"{place}{suffix}") for place, name in enumerate(heads)}


def facts(film: Film) -> dict[str, Any]:
    """The numbers of an output clip that a page shows."""
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
    """A difference, T x H x W, in the signed colours, whose last ones are those of `scale` and more."""
    # Signed even where all is of one sign: what is too high must not look like what is far off.
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
    """A line around a region in each of its frames, finer than the pixels of a small clip."""
    frames, height, width = extent
    scale = max(1, _DRAWN // max(height, width))
    (first, behind), *sides = region
    line = max(1, scale * max(height, width) // 96)
    drawn: npt.NDArray[np.floating] = np.zeros((frames, height * scale, width * scale), dtype=np.float32)
    (top, bottom), (left, right) = ((start * scale, stop * scale) for start, stop in sides)
    drawn[first:behind, top:bottom, left:right] = 1
    drawn[first:behind, top + line : bottom - line, left + line : right - line] = 0
    return overlay_sprite(name, drawn, colour.signed())
