"""Decode videos with PyAV: what ffmpeg shows of a file, from `start` on, and no more than is needed."""

from __future__ import annotations

import errno
import math
import os
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import torch

from zoo.clips import images, limits, sampling
from zoo.clips.clip import Clip
from zoo.errors import ClipError

if TYPE_CHECKING:
    import av
    import av.container
    from av.video.stream import VideoStream

#: Containers that hold their own frames. FFmpeg also reads lists of other files, devices, and text as pictures.
_CONTAINERS = (
    "apng asf av1 avi dirac dv flv gxf h261 h263 h264 hevc ivf m4v matroska mjpeg mov mp4 mpeg mpegts mpegvideo mxf "
    "nut obu ogg rm vc1 vvc webm wtv yuv4mpegpipe"
)
#: Containers that store no time of display: FFmpeg then takes the time at which a frame leaves the decoder.
_WITHOUT_DISPLAY_TIMES = ("avi",)
#: Transfer functions that need more than a screen's range.
_HIGH_DYNAMIC_RANGE = {16: "PQ", 18: "HLG"}
#: FFmpeg errors caused by the file though numbered as errors of the operating system; old decoders return -1,
#: which is EPERM.
_FAULTS_OF_FILES = (errno.EPERM, errno.EINVAL, errno.ERANGE, errno.EDOM, errno.ENOSYS, errno.EOVERFLOW)
#: Seconds by which times may differ from those asked for, as they are rounded.
TOLERANCE = 1e-6
#: Seconds before `start` at which to look for a key frame: some containers find one that is shown too late.
_SEEK_BACK = (0.0, 2.0, 10.0)
#: Frames without a time stamp that wait for one that has: no decoder reorders more.
_MOST_WAITING = 16
#: Runs of missing frames that a warning names.
_MOST_RANGES = 5
#: Seconds by which the clock of a file that may set it anew has to jump ahead, or back, as ffmpeg takes it.
_JUMP, _JUMP_BACK = 10.0, 0.1
#: Seconds by which a time stamp is too far from the one before to be meant, as ffmpeg takes it.
_ABSURD = 30 * 3600.0
#: Time stamps that FFmpeg holds are smaller.
_MOST_TICKS = 2**62
#: FFmpeg's flag of containers that may set their clock anew (`AVFMT_TS_DISCONT`).
_MAY_JUMP = 0x0200
#: Containers whose time stamps begin anew where they outgrow their 32 bits.
_WRAPPING = ("flv",)
#: Packets for which seeking past them costs less than decoding them: it empties the decoder, which reads ahead.
_WORTH_SEEKING = 24


def read(source: str, file: Path | IO[bytes], wanted: sampling.Wanted, start: float, end: float | None) -> Clip:
    """Read a video.

    Args:
        source: Name of the clip, for messages.
        file: Path, or a file open for reading bytes that can seek.
        wanted: Which frames to keep.
        start: Seconds at which to begin, on the file's own clock: 0 is where its earliest stream begins.
        end: Seconds at which to stop; None goes to the end.

    Raises:
        ClipError: for what does not decode, holds no frame, or is too large.
        OSError, MemoryError: if the machine fails.
    """
    with _blaming(source, file):
        if wanted.spread is None:
            return _sequential(source, file, wanted, start, end)
        return _spread(source, file, wanted.spread, start, end)


def _sequential(source: str, file: Path | IO[bytes], wanted: sampling.Wanted, start: float, end: float | None) -> Clip:
    """Read frames in their order and stop after the last one that is wanted."""

    def pick(frames: Iterator[tuple[float, av.VideoFrame]]) -> Iterator[tuple[int, float, av.VideoFrame]]:
        if wanted.count is not None and wanted.interval is not None:
            return sampling.pick(frames, wanted.interval, wanted.count)
        numbered = ((index, time, frame) for index, (time, frame) in enumerate(frames))
        return numbered if wanted.count is None else islice(numbered, wanted.count)

    return _decoded(source, file, start, end, pick, are_times_used=wanted.interval is not None).clip()


def _spread(source: str, file: Path | IO[bytes], count: int, start: float, end: float | None) -> Clip:
    """Read frames spread evenly in time, chosen by the times of packets.

    If key frames are far apart, only what the chosen frames depend on is decoded; otherwise, and if other
    frames are decoded than packets announce, everything is.
    """

    def choose(times: Sequence[float]) -> list[int]:
        return sampling.Wanted(spread=count).of(len(times), times)

    with _Reading(source, file, start, end) as reading:
        chosen = choose(reading.survey())
        frames = reading.sought(chosen)
        if frames:
            reading.finish(are_times_used=False)
            return _Kept(reading=reading, frames=frames).clip()
    found: list[float] | None = None
    while True:
        wanted = set(chosen)
        times: list[float] = []

        def pick(
            frames: Iterator[tuple[float, av.VideoFrame]], wanted: set[int] = wanted, times: list[float] = times
        ) -> Iterator[tuple[int, float, av.VideoFrame]]:
            times.clear()
            for index, (time, frame) in enumerate(frames):
                times.append(time)
                if index in wanted:
                    yield index, time, frame

        decoded = _decoded(source, file, start, end, pick)
        if found is not None and found != times:
            raise ClipError(f"{source} decodes differently each time it is read; convert it to .mp4")
        chosen = choose(times)
        if set(chosen) <= wanted:
            return decoded.clip(set(chosen))
        found = times


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """Frames that were kept of a video."""

    reading: _Reading
    #: Index, seconds and pixels of each.
    frames: list[tuple[int, float, npt.NDArray[np.uint8]]]

    def clip(self, only: set[int] | None = None) -> Clip:
        """Return the clip of the frames with the given indices alone."""
        frames = [one for one in self.frames if only is None or one[0] in only]
        return Clip(
            frames=torch.from_numpy(np.stack([image for _, _, image in frames])),
            source=self.reading.source,
            indices=tuple(index for index, _, _ in frames),
            times=tuple(time for _, time, _ in frames),
            total=self.reading.total,
            fps=self.reading.fps,
            warnings=tuple(self.reading.warnings),
        )


def _decoded(
    source: str,
    file: Path | IO[bytes],
    start: float,
    end: float | None,
    pick: Callable[[Iterator[tuple[float, av.VideoFrame]]], Iterator[tuple[int, float, av.VideoFrame]]],
    *,
    are_times_used: bool = False,
) -> _Kept:
    """Return the frames that `pick` selects; a damaged video is decoded again by one thread, which loses no more.

    Raises:
        ClipError: for a video without frames, with a change of size, or too large.
    """
    for threads in (True, False):
        with _Reading(source, file, start, end, threads=threads) as reading:
            kept: list[tuple[int, float, npt.NDArray[np.uint8]]] = []
            try:
                for index, time, frame in pick(reading.frames()):
                    image = reading.image(frame, len(kept) + 1)
                    if kept and image.shape != kept[0][2].shape:
                        raise ClipError(f"{source} changes its size at {time:.2f} s; cut the part before it with `end`")
                    kept.append((index, time, image))
            except _DamagedError:
                continue
            if not kept:
                raise ClipError(reading.reason_for_no_frame())
            reading.finish(are_times_used=are_times_used)
            return _Kept(reading=reading, frames=kept)
    raise AssertionError("unreachable: one thread does not raise _DamagedError")


class _DamagedError(Exception):
    """A packet does not decode, and several threads decode: which frames are lost is not known."""


class _Reading:
    """One pass over a video file, and what is found out on the way.

    Times are seconds since the file's start, which is that of its earliest stream, as ffmpeg counts them.
    """

    def __init__(
        self, source: str, file: Path | IO[bytes], start: float, end: float | None, *, threads: bool = True
    ) -> None:
        self.source, self.file, self.start, self.end, self.threads = source, file, start, end, threads
        self.notes: dict[str, None] = {}
        self.warnings: list[str] = []
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def _open(self) -> None:
        import av

        name: Any = _as_file(self.file) if isinstance(self.file, os.PathLike) else self.file
        if not isinstance(self.file, os.PathLike):
            self.file.seek(0)
        options = {
            "format_whitelist": _CONTAINERS.replace(" ", ","),
            "protocol_whitelist": "file",
            "max_pixels": _most_pixels(),
        }
        self.container: av.container.InputContainer = av.open(name, metadata_errors="ignore", options=options)
        try:
            self._open_stream()
        except BaseException:
            self.container.close()
            raise
        #: Packets that do not decode: the time stamp of each.
        self.failed: list[int | None] = []
        #: Time stamps of the packets that were decoded, and of the frames that came out.
        self.expected: list[int] = []
        self.shown: set[int] = set()
        #: Time stamps of all packets and whether each is a key frame, in the order of the file, where `survey` finds
        #: that every one announces a frame.
        self.announced: list[tuple[int, bool]] = []
        #: The display matrix of the first frame, which holds for all as in ffmpeg.
        self.matrix: Sequence[int] | None = None
        #: Offset of time stamps since the last jump of the clock, the expected decoding time of the next packet
        #: by the previous packet's duration, and that packet's own decoding time.
        self.shift = 0
        self.due: tuple[int, int] | None = None
        self.packets = self.seen = self.damaged = self.total = self.duration = 0
        self.fps: float | None = None
        self.first = self.last = 0.0
        self.is_at_end = self.is_cut_off = self.has_sought = False

    def _open_stream(self) -> None:
        from av.codec.context import Flags

        if not self.container.streams.video:
            raise ClipError(f"{self.source} has no video stream")
        self.stream: VideoStream = self.container.streams.video[0]
        context = self.stream.codec_context
        if context is None:
            raise ClipError(f"{self.source} holds a video of a kind that no decoder here reads; convert it to .mp4")
        limits.check_size(self.source, context.height, context.width)
        context.options = {"max_pixels": _most_pixels()}  # for what changes its size on the way
        context.thread_type = "AUTO" if self.threads else "NONE"
        if context.name == "hevc":  # which alone keeps back frames whose references are missing
            context.flags |= Flags.output_corrupt
        self.tick = self.stream.time_base or Fraction(1)
        begin = self.container.start_time
        self.is_seekable = begin is not None
        self.may_jump = bool(self.container.format.flags & _MAY_JUMP)
        #: Whether the file stores times at all, the first frame's time of a raw stream, and the times of display.
        self.is_timed = True
        self.is_timed_for_display = not any(
            name in _WITHOUT_DISPLAY_TIMES for name in self.container.format.name.split(",")
        )
        self.zero = 0 if begin is None else round(Fraction(begin, 1_000_000) / self.tick)
        self.rate = self.stream.guessed_rate or self.stream.average_rate

    def survey(self) -> list[float]:
        """Return the times of the frames that packets announce, in ascending order, without decoding."""
        stamps: list[int | None] = []
        announced: list[tuple[int, bool]] = []
        for packet in self._packets():
            if packet.size and not packet.is_discard:
                stamps.append(packet.pts if self.is_timed_for_display else packet.dts)
                limits.check_count(self.source, len(stamps))
                if packet.pts is not None and not packet.is_corrupt:
                    announced.append((packet.pts, packet.is_keyframe))
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if (
            announced
            and self.is_timed_for_display
            and len({stamp for stamp, _ in announced}) == len(stamps)
            and announced[0][1]
        ):
            self.announced = [] if self.shift else announced
        self.due = None
        if len(known) < len(stamps):
            first = self._seconds(known[0]) if known else 0.0
            times = [first + index * self._interval for index in range(len(stamps))]
        else:
            times = [self._seconds(stamp) for stamp in known]
        return [time for time in times if self._is_inside(time)]

    def sought(self, chosen: Sequence[int]) -> list[tuple[int, float, npt.NDArray[np.uint8]]]:
        """Return index, seconds and pixels of some frames that `survey` found, decoded from the key frame before each.

        None at all where decoding all frames costs about as much, and where what is decoded is not what was announced.
        """
        import av

        self.is_at_end = True
        order = sorted(stamp for stamp, _ in self.announced if self._is_inside(self._seconds(stamp)))
        runs = [] if self._cut_off() else self._runs([order[place] for place in chosen] if order else [])
        places = {stamp: place for place, stamp in enumerate(order)}
        kept: list[tuple[int, float, npt.NDArray[np.uint8]]] = []
        for key, wanted in runs:
            try:
                self.container.seek(key, stream=self.stream)
            except av.error.FFmpegError:
                return []
            self.has_sought, self.expected, left = True, [], set(wanted)
            try:
                for frame in self._decode():
                    if frame.pts is None or frame.is_corrupt:
                        return []
                    self.matrix = self.matrix or _display_matrix(frame)
                    self.shown.add(frame.pts)
                    if frame.pts in left:
                        left.remove(frame.pts)
                        image = self.image(frame, len(kept) + 1)
                        if kept and image.shape != kept[0][2].shape:
                            return []
                        kept.append((places[frame.pts], self._seconds(frame.pts), image))
                    if frame.pts >= wanted[-1]:
                        break
            except _DamagedError:
                return []
            if left or any(stamp not in self.shown for stamp in self.expected if stamp <= wanted[-1]):
                return []
        if runs:
            self.seen, self.first, self.last = len(order), self._seconds(order[0]), self._seconds(order[-1])
        return kept

    def _runs(self, stamps: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Return the time stamps of frames to decode in one run, each run with that of its key frame.

        None if all of them together skip less than half of the packets.
        """
        positions = {stamp: position for position, (stamp, _) in enumerate(self.announced)}
        keys = [stamp for stamp, is_key in self.announced if is_key]
        runs: list[tuple[int, list[int]]] = []
        for stamp in stamps:
            before = bisect_right(keys, stamp) - 1
            if keys != sorted(keys) or before < 0:
                return []
            if runs and positions[keys[before]] < positions[runs[-1][1][-1]] + _WORTH_SEEKING:
                runs[-1][1].append(stamp)
            else:
                runs.append((keys[before], [stamp]))
        decoded = sum(positions[wanted[-1]] - positions[key] + 1 for key, wanted in runs)
        return runs if 2 * decoded < len(self.announced) else []

    def frames(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Return seconds and content of the frames from `start` to `end`, in ascending order."""
        for time, frame in self._from_start():
            if self.start and time < self.start - TOLERANCE:
                continue
            if self.end is not None and time >= self.end - TOLERANCE:
                break
            self.first, self.last = (self.first if self.seen else time), time
            self.seen += 1
            limits.check_count(self.source, self.seen)
            yield time, frame
        self.is_at_end = True

    def _from_start(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Return the frames from a key frame at or before `start`."""
        import av

        may_seek = bool(self.start) and self.is_seekable and self._has_one_clock()
        for earlier in _SEEK_BACK if may_seek else ():
            target = self.start - earlier
            if target <= 0:
                break
            try:
                self.container.seek(self.zero + math.floor(target / self.tick), stream=self.stream)
            except av.error.FFmpegError:
                break
            self.has_sought = True
            frames = self._timed(self._decode())
            first = next(frames, None)
            if first is not None and first[0] <= self.start + TOLERANCE:
                return chain([first], frames)
        if self.start and self.is_seekable:
            self.container.close()
            self._open()
        return self._timed(self._decode())

    def _has_one_clock(self) -> bool:
        """Check whether packets up to `start` have time stamps that do not depend on where reading begins.

        That is, each its own, and none after a jump of the clock; checked near possible jumps, without decoding.
        """
        for number, packet in enumerate(packet for packet in self._packets() if packet.size):
            stamp = packet.pts if self.is_timed_for_display else packet.dts
            if stamp is None or self.shift:
                return False
            may_jump = self.may_jump or self.container.format.name in _WRAPPING
            if number >= _MOST_WAITING and not (may_jump and self._seconds(stamp) < self.start):
                break
        self.due = None
        return True

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield packets of the stream up to the end of the file, or of its readable part."""
        import av

        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                if _is_of_the_machine(error, self.file):
                    raise
                self.is_cut_off = True
                return
            if packet is None:
                return
            if packet.size:
                self.is_cut_off = packet.is_corrupt
                self.duration = packet.duration or self.duration
                self._follow(packet)
            yield packet

    def _follow(self, packet: av.Packet[Any]) -> None:
        """Let the time of a packet follow on that before, where the clock of the file jumps: parts were joined.

        As ffmpeg does (`dts_delta_threshold`); in containers whose clock cannot be set anew, time stamps that are
        absurd count as missing (`dts_error_threshold`).
        """
        if packet.dts is None:
            return
        dts = packet.dts + self.shift
        if self.due is not None:
            ahead, back = (float((dts - other) * self.tick) for other in self.due)
            if self.may_jump and (abs(ahead) > _JUMP or back < -_JUMP_BACK):
                self.shift -= dts - self.due[0]
                dts = self.due[0]
            elif not self.may_jump and abs(ahead) > _ABSURD:
                dts = self.due[0]
                packet.dts = None
                if packet.pts is not None and abs((packet.pts - dts) * self.tick) > _ABSURD:
                    packet.pts = None
        self.due = dts + (packet.duration or 0), dts
        if self.shift:
            pts = None if packet.pts is None else packet.pts + self.shift
            packet.dts, packet.pts = (
                stamp if stamp is not None and abs(stamp) < _MOST_TICKS else None for stamp in (dts, pts)
            )

    def _decode(self) -> Iterator[av.VideoFrame]:
        """Yield frames in the decoder's order; packets that do not decode are skipped."""
        is_begun = not self.has_sought
        is_flushed = False
        begins: int | None = None
        for packet in self._packets():
            if packet.size:
                is_begun = is_begun or packet.is_keyframe
                if not is_begun:
                    continue
                self.packets += 1
                stamp = packet.pts if self.is_timed_for_display else packet.dts
                if begins is None and packet.is_keyframe:
                    begins = stamp
                # Frames shown before the first key frame depend on frames that were cut off.
                if stamp is not None and not packet.is_discard and not (begins is not None and stamp < begins):
                    self.expected.append(stamp)
            else:
                is_flushed = True
            yield from self._frames_of(packet, stamp if packet.size else None)
        if not is_flushed:
            yield from self._frames_of(None, None)

    def _frames_of(self, packet: av.Packet[Any] | None, stamp: int | None) -> list[av.VideoFrame]:
        import av

        try:
            return self.stream.codec_context.decode(packet)
        except av.error.EOFError:
            return []
        except av.error.FFmpegError as error:
            if _is_of_the_machine(error, self.file):
                raise
            if self.threads:
                raise _DamagedError from error
            self.failed.append(stamp)
            return []

    def _timed(self, frames: Iterator[av.VideoFrame]) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield frames with their times; those without a time stamp are placed by the frame rate from the nearest."""
        waiting: list[av.VideoFrame] = []
        clock = _Clock()
        begin = math.inf if self.has_sought else 0.0  # after seeking, the first frame's time is unknown
        before: float | None = None
        for frame in frames:
            if self.matrix is None:
                self.matrix = _display_matrix(frame)
                if not self.is_seekable and frame.pts is None and frame.dts is None:
                    self.is_timed, before = False, -self._interval
            stamp = clock.stamp(frame.pts if self.is_timed_for_display else None, frame.dts) if self.is_timed else None
            if stamp is not None:
                self.shown.add(stamp)
            if stamp is None and before is None and len(waiting) < _MOST_WAITING:
                waiting.append(frame)
                continue
            time = self._seconds(stamp) if stamp is not None else (begin if before is None else before) + self._interval
            for place, early in enumerate(waiting):
                yield time - (len(waiting) - place) * self._interval, early
            waiting = []
            before = time if before is None else max(before, time)
            yield before, frame
        for place, early in enumerate(waiting):
            yield begin + place * self._interval, early

    @property
    def _interval(self) -> float:
        """Return the seconds from one frame to the next by the duration of packets, else by the declared rate."""
        if self.duration and self.is_seekable:  # the duration of a raw stream's packets is arbitrary
            return float(self.duration * self.tick)
        return float(1 / self.rate) if self.rate else 1.0

    def _seconds(self, stamp: int) -> float:
        return float((stamp - self.zero) * self.tick)

    def _is_inside(self, time: float) -> bool:
        after_start = not self.start or time >= self.start - TOLERANCE
        return after_start and (self.end is None or time < self.end - TOLERANCE)

    def image(self, frame: av.VideoFrame, count: int) -> npt.NDArray[np.uint8]:
        """Return a frame as displayed, H x W x 3: pixels made square, then mirrored and rotated.

        Raises:
            ClipError: if it is too large, or `count` of its kind are.
        """
        width, height = frame.width, frame.height
        aspect = self.stream.sample_aspect_ratio
        if aspect:
            width = max(1, int(width * aspect))  # as ffmpeg rounds it
        limits.check_size(self.source, height, width, count)
        self.damaged += frame.is_corrupt
        if int(frame.color_trc) in _HIGH_DYNAMIC_RANGE:
            kind = _HIGH_DYNAMIC_RANGE[int(frame.color_trc)]
            note = f"The video is of high dynamic range ({kind}): its colors are shown pale, without tone mapping."
            self.notes[note] = None
        has_alpha = any(component.is_alpha for component in frame.format.components)
        if has_alpha and frame.to_ndarray(format="rgba")[..., 3].min() < 255:
            self.notes[images.TRANSPARENT] = None
        if width == frame.width:
            pixels: Any = frame.to_ndarray(format="rgb24")
        else:
            pixels = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC").to_ndarray()
        return turned(pixels, self.matrix)

    def _fps(self) -> float | None:
        """Return the frames per second: the declared rate if it fits the frames read, else their average."""
        declared = [float(rate) for rate in (self.stream.average_rate, self.stream.guessed_rate) if rate]
        if self.seen < 2 or self.last <= self.first:
            return declared[0] if declared else None
        found = (self.seen - 1) / (self.last - self.first)
        return next((rate for rate in declared if abs(rate / found - 1) < 0.02), found)

    def _total(self) -> int:
        """Return the number of frames between `start` and `end`; as declared, if reading stopped before the end."""
        if self.is_at_end:
            return self.seen
        seconds = self.container.duration / 1e6 if self.container.duration else 0.0
        until = seconds if self.end is None else min(self.end, seconds)
        return max(self.seen, round((until - self.start) * (self.fps or 0.0)))

    def reason_for_no_frame(self) -> str:
        """Describe why no frame was kept."""
        if self.shown or (self.expected and (self.start or self.end is not None) and not self.failed):
            return f"{self.source} has no frame between {self.start:g} s and {end_in_words(self.end)}"
        if self.packets:
            return f"{self.source} has {self.packets} packets of video and none of them decodes"
        if self.start or self.end is not None:
            return f"{self.source} has no frame between {self.start:g} s and {end_in_words(self.end)}"
        return f"{self.source} has no frames"

    def finish(self, *, are_times_used: bool) -> None:
        """Note what a reader should know, once all that is needed was read; the file is closed afterwards."""
        self.fps = self._fps()
        self.total = self._total()
        self.warnings = [*self._missing(), *self._cut_off(), *self.notes]
        if self.damaged:
            some = "1 of the frames used is" if self.damaged == 1 else f"{self.damaged} of the frames used are"
            self.warnings.append(f"{some} damaged: the decoder filled in what the file lacks.")
        if not self.is_timed and (are_times_used or self.start or self.end is not None):
            self.warnings.append(
                f"The video stores no times; they were counted at {1 / self._interval:.4g} frames per second."
            )

    def _missing(self) -> list[str]:
        """Describe the frames that do not decode: of failing packets, or before the first decodable frame."""
        order = sorted(stamp for stamp in self.expected if self._is_inside(self._seconds(stamp)))
        if self.failed and self.is_timed_for_display:
            until = max(self.shown, default=0) if not self.is_at_end else math.inf
            lost = {stamp for stamp in order if stamp not in self.shown and stamp <= until}
        elif self.failed:
            lost = {stamp for stamp in self.failed if stamp is not None}
        else:
            lost = set()
        if self.is_timed_for_display and not self.has_sought and self.shown:
            lost |= {stamp for stamp in order if stamp < min(self.shown)}
        places = [place for place, stamp in enumerate(order) if stamp in lost]
        said = []
        if self.failed:
            said.append(
                "1 packet does not decode" if len(self.failed) == 1 else f"{len(self.failed)} packets do not decode"
            )
        if places:
            times = [self._seconds(order[place]) for place in places]
            said.append(f"{_ranges(places)} {'is' if len(places) == 1 else 'are'} missing ({_span(times)})")
        return ["Of the video, " + " and ".join(said) + "."] if said else []

    def _cut_off(self) -> list[str]:
        """Check whether the file is shorter than declared, if it was read to its end."""
        if not self.is_at_end or self.end is not None:
            return []
        size = self.container.size
        beyond = sum(entry.pos + entry.size > size > 0 for entry in self.stream.index_entries)
        if not (beyond or self.is_cut_off or size < _declared_bytes(self.file)):
            return []
        declared = beyond and len(self.stream.index_entries)
        if self.container.format.name == "avi" and self.rate:
            declared = round(self.stream.frames * self.tick * self.rate)
        some = f" of {declared} frames" if declared > self.seen and not self.has_sought else ""
        count = "" if self.has_sought else f" after {self.seen}{some}"
        return [f"The file is cut off{count}: the last frame that decodes is at {self.last:.2f} s."]


class _Clock:
    """Time stamps of frames as libavcodec guesses them (`guess_correct_pts`): whichever kind runs backwards less."""

    def __init__(self) -> None:
        self.last_pts = self.last_dts = -math.inf
        self.faulty_pts = self.faulty_dts = 0

    def stamp(self, pts: int | None, dts: int | None) -> int | None:
        """Return the display time of a frame from its time stamps of display and of decoding."""
        if dts is not None:
            self.faulty_dts += dts <= self.last_dts
            self.last_dts = dts
        elif pts is not None:
            self.last_dts = pts
        if pts is not None:
            self.faulty_pts += pts <= self.last_pts
            self.last_pts = pts
        elif dts is not None:
            self.last_pts = dts
        return pts if pts is not None and (self.faulty_pts <= self.faulty_dts or dts is None) else dts


def turned(pixels: npt.NDArray[np.uint8], matrix: Sequence[int] | None) -> npt.NDArray[np.uint8]:
    """Mirror and rotate a picture by a display matrix, to the nearest right angle.

    Args:
        pixels: H x W x C.
        matrix: The upper left 2 x 2 of FFmpeg's display matrix: a pixel at (x, y) is shown at (a x + c y, b x + d y)
            for a, b, c, d; None or zeros leave the picture as it is.

    Returns:
        H x W x C, or W x H x C if rotated by a quarter turn.
    """
    if matrix is None or not any(matrix):
        return pixels
    a, b, c, d = matrix
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _display_matrix(frame: av.VideoFrame) -> Sequence[int]:
    from av.sidedata.sidedata import Type

    side: Any = frame.side_data  # PyAV's stubs take it for a mapping of names
    for data in side:
        if data.type == Type.DISPLAYMATRIX:
            a, b, _, c, d, *_ = struct.unpack("9i", bytes(data)[:36])
            return a, b, c, d
    return (0, 0, 0, 0)


def _as_file(path: os.PathLike[str]) -> str:
    """Return a path as FFmpeg takes it: a colon in a file's name must not read as a protocol."""
    return f"file:{os.fspath(path)}"


def _most_pixels() -> str:
    """Return the pixels that a decoder may allocate for a frame: blocks exceed its edge, and `limits` refuses."""
    return str(limits.MAX_PIXELS + 2**22)  # 128 rows and columns more, at the longest side


def _declared_bytes(file: os.PathLike[str] | IO[bytes]) -> int:
    """Return the size declared in the header of an AVI or Matroska file; 0 if there is none."""
    if isinstance(file, os.PathLike):
        with open(file, "rb") as opened:  # noqa: PTH123  # `file` need not be a Path
            head = opened.read(4096)
    else:
        file.seek(0)
        head = file.read(4096)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    place = head.find(b"\x18\x53\x80\x67")  # Matroska's Segment, which holds all but a short header
    if head[:4] == b"\x1a\x45\xdf\xa3" and 0 <= place < len(head) - 12:
        place += 4
        length = 9 - head[place].bit_length()
        size = int.from_bytes(head[place : place + length], "big") & ((1 << 7 * length) - 1)
        return 0 if size == (1 << 7 * length) - 1 else place + length + size  # all ones: not known
    return 0


def _ranges(places: Sequence[int]) -> str:
    """Frame numbers in ascending order, consecutive ones together: "frames 3, 5-9 and 12"; the first few of many."""
    parts: list[list[int]] = []
    for place in places:
        if parts and place == parts[-1][-1] + 1:
            parts[-1][1:] = [place]
        else:
            parts.append([place])
    said = ["-".join(map(str, part)) for part in parts]
    if len(said) > _MOST_RANGES:
        said = [*said[: _MOST_RANGES - 1], f"others, {len(places)} in all,"]
    listed = " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
    return f"{'frame' if len(places) == 1 else 'frames'} {listed}"


def _span(times: Sequence[float]) -> str:
    return f"{times[0]:.2f} s" if times[0] == times[-1] else f"{times[0]:.2f}-{times[-1]:.2f} s"


def end_in_words(end: float | None) -> str:
    """Position at which reading stops."""
    return "its end" if end is None else f"{end:g} s"


@contextmanager
def _blaming(source: str, file: os.PathLike[str] | IO[bytes]) -> Iterator[None]:
    """Turn errors of FFmpeg into a ClipError if the file is at fault, else into those of the operating system.

    Raises:
        ClipError: for what does not decode.
        OSError, MemoryError: if memory, threads or open files run out, or a disk fails.
    """
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        reason = error.strerror or str(error)
        if _is_of_the_machine(error, file):
            if isinstance(error, MemoryError):
                raise MemoryError(f"{source}: {reason}") from error
            raise OSError(error.errno, reason, source) from error
        expected = "expected a file such as .mp4, .mkv, .webm, .mov or .avi"
        # Not chained: FFmpeg's errors on damaged files can read like errors of the machine.
        raise ClipError(f"{source} does not decode as a video: {reason}; {expected}") from None


def _is_of_the_machine(error: Exception, file: os.PathLike[str] | IO[bytes]) -> bool:
    """Check whether an FFmpeg error concerns memory, threads, files or disks rather than the file's content."""
    if isinstance(error, MemoryError):
        return not _has_memory()
    if not isinstance(error, OSError) or error.errno in _FAULTS_OF_FILES:
        return False
    # FFmpeg also calls it an input error when a file ends too early: then the disk gives all of the file.
    return error.errno != errno.EIO or not _is_readable(file)


def _has_memory() -> bool:
    """Check whether there is memory for any valid frame: FFmpeg then requested what a damaged file declares."""
    try:
        return bool(bytearray(3 * limits.MAX_PIXELS))
    except MemoryError:
        return False


def _is_readable(file: os.PathLike[str] | IO[bytes]) -> bool:
    if not isinstance(file, os.PathLike):
        return True
    try:
        with open(file, "rb") as opened:  # noqa: PTH123  # `file` need not be a Path
            while opened.read(2**20):
                pass
    except OSError:
        return False
    return True
