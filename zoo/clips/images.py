"""Read images and animations with Pillow, as 8 bits of red, green and blue."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zoo.clips import limits
from zoo.errors import ClipError

if TYPE_CHECKING:
    from PIL.Image import Image

#: File names that are read as images.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
#: Warning for clips with transparent pixels.
TRANSPARENT = "The clip has transparent pixels: the colors stored beneath them are shown."
#: Formats accepted whatever the file's name: Pillow supports others, and starts a program for one of them.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
#: Leading bytes of these formats.
_BEGINNINGS = (b"BM", b"GIF8", b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*")
#: Numbers of tags of TIFF.
_SUBFILE_TYPE, _BITS_PER_SAMPLE = 254, 258
#: Milliseconds that a frame is shown if its file specifies less than 20, as browsers and ffmpeg do.
_USUAL_DURATION = 100


def is_image(beginning: bytes) -> bool:
    """Check whether these leading bytes are those of an image."""
    return beginning.startswith(_BEGINNINGS) or (beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP")


def read(source: str, file: Path | IO[bytes]) -> tuple[Tensor, tuple[float, ...] | None, tuple[str, ...]]:
    """Read an image, or all frames of an animation.

    Of a JPEG it is the first picture alone (cameras append smaller ones), of a TIFF all pages but reduced copies.

    Args:
        source: Name of the clip, for messages.
        file: Path, or a file open for reading bytes that can seek.

    Returns:
        uint8 frames T x H x W x 3; the seconds of each, or None if the file stores none; what a reader should know.

    Raises:
        ClipError: for what cannot be read, is too large, or has numbers of unknown range.
        OSError, MemoryError: if the machine fails.
    """
    from PIL import Image, ImageOps, ImageSequence

    frames: list[npt.NDArray[np.uint8]] = []
    durations: list[float | None] = []
    is_transparent = False
    try:
        with Image.open(file, formats=_FORMATS) as image:
            for frame in [image] if image.format in {"JPEG", "MPO"} else ImageSequence.Iterator(image):
                if _tag(frame, _SUBFILE_TYPE) & 1 and frames:
                    continue
                limits.check_size(source, frame.height, frame.width, len(frames) + 1)
                upright = ImageOps.exif_transpose(frame)
                pixels = _eight_bits(source, upright, frame)
                if frames and pixels.shape != frames[0].shape:
                    raise ClipError(f"{source} holds images of different sizes; save each as a file of its own")
                frames.append(pixels)
                durations.append(frame.info.get("duration"))
                is_transparent = is_transparent or _is_transparent(frame)
    except (ClipError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClipError(f"{source} cannot be read as an image: {reason}") from error
    times = None
    if len(frames) > 1 and any(duration is not None for duration in durations):
        shown = [duration if duration and duration >= 20 else _USUAL_DURATION for duration in durations]
        times = tuple(milliseconds / 1000 for milliseconds in accumulate(shown[:-1], initial=0.0))
    return torch.from_numpy(np.stack(frames)), times, (TRANSPARENT,) if is_transparent else ()


def _eight_bits(source: str, image: Image, stored: Image) -> npt.NDArray[np.uint8]:
    """Return pixels H x W x 3; more than 8 bits are scaled by the range of the type, 0 to 1 for floats."""
    if image.mode not in {"F", "I"} and not image.mode.startswith("I;16"):
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not 0 <= low <= high <= 1:
            raise ClipError(f"{source} holds fractions from {low:g} to {high:g}; expected 0 to 1: scale them first")
        scaled = values
    elif image.mode == "I" and image.format != "PNG" and stored.format != "PNG":
        raise ClipError(f"{source} holds signed or 32-bit integers, of unknown range; save it with 8 or 16 bits")
    else:
        scaled = values / (2 ** (_tag(stored, _BITS_PER_SAMPLE) or 16) - 1)
    return np.repeat((255 * scaled).round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _tag(image: Image, number: int) -> int:
    """Return an integer tag of a TIFF; 0 if it is missing, or the file has another format."""
    value: Any = getattr(image, "tag_v2", {}).get(number, 0)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def _is_transparent(image: Image) -> bool:
    if not image.has_transparency_data:
        return False
    alpha: Any = image.convert("RGBA").getchannel("A")
    return bool(alpha.getextrema()[0] < 255)
