"""Read clips (video files, image folders, images, tensors, bundled samples) and turn them into batches.

The way of a clip: `decode` -> uint8 frames T x H x W x 3 -> `convert` -> uint8 frames as the model sees them
-> `normalize` -> a batch. `preprocess` goes all the way.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import catalog, devices
from zoo.entries import LONGEST_SIDE, InputSpec, ModelEntry
from zoo.errors import ClipError, UnknownNameError, UsageError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import av.container
    import av.video.stream

#: A decoded clip may hold this many bytes; longer ones are sampled, or cut with `start` and `end`.
MAX_BYTES = 2 * 1024**3
#: A clip may have this many frames, of which those that are taken count as bytes.
MAX_FRAMES = 2**20
#: Pixels of one frame as it is stored; no side is longer than `LONGEST_SIDE`.
MAX_PIXELS = 2**26
#: File names that are read as single images.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
#: What such a file may hold, whatever its name: Pillow knows others, and starts a program for one of them.
_IMAGES = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
#: Containers that hold their own frames. FFmpeg also reads lists of other files, devices, and text as pictures.
_CONTAINERS = (
    "apng asf av1 avi dirac dv flv gxf h261 h263 h264 hevc ivf m4v matroska mjpeg mov mp4 mpeg mpegts mpegvideo mxf "
    "nut obu ogg rm vc1 vvc webm wtv yuv4mpegpipe"
)
_OPENING = {
    "format_whitelist": _CONTAINERS.replace(" ", ","),
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_PIXELS),
}
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames and where they come from."""

    #: uint8, T x H x W x 3, RGB.
    frames: Tensor
    #: The path or sample name as it was given.
    source: str
    #: Index of each frame in the source, T of them.
    indices: tuple[int, ...]
    #: Frames in the source (between `start` and `end`).
    total: int
    #: Frames per second of the source, where it has a rate.
    fps: float | None = None
    #: What the clip shows, where it is known.
    label: str | None = None
    #: Its class by what it is a class of ("digit" -> "4"), where a sample says so.
    classes: Mapping[str, str] = field(default_factory=dict)
    #: What a reader should know, such as a video shorter than it declares.
    warnings: tuple[str, ...] = ()


def read_clip(path: str | Path, *, frames: int | None = None, start: float = 0.0, end: float | None = None) -> Tensor:
    """Frames of a clip: uint8, T x H x W x 3, RGB.

    Args:
        path: A video that PyAV decodes, a folder of images, one image, a safetensors file with one
            uint8 tensor T x H x W x C, or a sample ("sample:NAME", "sample:NAME/3").
        frames: Take this many, evenly spread; None takes all.
        start: Seconds at which to begin.
        end: Seconds at which to stop; None goes to the end.

    Raises:
        UnknownNameError: where there is no such file or sample.
        ClipError: where it cannot be decoded or holds no frame.
    """
    return decode(path, frames=frames, start=start, end=end).frames


def preprocess(
    clip: Tensor | Clip | str | Path, entry_or_model: ModelEntry | nn.Module | str, *, device: str | None = None
) -> Tensor:
    """The batch of one sample that a model expects.

    Args:
        clip: uint8 frames T x H x W x C (C is 1 or 3), or what `read_clip` takes.
        entry_or_model: A model that `zoo.load` gave, an entry, or a name.
        device: Where the batch goes; None is the model's device, or the CPU for an entry.

    Returns:
        1 x C x T x H x W (or as the layout of the input says), in the model's floating-point type, else float32.
    """
    spec = spec_of(entry_or_model)
    like = devices.like(entry_or_model) if isinstance(entry_or_model, nn.Module) else torch.empty(0)
    if isinstance(clip, str | Path):
        clip = decode(clip, spec=spec)
    frames = clip.frames if isinstance(clip, Clip) else clip
    return normalize(convert(frames, spec), spec).to(devices.resolve(device or str(like.device)), like.dtype)


def following(
    source: str | Path,
    entry_or_model: ModelEntry | nn.Module | str,
    count: int,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> Tensor | None:
    """The frames of a clip after those that a model takes: what one that predicts them should give.

    Args:
        source: As `read_clip` takes it.
        entry_or_model: As in `preprocess`.
        count: How many.
        start: As in `read_clip`.
        end: As there.

    Returns:
        1 x C x count x H x W (float32), prepared as the input is; None where the clip ends before, or where the input
        is spread over the whole clip, so that nothing follows it.

    Raises:
        As `decode` does.
    """
    spec = spec_of(entry_or_model)
    if spec.sampling != "consecutive":
        return None
    longer = dataclasses.replace(spec, frames=spec.frames + count, layout="NCTHW")
    clip = decode(source, start=start, end=end, spec=longer)
    if clip.total <= (longer.frames - 1) * spec.stride:
        return None
    return normalize(convert(clip.frames, longer), longer)[:, :, spec.frames :]


def spec_of(entry_or_model: ModelEntry | nn.Module | str) -> InputSpec:
    """The input of an entry, of a loaded model, or of a model by its name.

    Raises:
        UsageError: for a module that did not come from the zoo.
    """
    if isinstance(entry_or_model, str):
        return catalog.info(entry_or_model).input
    entry = getattr(entry_or_model, "zoo_entry", entry_or_model)
    if not isinstance(entry, ModelEntry):
        raise UsageError("this module did not come from zoo.load: give an entry, or make the batch yourself")
    return entry.input


def decode(
    source: str | Path,
    *,
    frames: int | None = None,
    start: float = 0.0,
    end: float | None = None,
    spec: InputSpec | None = None,
) -> Clip:
    """Read a clip with what is known about it; `spec` keeps only the frames that this input will use.

    Raises:
        UnknownNameError: where there is no such file or sample.
        ClipError: where it cannot be decoded, holds no frame, or is too large.
        UsageError: for times or a number of frames that cannot be.
    """
    if frames is not None and frames < 1:
        raise UsageError(f"frames must be at least 1, got {frames}")
    if start < 0 or (end is not None and end <= start):
        raise UsageError(f"expected 0 <= start < end in seconds, got start {start} and end {end}")

    def pick(total: int) -> list[int]:
        if frames is not None:
            return spread(total, frames) if frames < total else list(range(total))
        if spec is None:
            return list(range(total))
        if spec.sampling == "consecutive":  # all up to the last one used: `convert` takes every stride-th of them
            return list(range(min(total, (spec.frames - 1) * spec.stride + 1)))
        return sorted(set(sampled(total, spec)))

    if start != start or (end is not None and end != end):
        raise UsageError("start and end are seconds, not nan")
    clip = _read(source, pick, start, end)
    if spec is not None and clip.total < spec.frames:
        few = f"The clip has {_count_of(clip.total)} and the model takes {spec.frames}: some are shown more than once."
        clip = dataclasses.replace(clip, warnings=(*clip.warnings, few))
    return clip


def _read(source: str | Path, pick: Callable[[int], list[int]], start: float, end: float | None) -> Clip:
    text = os.fsencode(source).decode(errors="replace")  # a name that is not UTF-8 must not break what is written
    path = Path(source).expanduser()
    if text.startswith("sample:"):
        clip = _sample(text, pick)
    elif path.is_dir():
        clip = _folder(text, path, pick)
    else:
        check_exists(source)
        if path.suffix == ".safetensors":
            clip = _stacked(text, _tensor(path), pick)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            clip = _stacked(text, _images(path), pick)
        else:
            return _video(text, path, pick, start, end)
    if start or end is not None:
        raise UsageError(f"{text} is no video: its frames have no times for start and end to cut at")
    return clip


def check_exists(source: str | Path) -> None:
    """Find a clip without reading it.

    Raises:
        UnknownNameError: where there is no such file or sample.
        ClipError: where it is neither a file nor a folder.
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
    """Every bundled clip by its full name: the sample and the index in it; the bare name is the first."""
    named: dict[str, tuple[Any, int]] = {}
    for listing in catalog.listings():
        for sample in listing.entry.samples:
            named.setdefault(f"sample:{sample.name}", (sample, 0))
            for index in range(len(sample.labels)):
                named.setdefault(f"sample:{sample.name}/{index}", (sample, index))
    return named


def sampled(total: int, spec: InputSpec) -> list[int]:
    """Indices of the frames that an input takes from `total`; the last one is repeated where they run out."""
    if spec.sampling == "consecutive":
        return [min(index * spec.stride, total - 1) for index in range(spec.frames)]
    return spread(total, spec.frames)


def spread(total: int, count: int) -> list[int]:
    """`count` indices from the first to the last of `total`, evenly spread; frames repeat where count > total."""
    if count == 1:
        return [(total - 1) // 2]
    return [round(index * (total - 1) / (count - 1)) for index in range(count)]


def convert(frames: Tensor, spec: InputSpec) -> Tensor:
    """The frames that a model sees, before normalisation.

    Args:
        frames: uint8, T x H x W x C, C is 1 or 3 (RGB).
        spec: Says how frames are sampled, turned into channels, resized and cropped.

    Returns:
        uint8, frames x H x W x channels, as `spec` says.

    Raises:
        ClipError: for another shape or type, or where a frame is so narrow that it grew out of measure.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or 0 in frames.shape:
        shape = " x ".join(map(str, frames.shape))
        raise ClipError(f"expected uint8 frames T x H x W x C with C = 1 or 3, got {frames.dtype} {shape}")
    if spec.channels == "other":
        raise ClipError(f"the model takes {spec.channel_count} channels that are no colours; make its batch yourself")
    height, width = frames.shape[1:3]
    scaled = _scaled_size(height, width, spec)
    if max(scaled) > LONGEST_SIDE:
        raise ClipError(
            f"frames of {width} x {height} pixels would be resized to {scaled[1]} x {scaled[0]}, and no side may be "
            f"longer than {LONGEST_SIDE:,}; crop the clip first"
        )
    return torch.stack([_converted(frame, spec) for frame in frames[sampled(len(frames), spec)]])


def _converted(frame: Tensor, spec: InputSpec) -> Tensor:
    """One frame as the model sees it, H x W x channels; one at a time, since floats of a large clip fill memory."""
    frame = _channels(frame, spec)
    height, width = frame.shape[:2]
    scaled = _scaled_size(height, width, spec)
    if scaled != (height, width):
        moved = frame.permute(2, 0, 1)[None].float()
        resized = F.interpolate(
            moved, size=scaled, mode=spec.interpolation, align_corners=False, antialias=spec.antialias
        )
        frame = resized[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
    top, left = (round((scaled[axis] - spec.size[axis]) / 2) for axis in (0, 1))
    return frame[top : top + spec.size[0], left : left + spec.size[1]].contiguous()


def normalize(frames: Tensor, spec: InputSpec) -> Tensor:
    """Frames as `convert` gives them, scaled and normalised: float32 in the layout of `spec`, one sample."""
    low, high = spec.range
    scaled = frames.float() / 255 * (high - low) + low
    batch = (scaled - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    if spec.layout == "NCHW":
        return batch.permute(0, 3, 1, 2).contiguous()
    order = (3, 0, 1, 2) if spec.layout == "NCTHW" else (0, 3, 1, 2)
    return batch.permute(order).unsqueeze(0).contiguous()


def describe(clip: Clip, spec: InputSpec) -> list[str]:
    """One sentence for each step from the clip to the batch; steps that change nothing are left out."""
    height, width = clip.frames.shape[1:3]
    rate = f" at {clip.fps:.4g} frames per second" if clip.fps else ""
    said = [f"Read {_count_of(clip.total)} of {width} × {height} pixels{rate}."]
    if spec.sampling == "consecutive":
        taken = (
            f"Took {spec.frames} frames from the start, every {spec.stride}."
            if spec.stride > 1
            else (f"Took the first {spec.frames} frames.")
        )
    else:
        taken = f"Took {spec.frames} frames, evenly spread from the first to the last."
    if clip.total != spec.frames:
        said.append(taken)
    if spec.channels == "L" and bool((clip.frames != clip.frames[..., :1]).any()):
        said.append("Turned colour into grey (ITU-R 601 luma).")
    if spec.channels == "BGR":
        said.append("Swapped the channels from RGB to BGR.")
    scaled = _scaled_size(height, width, spec)
    if scaled != (height, width):
        how = spec.interpolation + (", antialiased" if spec.antialias else "")
        said.append(f"Resized to {scaled[1]} × {scaled[0]} pixels ({how}).")
    if scaled != spec.size:
        said.append(f"Cut the central {spec.size[1]} × {spec.size[0]} pixels.")
    said.append(f"Scaled 0..255 to {spec.range[0]:g}..{spec.range[1]:g}.")
    if any(spec.mean) or any(value != 1 for value in spec.std):
        means, deviations = (", ".join(f"{value:g}" for value in values) for values in (spec.mean, spec.std))
        said.append(f"Subtracted the mean ({means}) and divided by the standard deviation ({deviations}).")
    return said


def _channels(frame: Tensor, spec: InputSpec) -> Tensor:
    if spec.channels == "L":
        if frame.shape[-1] == 1:
            return frame
        return (frame.float() @ torch.tensor(_LUMA)).round().clamp(0, 255).to(torch.uint8).unsqueeze(-1)
    frame = frame.expand(-1, -1, 3)
    return frame.flip(-1) if spec.channels == "BGR" else frame


def _count_of(frames: int) -> str:
    return "1 frame" if frames == 1 else f"{frames} frames"


def _scaled_size(height: int, width: int, spec: InputSpec) -> tuple[int, int]:
    """Rows and columns after resizing and before the crop; at least the crop's size."""
    if spec.resize == "exact":
        return spec.resized or spec.size
    short = spec.short_side or max(spec.size)
    scaled = (short * height // min(height, width), short * width // min(height, width))  # floors, as torchvision does
    return max(scaled[0], spec.size[0]), max(scaled[1], spec.size[1])


def _sample(name: str, pick: Callable[[int], list[int]]) -> Clip:
    from safetensors import safe_open

    from zoo import weights

    check_exists(name)
    sample, index = samples()[name]
    with safe_open(weights.locate(sample.resource), framework="pt") as file:
        frames = file.get_slice("clips")[index : index + 1][0]
    clip = _stacked(name, frames, pick, label=sample.labels[index])
    return replace(clip, classes=sample.classes[index]) if sample.classes else clip


def _tensor(path: Path) -> Tensor:
    from zoo import weights

    try:
        header, tensors = weights.read_header(path), weights.map_tensors(path)
    except WeightsError as error:  # of many clips one that cannot be read is left out
        raise ClipError(str(error)) from error
    clips = [name for name, (dtype, shape) in header.tensors.items() if dtype == "U8" and len(shape) == 4]
    if len(clips) != 1:
        found = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in header.tensors.items())
        raise ClipError(f"{path} holds no single uint8 tensor T x H x W x C; it holds: {found or 'nothing'}")
    return tensors[clips[0]]


def _images(path: Path) -> Tensor:
    """The frames of an image file: one, or all of an animation."""
    from PIL import Image, ImageOps, ImageSequence

    frames: list[np.ndarray[Any, Any]] = []
    try:
        with Image.open(path, formats=_IMAGES) as image:
            for frame in ImageSequence.Iterator(image):
                _check_size(path, frame.height, frame.width, len(frames) + 1)
                frames.append(np.asarray(ImageOps.exif_transpose(frame).convert("RGB")))
        return torch.from_numpy(np.stack(frames))
    except ClipError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ClipError(f"{path} cannot be read as an image: {reason}") from error


def _check_size(source: str | Path, height: int, width: int, count: int = 1) -> None:
    """Raise ClipError where frames are too large, or `count` of them together are."""
    if height * width > MAX_PIXELS or max(height, width) > LONGEST_SIDE:
        raise ClipError(
            f"{source} has frames of {width} x {height} pixels; expected at most {LONGEST_SIDE:,} a side and "
            f"{MAX_PIXELS:,} in all: scale it down first"
        )
    if 3 * count * height * width > MAX_BYTES:
        raise ClipError(
            f"{source} takes more than {MAX_BYTES // 1024**2:,} MiB decoded; take fewer `frames`, "
            "or a part of it with `start` and `end`"
        )


def _check_count(source: str | Path, count: int) -> None:
    if count > MAX_FRAMES:
        raise ClipError(f"{source} has {count:,} frames; expected at most {MAX_FRAMES:,}: cut it into shorter clips")


def _folder(source: str, path: Path, pick: Callable[[int], list[int]]) -> Clip:
    files = sorted(
        (file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES),
        key=lambda file: catalog.natural(file.name),
    )
    if not files:
        raise ClipError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    _check_count(source, len(files))
    indices = pick(len(files))
    images: list[Tensor] = []
    for index in indices:
        image = _images(files[index])[0]
        _check_size(source, image.shape[0], image.shape[1], len(images) + 1)
        images.append(image)
    odd = next((file for file, image in zip(indices, images, strict=True) if image.shape != images[0].shape), None)
    if odd is not None:
        raise ClipError(f"{files[odd]} has another size than {files[indices[0]]}; the images of a clip share one size")
    return Clip(frames=torch.stack(images), source=source, indices=tuple(indices), total=len(files))


def _stacked(source: str, frames: Tensor, pick: Callable[[int], list[int]], label: str | None = None) -> Clip:
    if frames.shape[-1] not in (1, 3) or 0 in frames.shape:
        raise ClipError(f"{source}: expected T x H x W x C with C = 1 or 3, got {' x '.join(map(str, frames.shape))}")
    _check_count(source, len(frames))
    indices = pick(len(frames))
    _check_size(source, frames.shape[1], frames.shape[2], len(indices))
    rgb = frames[indices].expand(-1, -1, -1, 3).contiguous()
    return Clip(frames=rgb, source=source, indices=tuple(indices), total=len(frames), label=label)


def _video(source: str, path: Path, pick: Callable[[int], list[int]], start: float, end: float | None) -> Clip:
    """Decode a video twice: frames are chosen by the number it declares, again if fewer decode."""
    import av

    try:
        with av.open(_as_file(path), metadata_errors="ignore", options=_OPENING) as container:
            if not container.streams.video:
                raise ClipError(f"{path} has no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise ClipError(f"{path} holds a video of a kind that no decoder here reads; convert it to .mp4")
            _check_size(path, stream.codec_context.height, stream.codec_context.width)
            rate = stream.average_rate
            declared = _count(container, start, end)
        _check_count(path, declared)
        indices = pick(declared) if declared else []
        kept, decoded = _decode(path, set(indices), start, end)
        if decoded == 0:
            raise ClipError(_no_frames(path, declared, start, end))
        if decoded != declared:
            indices = pick(decoded)
            kept, again = _decode(path, set(indices), start, end)
            if again != decoded:
                raise ClipError(f"{path} gives {decoded} frames once and {again} the next time; convert it to .mp4")
    except av.error.FFmpegError as error:
        expected = "expected a file such as .mp4, .mkv, .webm, .mov or .avi"
        raise ClipError(f"{path} does not decode as a video: {error.strerror or error}; {expected}") from error
    cut = f"The video declares {declared} frames, and only {decoded} of them decode; those were used."
    return Clip(
        frames=torch.from_numpy(np.stack([kept[index] for index in indices])),
        source=source,
        indices=tuple(indices),
        total=decoded,
        fps=float(rate) if rate else None,
        warnings=(cut,) if decoded < declared else (),
    )


def _as_file(path: Path) -> str:
    """A path as FFmpeg takes it: a colon in a file's name must not read as a protocol."""
    return f"file:{path}"


def _no_frames(path: Path, declared: int, start: float, end: float | None) -> str:
    if start or end is not None:
        return f"{path} has no frame between {start:g} s and {'its end' if end is None else f'{end:g} s'}"
    return f"{path} declares {declared} frames and none of them decodes" if declared else f"{path} has no frames"


def _count(container: av.container.InputContainer, start: float, end: float | None) -> int:
    """Frames that a video declares between two times, from its packets or its header, without decoding."""
    stream = container.streams.video[0]
    times = [packet.pts for packet in container.demux(stream) if packet.size]
    if start or end is not None:
        seconds = [_seconds(time, stream) for time in times]
        return sum(start <= second < (end if end is not None else float("inf")) for second in seconds)
    return max(len(times), stream.frames if stream.frames <= MAX_FRAMES else 0)  # a header may say anything


def _seconds(time: int | None, stream: av.video.stream.VideoStream) -> float:
    if time is None or stream.time_base is None:
        return 0.0
    return float((time - (stream.start_time or 0)) * stream.time_base)


def _decode(
    path: Path, wanted: set[int], start: float, end: float | None
) -> tuple[dict[int, np.ndarray[Any, Any]], int]:
    """Frames at the wanted indices, counted from `start`, and how many frames decoded in all."""
    import av

    kept: dict[int, np.ndarray[Any, Any]] = {}
    decoded = 0
    with av.open(_as_file(path), metadata_errors="ignore", options=_OPENING) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": _OPENING["max_pixels"]}  # what changes its size on the way
        stream.thread_type = "AUTO"
        for frame in _frames(container):
            second = _seconds(frame.pts, stream)
            if second < start:
                continue
            if end is not None and second >= end:
                break
            if decoded in wanted:
                _check_size(path, frame.height, frame.width, len(kept) + 1)
                image = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                if kept and image.shape != next(iter(kept.values())).shape:
                    raise ClipError(f"{path} changes its size at frame {decoded}; cut the part before it with `end`")
                kept[decoded] = image
            decoded += 1
            _check_count(path, decoded)  # a packet may hold several
    return kept, decoded


def _frames(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    """Frames in order of time until the end or the first packet that does not decode."""
    import av

    try:
        yield from container.decode(video=0)
    except av.error.InvalidDataError:
        return
