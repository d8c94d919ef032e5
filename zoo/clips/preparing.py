"""Turn clips into batches: sample, convert to the size and channels of a model's input, normalize."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import devices
from zoo.clips import reading, sampling, videos
from zoo.clips.clip import Clip, noted, timed
from zoo.entries import InputSpec, ModelEntry
from zoo.errors import ClipError, ClipWarning, UsageError
from zoo.limits import LONGEST_SIDE
from zoo.registry import resolving

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def preprocess(
    clip: Tensor | Clip | str | os.PathLike[str] | bytes | IO[bytes],
    entry_or_model: ModelEntry | InputSpec | nn.Module | str,
    *,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    device: str | None = None,
) -> Tensor:
    """Preprocess a clip into the batch of one sample that a model expects.

    Args:
        clip: uint8 frames T x H x W x C (C is 1 or 3), a `Clip`, or any source of `read_clip`.
        entry_or_model: A model loaded by `zoo.load`, an entry, its input, or a name.
        start: Seconds of the clip at which to begin.
        end: Seconds at which to stop; None goes to the end.
        fps: Frames per second of frames in memory or of a folder of images, which carry none; None assumes the
            rate of the model's input.
        device: Device of the batch; None is the model's device, or the CPU for an entry.

    Returns:
        1 x C x T x H x W (or in the input's layout), in the model's floating-point type, else float32.
        `times_of` returns the times of its frames, so that results name moments by their time.

    Warns:
        ClipWarning: for properties of the clip that affect results, unless it is a `Clip`, which lists them: frames
            are missing or repeated, an unknown frame rate.

    Raises:
        UsageError: for times of a clip that has none, or `fps` of one that has.
        UnknownNameError, ClipError, OSError, MemoryError: as `read_clip`.
    """
    spec = spec_of(entry_or_model)
    like = devices.like(entry_or_model) if isinstance(entry_or_model, nn.Module) else torch.empty(0)
    if isinstance(clip, Clip):
        clip = cut(clip, start, end, fps)
    else:
        if isinstance(clip, Tensor):
            clip = of_frames(clip, spec, start=start, end=end, fps=fps)
        else:
            clip = reading.decode(clip, spec=spec, start=start, end=end, fps=fps)
        for warning in clip.warnings:
            warnings.warn(warning, ClipWarning, stacklevel=2)
    batch = normalize(convert(clip, spec), spec).to(devices.resolve(device or str(like.device)), like.dtype)
    return timed(batch, times_of(clip, spec))


def of_frames(
    frames: Tensor, spec: InputSpec, *, start: float = 0.0, end: float | None = None, fps: float | None = None
) -> Clip:
    """Make a clip from frames in memory, uint8 T x H x W x C with C = 1 or 3.

    Args:
        frames: The frames.
        spec: The input that they are meant for: the clip's warnings name repeated frames and unknown rates.
        start: As in `preprocess`.
        end: As there.
        fps: As there.

    Raises:
        ClipError: for another shape or type, or for no frame between the two times.
        UsageError: for times without `fps`.
    """
    _check_frames(frames)
    total = len(frames)
    whole = Clip(
        frames=frames.expand(-1, -1, -1, 3), source="frames given in memory", indices=tuple(range(total)), total=total
    )
    clip = cut(whole, start, end, fps)
    return dataclasses.replace(clip, warnings=tuple(reading.notes(clip, spec)))


def cut(clip: Clip, start: float = 0.0, end: float | None = None, fps: float | None = None) -> Clip:
    """Return the part of a clip between two times; `fps` gives times to a clip without them.

    Raises:
        ClipError: for no frame between them.
        UsageError: for times of a clip that has none, or `fps` of one that has.
    """
    reading.check_times(start, end, fps)
    if fps is not None:
        if clip.times is not None:
            raise UsageError(f"{clip.source} says itself when its frames are shown; leave out fps")
        clip = dataclasses.replace(clip, fps=fps, times=tuple(index / fps for index in clip.indices))
    if not start and end is None:
        return clip
    if clip.times is None:
        raise UsageError(f"{clip.source}: its frames have no times for start and end to cut at; give fps")
    inside = reading.within(clip.times, start, end)
    if not inside:
        raise ClipError(f"{clip.source} has no frame between {start:g} s and {videos.end_in_words(end)}")
    part = slice(inside.start, inside.stop)
    return dataclasses.replace(
        clip,
        frames=clip.frames[part],
        indices=clip.indices[part],
        times=clip.times[part],
        total=len(inside),
        start=start,
        end=end,
    )


def sampled_of(clip: Clip | Tensor, spec: InputSpec) -> list[int]:
    """Return the frames of a clip that an input uses: `spec.frames` indices into `clip.frames`."""
    if isinstance(clip, Clip):
        return sampling.sampled(len(clip.frames), spec, times=clip.times)
    return sampling.sampled(len(clip), spec)


def following(
    source: str | Path,
    entry_or_model: ModelEntry | InputSpec | nn.Module | str,
    count: int,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> Tensor | None:
    """Return the frames that follow those a model reads: the ground truth of models that predict them.

    Args:
        source: As `read_clip` takes it.
        entry_or_model: As in `preprocess`.
        count: How many.
        start: As in `read_clip`.
        end: As there.

    Returns:
        1 x C x count x H x W (float32), prepared as the input is; None if the clip ends before, or where the input
        is spread over the whole clip, so that nothing follows it.

    Raises:
        As `decode` does.
    """
    spec = spec_of(entry_or_model)
    if spec.sampling != "consecutive":
        return None
    longer = dataclasses.replace(spec, frames=spec.frames + count, layout="NCTHW")
    clip = reading.decode(source, start=start, end=end, spec=longer)
    if reading.is_short(clip, longer):
        return None
    times = times_of(clip, longer)
    return timed(normalize(convert(clip, longer), longer)[:, :, spec.frames :], times and times[spec.frames :])


def times_of(clip: Clip | Tensor, spec: InputSpec | None = None) -> tuple[float, ...] | None:
    """Return the seconds of the frames that a model sees, on the clock of the clip's source; None if unknown.

    Args:
        clip: A clip, or a batch of one sample as `preprocess` returns it: tensors computed from it have no times.
        spec: The input that takes its frames from the clip; None takes all of them.
    """
    if not isinstance(clip, Clip):
        return noted(clip)
    if clip.times is None or spec is None:
        return clip.times
    return tuple(clip.times[index] for index in sampled_of(clip, spec))


def spec_of(entry_or_model: ModelEntry | InputSpec | nn.Module | str) -> InputSpec:
    """Return the input of an entry, of a loaded model, or of a model by its name.

    Raises:
        UsageError: for a module that did not come from the zoo.
    """
    if isinstance(entry_or_model, str):
        return resolving.info(entry_or_model).input
    if isinstance(entry_or_model, InputSpec):
        return entry_or_model
    entry = getattr(entry_or_model, "zoo_entry", entry_or_model)
    if not isinstance(entry, ModelEntry):
        raise UsageError("this module did not come from zoo.load: give an entry, or make the batch yourself")
    return entry.input


def convert(clip: Clip | Tensor, spec: InputSpec) -> Tensor:
    """Return the frames that a model sees, before normalization.

    Args:
        clip: A clip, sampled by its times if it has them; or frames without times, uint8, T x H x W x C, C is 1 or 3
            (RGB).
        spec: How frames are sampled, converted to channels, resized and cropped.

    Returns:
        uint8, frames x H x W x channels, by `spec`.

    Raises:
        ClipError: for another shape or type, or if a frame is so narrow that resizing exceeds the size limit.
    """
    frames = clip.frames if isinstance(clip, Clip) else clip
    _check_frames(frames)
    if spec.channels == "other":
        raise ClipError(f"the model takes {spec.channel_count} channels that are no colours; make its batch yourself")
    height, width = frames.shape[1:3]
    scaled = _scaled_size(height, width, spec)
    if max(scaled) > LONGEST_SIDE:
        raise ClipError(
            f"frames of {width} x {height} pixels would be resized to {scaled[1]} x {scaled[0]}, and no side may be "
            f"longer than {LONGEST_SIDE:,}; crop the clip first"
        )
    return torch.stack([_converted(frame, spec) for frame in frames[sampled_of(clip, spec)]])


def _check_frames(frames: Tensor) -> None:
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3) or 0 in frames.shape:
        shape = " x ".join(map(str, frames.shape))
        raise ClipError(f"expected uint8 frames T x H x W x C with C = 1 or 3, got {frames.dtype} {shape}")


def _converted(frame: Tensor, spec: InputSpec) -> Tensor:
    """Return one frame as the model sees it, H x W x channels; one at a time, as floats of a large clip fill memory."""
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
    """Scale and normalize frames of `convert`: float32 in the layout of `spec`, one sample."""
    low, high = spec.range
    scaled = frames.float() / 255 * (high - low) + low
    batch = (scaled - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    if spec.layout == "NCHW":
        return batch.permute(0, 3, 1, 2).contiguous()
    order = (3, 0, 1, 2) if spec.layout == "NCTHW" else (0, 3, 1, 2)
    return batch.permute(order).unsqueeze(0).contiguous()


def describe(clip: Clip, spec: InputSpec) -> list[str]:
    """Describe each step from the clip to the batch in a sentence; steps without effect are omitted."""
    height, width = clip.frames.shape[1:3]
    rate = f" at {clip.fps:.4g} frames per second" if clip.fps else ""
    said = [f"Read {reading.count_of(clip.total)} of {width} × {height} pixels{rate}."]
    if clip.total != spec.frames or clip.start:
        said.append(_taken(clip, spec))
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
        return (
            (frame.float() @ torch.tensor(_LUMA, dtype=torch.float32))
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            .unsqueeze(-1)
        )
    frame = frame.expand(-1, -1, 3)
    return frame.flip(-1) if spec.channels == "BGR" else frame


def _taken(clip: Clip, spec: InputSpec) -> str:
    """Describe in one sentence which frames of a clip an input uses."""
    first = f"from {clip.times[0]:.2f} s on" if clip.start and clip.times else "from the start"
    if spec.sampling == "uniform":
        return f"Took {spec.frames} frames, evenly spread from the first to the last."
    if spec.frame_rate is not None and clip.times is not None:
        rate = 1 / sampling.step(spec)
        return f"Took {spec.frames} frames {first}, the nearest to each of {rate:.4g} instants a second."
    if spec.stride > 1:
        return f"Took {spec.frames} frames {first}, every {spec.stride}."
    return f"Took the first {spec.frames} frames" + (f" {first}." if clip.start else ".")


def _scaled_size(height: int, width: int, spec: InputSpec) -> tuple[int, int]:
    """Return rows and columns after resizing and before the crop; at least the crop's size."""
    if spec.resize == "exact":
        return spec.resized or spec.size
    short = spec.short_side or max(spec.size)
    scaled = (short * height // min(height, width), short * width // min(height, width))  # floors, as torchvision does
    return max(scaled[0], spec.size[0]), max(scaled[1], spec.size[1])
