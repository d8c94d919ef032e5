"""Read clips: videos, images and folders of them, tensors, and the samples that come with plugins."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from zoo import devices
from zoo.clips import images, limits, sampling, videos
from zoo.clips.clip import Clip
from zoo.entries import InputSpec
from zoo.errors import ClipError, UnknownNameError, UsageError, WeightsError
from zoo.names import natural
from zoo.registry import catalog
from zoo.weights import obtaining


def read_clip(
    path: str | os.PathLike[str] | bytes | IO[bytes],
    *,
    frames: int | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Tensor:
    """Read the frames of a clip: uint8, T x H x W x 3, RGB.

    Args:
        path: A video that PyAV decodes, a folder of images, an image or animation, a safetensors file with one uint8
            tensor T x H x W x C, or a sample ("sample:NAME", "sample:NAME/3"); or the bytes of a video or image, or
            such a file open for reading bytes.
        frames: Take this many, evenly spread in time; None takes all.
        start: Seconds at which to begin.
        end: Seconds at which to stop; None goes to the end.

    Raises:
        UnknownNameError: for a file or sample that does not exist.
        ClipError: for what cannot be decoded, holds no frame, or is too large.
        UsageError: for times or a number of frames that make no sense, or times where the clip has none.
        ResourceError: if the machine runs short of memory, threads or open files, or a disk fails.
    """
    return decode(path, frames=frames, start=start, end=end).frames


def decode(
    source: str | os.PathLike[str] | bytes | IO[bytes],
    *,
    frames: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    spec: InputSpec | None = None,
) -> Clip:
    """Read a clip with its metadata.

    Args:
        source: As `read_clip` takes it.
        frames: As there.
        start: As there.
        end: As there.
        fps: Frames per second of a folder of images or a tensor, which carry none.
        spec: Keep only the frames that this input uses, and stop reading after the last of them.

    Raises:
        As `read_clip`; UsageError also for `fps` of a source with times of its own.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, got {frames}")
    check_times(start, end, fps)

    def wanted(*, is_timed: bool) -> sampling.Wanted:
        if frames is None and spec is not None:
            return sampling.wanted(spec, is_timed=is_timed)
        return sampling.Wanted(spread=frames)

    with devices.shortages_apart(f"read {_shown(source)}"):
        clip = _read(source, _Request(wanted=wanted, start=start, end=end, fps=fps))
    if spec is None:
        return clip
    return replace(clip, warnings=(*clip.warnings, *notes(clip, spec)))


def check_times(start: float, end: float | None, fps: float | None) -> None:
    """Check where to cut a clip, and its rate.

    Raises:
        UsageError: for numbers that make no sense.
    """
    if start != start or (end is not None and end != end):
        raise UsageError("start and end are seconds, not nan")
    if start < 0 or start == float("inf") or (end is not None and end <= start):
        raise UsageError(f"expected 0 <= start < end in seconds, got start {start} and end {end}")
    if fps is not None and not 0 < fps < float("inf"):
        raise UsageError(f"fps is a positive number of frames per second, got {fps}")


def notes(clip: Clip, spec: InputSpec) -> list[str]:
    """Return warnings on how an input samples a clip: that it is too short, or its rate unknown."""
    said = []
    is_by_time = spec.sampling == "consecutive" and spec.frame_rate is not None
    if is_by_time and clip.times is None and clip.total > 1:
        said.append(
            f"Nothing says how many frames per second the clip has: it was taken as being at the model's "
            f"{spec.frame_rate:g}; give `fps` if it is not."
        )
    if is_short(clip, spec):
        if is_by_time and clip.times is not None:
            lasting, needed = clip.times[-1] - clip.times[0], (spec.frames - 1) * sampling.step(spec)
            said.append(
                f"The clip goes on for {lasting:.2f} s after its first frame and the model takes {needed:.2f} s: "
                "its last frame is repeated."
            )
        else:
            every = f", every {spec.stride}." if spec.sampling == "consecutive" and spec.stride > 1 else ""
            said.append(
                f"The clip has {count_of(clip.total)} and the model takes {spec.frames}{every}: "
                "some are shown more than once."
            )
    return said


def is_short(clip: Clip, spec: InputSpec) -> bool:
    """Check whether a clip, read for an input, ends before it has all its frames."""
    if spec.sampling == "uniform":
        return clip.total < spec.frames
    if spec.frame_rate is not None and clip.times is not None:
        interval = 1 / clip.fps if clip.fps else 0.0
        return (spec.frames - 1) * sampling.step(spec) >= clip.times[-1] - clip.times[0] + interval
    return clip.total <= (spec.frames - 1) * spec.stride


def count_of(frames: int) -> str:
    """Format a number of frames."""
    return "1 frame" if frames == 1 else f"{frames} frames"


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The part of a source to read, and the frames of it to keep."""

    #: By whether times are known.
    wanted: Callable[..., sampling.Wanted]
    start: float
    end: float | None
    fps: float | None


def _shown(source: str | os.PathLike[str] | bytes | IO[bytes]) -> str:
    """Return the name of a source in messages."""
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return os.fsencode(name).decode(errors="replace") if isinstance(name, str | os.PathLike) else "a clip in memory"


def _read(source: str | os.PathLike[str] | bytes | IO[bytes], request: _Request) -> Clip:
    if not isinstance(source, str | os.PathLike):
        return _in_memory(source, request)
    text = _shown(source)  # a name that is not UTF-8 must not break what is written
    path = Path(source).expanduser()
    if text.startswith("sample:"):
        return _sample(text, request)
    if path.is_dir():
        return _folder(text, path, request)
    check_exists(source)
    if path.suffix == ".safetensors":
        return _stacked(text, _tensor(path), request)
    if path.suffix.lower() in images.IMAGE_SUFFIXES:
        return _images(text, path, request)
    return _video(text, path, request)


def _in_memory(source: bytes | IO[bytes], request: _Request) -> Clip:
    """Read a clip from bytes or an open file, from its beginning."""
    if isinstance(source, bytes | bytearray | memoryview):
        file: IO[bytes] = io.BytesIO(source)
    elif callable(getattr(source, "read", None)):
        file = source
    else:
        raise UsageError(f"a clip is a path, bytes or an open file, not {type(source).__name__}")
    text = _shown(file)
    if not (hasattr(file, "seekable") and file.seekable()):
        file = io.BytesIO(file.read())  # a pipe, or an answer of a server
    file.seek(0)
    beginning = file.read(12)
    if not isinstance(beginning, bytes):
        raise UsageError(f"{text} is open as text; open it for reading bytes, with mode 'rb'")
    file.seek(0)
    return (_images if images.is_image(beginning) else _video)(text, file, request)


def _video(source: str, file: Path | IO[bytes], request: _Request) -> Clip:
    if request.fps is not None:
        raise UsageError(f"{source} is a video, which says itself when its frames are shown; leave out fps")
    clip = videos.read(source, file, request.wanted(is_timed=True), request.start, request.end)
    return replace(clip, start=request.start, end=request.end)


def _images(source: str, file: Path | IO[bytes], request: _Request) -> Clip:
    frames, times, warnings = images.read(source, file)
    clip = _stacked(source, frames, request, times=times)
    return replace(clip, warnings=(*clip.warnings, *warnings))


def check_exists(source: str | os.PathLike[str]) -> None:
    """Find a clip without reading it.

    Raises:
        UnknownNameError: if there is no such file or sample.
        ClipError: if it is neither a file nor a folder.
    """
    text = os.fsencode(source).decode(errors="replace")
    if text.startswith("sample:"):
        known = samples()
        if text not in known:
            raise UnknownNameError("sample", text, known, "`zoo info MODEL` lists the samples of a model's plugin")
        return
    path = Path(source).expanduser()
    if not path.exists():
        raise UnknownNameError(
            f"clip in {path.parent}",
            path.name,
            [other.name for other in path.parent.glob("[!.]*")],
            "expected a video, an image, a folder of images, or sample:NAME",
        )
    if not path.is_file() and not path.is_dir():
        raise ClipError(f"{text} is neither a file nor a folder")


def samples() -> dict[str, tuple[Any, int]]:
    """Return every bundled clip by its full name: the sample and the index in it; the bare name is the first."""
    named: dict[str, tuple[Any, int]] = {}
    for listing in catalog.listings():
        for sample in listing.entry.samples:
            named.setdefault(f"sample:{sample.name}", (sample, 0))
            for index in range(len(sample.labels)):
                named.setdefault(f"sample:{sample.name}/{index}", (sample, index))
    return named


def _sample(name: str, request: _Request) -> Clip:
    from safetensors import safe_open

    check_exists(name)
    sample, index = samples()[name]
    with safe_open(obtaining.locate(sample.resource), framework="pt") as file:
        frames = file.get_slice("clips")[index : index + 1][0]
    clip = _stacked(name, frames, request, label=sample.labels[index])
    return replace(clip, classes=sample.classes[index]) if sample.classes else clip


def _tensor(path: Path) -> Tensor:
    from zoo.weights import files as weights

    try:
        header, tensors = weights.read_header(path), weights.map_tensors(path)
    except WeightsError as error:  # of many clips one that cannot be read is left out
        raise ClipError(str(error)) from error
    clips = [name for name, (dtype, shape) in header.tensors.items() if dtype == "U8" and len(shape) == 4]
    if len(clips) != 1:
        found = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in header.tensors.items())
        raise ClipError(f"{path} holds no single uint8 tensor T x H x W x C; it holds: {found or 'nothing'}")
    return tensors[clips[0]]


def _folder(source: str, path: Path, request: _Request) -> Clip:
    files = sorted(
        (file for file in path.iterdir() if file.suffix.lower() in images.IMAGE_SUFFIXES),
        key=lambda file: natural(file.name),
    )
    if not files:
        raise ClipError(f"{path} holds no images ({', '.join(sorted(images.IMAGE_SUFFIXES))})")
    limits.check_count(source, len(files))
    inside, times, kept = _chosen(source, len(files), None, request)
    shown: list[Tensor] = []
    warnings: dict[str, None] = {}
    for index in kept:
        frames, _, said = images.read(str(files[index]), files[index])
        limits.check_size(source, frames.shape[1], frames.shape[2], len(shown) + 1)
        shown.append(frames[0])
        warnings |= dict.fromkeys(said)
    odd = next((file for file, image in zip(kept, shown, strict=True) if image.shape != shown[0].shape), None)
    if odd is not None:
        raise ClipError(f"{files[odd]} has another size than {files[kept[0]]}; the images of a clip share one size")
    clip = _clip(source, torch.stack(shown), inside, times, kept, request)
    return replace(clip, warnings=tuple(warnings))


def _stacked(
    source: str,
    frames: Tensor,
    request: _Request,
    *,
    times: tuple[float, ...] | None = None,
    label: str | None = None,
) -> Clip:
    if frames.shape[-1] not in (1, 3) or 0 in frames.shape:
        raise ClipError(f"{source}: expected T x H x W x C with C = 1 or 3, got {' x '.join(map(str, frames.shape))}")
    limits.check_count(source, len(frames))
    inside, times, kept = _chosen(source, len(frames), times, request)
    limits.check_size(source, frames.shape[1], frames.shape[2], len(kept))
    clip = _clip(source, frames[kept].expand(-1, -1, -1, 3).contiguous(), inside, times, kept, request)
    return replace(clip, label=label)


def _chosen(
    source: str, total: int, times: tuple[float, ...] | None, request: _Request
) -> tuple[range, tuple[float, ...] | None, list[int]]:
    """Return the range of readable frames between `start` and `end`, their times, and the indices kept.

    Raises:
        UsageError: for times where none are known, or `fps` where they are.
        ClipError: if there are no frames between.
    """
    if request.fps is not None:
        if times is not None:
            raise UsageError(f"{source} says itself when its frames are shown; leave out fps")
        times = tuple(index / request.fps for index in range(total))
    inside = range(total)
    if request.start or request.end is not None:
        if times is None:
            raise UsageError(f"{source} is no video: its frames have no times for start and end to cut at; give fps")
        inside = within(times, request.start, request.end)
        if not inside:
            raise ClipError(f"{source} has no frame between {request.start:g} s and {videos.end_in_words(request.end)}")
    known = None if times is None else times[inside.start : inside.stop]
    kept = request.wanted(is_timed=times is not None).of(len(inside), known)
    return inside, times, [inside[index] for index in kept]


def within(times: tuple[float, ...], start: float, end: float | None) -> range:
    """Return the indices of the frames from `start` up to, but not including, `end`."""
    first = sum(time < start - videos.TOLERANCE for time in times)
    stop = len(times) if end is None else sum(time < end - videos.TOLERANCE for time in times)
    return range(first, stop)


def _clip(
    source: str, frames: Tensor, inside: range, times: tuple[float, ...] | None, kept: list[int], request: _Request
) -> Clip:
    return Clip(
        frames=frames,
        source=source,
        indices=tuple(index - inside.start for index in kept),
        total=len(inside),
        times=None if times is None else tuple(times[index] for index in kept),
        fps=request.fps or rate(times),
        start=request.start,
        end=request.end,
    )


def rate(times: tuple[float, ...] | None) -> float | None:
    """Return the average number of frames per second."""
    return (len(times) - 1) / (times[-1] - times[0]) if times and times[-1] > times[0] else None
