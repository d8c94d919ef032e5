"""Sprites: all frames of a clip in one image file, laid out as a grid."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

    from explain.drawing.colours import ColourMap

#: Maximum number of frames in a row of a sheet: wide enough for a desktop, still readable on a phone.
_COLUMNS = 12

#: Maximum number of pixels of a sheet; larger clips are reduced by an integer factor. Raw maps keep their size.
_PIXELS = 1_500_000

#: Longest side of frames whose single pixels matter.
_SMALL = 96

#: Target size in pixels of the longer side of a still, enlarged by an integer factor.
_STILL = 256

#: Brightness of a frame beneath a map.
_DIMMED = 0.6

#: WebP quality of photographs; small or gray clips and overlays are lossless.
_QUALITY = 86


@dataclass(frozen=True, slots=True, kw_only=True)
class Sprite:
    """All frames of one clip as one encoded image."""

    #: Class name in the page: letters, digits and hyphens.
    name: str
    mime: str
    content: bytes
    frames: int
    columns: int
    #: Height and width of one frame, in pixels of the sheet.
    size: tuple[int, int]
    #: Seconds of each frame on the clock of its source; None if unknown.
    times: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise ValueError(f"sprite name {self.name!r}: expected lower-case letters, digits and hyphens")

    @property
    def rows(self) -> int:
        """Return the rows of the sheet."""
        return math.ceil(self.frames / self.columns)

    @property
    def pixelated(self) -> bool:
        """Check whether single pixels should stay visible when the frame is enlarged."""
        return max(self.size) <= _SMALL

    @property
    def uri(self) -> str:
        """Return the image as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.content).decode('ascii')}"

    def moment(self, frame: int) -> str:
        """Return the time of a frame, formatted by `zoo.clips.moment`."""
        from zoo.clips import moment

        return moment(frame, self.frames, self.times)

    def position(self, frame: int) -> str:
        """Return the CSS `background-position` that shows `frame`."""
        column, row = frame % self.columns, frame // self.columns
        across = 100 * column / (self.columns - 1) if self.columns > 1 else 0.0
        down = 100 * row / (self.rows - 1) if self.rows > 1 else 0.0
        return f"{across:.4f}% {down:.4f}%"


def clip_sprite(
    name: str, frames: npt.NDArray[np.uint8], *, lossy: bool | None = None, times: tuple[float, ...] | None = None
) -> Sprite:
    """Create a sprite of T x H x W x C frames, where C is 1 (gray) or 3 (RGB).

    Args:
        name: Class name in the page.
        frames: uint8, T x H x W x C.
        lossy: Whether to store as lossy WebP; None does so for larger color frames. Colors of neighboring frames then
            bleed by a pixel.
        times: Seconds of each frame, if known.
    """
    sheet, columns, size = _sheet(frames)
    grey = sheet.shape[2] == 1
    image = Image.fromarray(sheet[:, :, 0] if grey else sheet)
    mime, content = _encode(image, lossy=not grey and max(size) > _SMALL if lossy is None else lossy)
    return Sprite(name=name, mime=mime, content=content, frames=len(frames), columns=columns, size=size, times=times)


def overlay_sprite(name: str, values: npt.NDArray[np.floating], colours: ColourMap) -> Sprite:
    """Create a sprite of T x H x W numbers in the range of `colours`: transparent at zero."""
    sheet, columns, size = _sheet(colours.indices(values)[..., None])
    image = Image.fromarray(sheet[:, :, 0], mode=None)
    image.putpalette(colours.palette[:, :3].tobytes(), rawmode="RGB")
    image.info["transparency"] = colours.palette[:, 3].tobytes()
    mime, content = _encode(image, lossy=False)
    return Sprite(name=name, mime=mime, content=content, frames=len(values), columns=columns, size=size)


def as_frames(clip: Tensor) -> npt.NDArray[np.uint8]:
    """Convert C x T x H x W in [0, 1] to uint8 frames T x H x W x C; two channels, or more than three, are averaged."""
    values = clip.detach().float().cpu().numpy()
    if values.shape[0] not in {1, 3}:
        values = values.mean(axis=0, keepdims=True)
    frames: npt.NDArray[np.uint8] = (values.clip(0, 1) * 255).round().astype(np.uint8).transpose(1, 2, 3, 0)
    return frames


def shrunk(frames: npt.NDArray[np.uint8], longest: int) -> npt.NDArray[np.uint8]:
    """Reduce T x H x W x C frames by an integer factor, so that no side exceeds this many pixels."""
    return _shrink(frames, math.ceil(max(frames.shape[1:3]) / longest))


def animation(frames: npt.NDArray[np.uint8], *, frames_per_second: float, scale: int = 1) -> bytes:
    """Encode T x H x W x C frames as a looping WebP file, enlarged `scale` times; a small still is lossless."""
    frames = frames.repeat(scale, axis=1).repeat(scale, axis=2)
    images = [Image.fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame).convert("RGB") for frame in frames]
    file = io.BytesIO()
    images[0].save(
        file,
        format="WEBP",
        save_all=True,
        append_images=images[1:],
        duration=round(1000 / frames_per_second),
        loop=0,
        quality=_QUALITY,
        lossless=len(frames) == 1 and max(frames.shape[1:3]) <= scale * _SMALL,
    )
    return file.getvalue()


def still(
    frame: npt.NDArray[np.uint8],
    values: npt.NDArray[np.floating] | None = None,
    colours: ColourMap | None = None,
) -> bytes:
    """Encode one H x W x C frame as a PNG file, small ones enlarged pixel by pixel.

    Args:
        frame: uint8, where C is 1 (gray) or 3 (RGB).
        values: H x W numbers overlaid in `colours`; the frame beneath is dimmed.
        colours: Color map of the values, with its range.
    """
    image = frame.repeat(3 if frame.shape[2] == 1 else 1, axis=2)
    if values is not None and colours is not None:
        image = blended(frame, values, colours)
    scale = max(1, round(_STILL / max(frame.shape[:2])))
    enlarged = image.repeat(scale, axis=0).repeat(scale, axis=1)
    file = io.BytesIO()
    Image.fromarray(enlarged).save(file, format="PNG", optimize=True)
    return file.getvalue()


def blended(
    frames: npt.NDArray[np.uint8], values: npt.NDArray[np.floating], colours: ColourMap
) -> npt.NDArray[np.uint8]:
    """Blend frames (... x H x W x 1 or 3), dimmed, with numbers (... x H x W) in `colours`: ... x H x W x 3."""
    painted = colours.palette[colours.indices(values)].astype(float)
    share = painted[..., 3:] / 255
    image: npt.NDArray[np.uint8] = (frames * _DIMMED * (1 - share) + painted[..., :3] * share).round().astype(np.uint8)
    return image


def _sheet(frames: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], int, tuple[int, int]]:
    """Arrange frames in rows; return also the columns, and the size of one frame in the sheet."""
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"expected at least one frame as T x H x W x C, got the shape {frames.shape}")
    step = max(1, math.ceil(math.sqrt(frames[..., 0].size / _PIXELS)))
    frames = _shrink(frames, step)
    count, height, width, channels = frames.shape
    rows = math.ceil(count / _COLUMNS)
    columns = math.ceil(count / rows)
    padded = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    padded[:count] = frames
    grid = padded.reshape(rows, columns, height, width, channels).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(grid.reshape(rows * height, columns * width, channels)), columns, (height, width)


def _shrink(frames: npt.NDArray[np.uint8], step: int) -> npt.NDArray[np.uint8]:
    """Average step x step blocks (of palette indices, too: both palettes are ordered)."""
    if step == 1:
        return frames
    count, height, width, channels = frames.shape
    height, width = height // step, width // step
    blocks = frames[:, : height * step, : width * step].reshape(count, height, step, width, step, channels)
    means: npt.NDArray[np.uint8] = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    return means


def _encode(image: Image.Image, *, lossy: bool) -> tuple[str, bytes]:
    file = io.BytesIO()
    if lossy:
        image.convert("RGB").save(file, format="WEBP", quality=_QUALITY, method=4)
        return "image/webp", file.getvalue()
    image.save(file, format="PNG", optimize=True, transparency=image.info.get("transparency"))
    return "image/png", file.getvalue()
