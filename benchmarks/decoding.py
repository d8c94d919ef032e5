"""CPU time of reading a few frames of a long video, beside PyAV doing the same by hand.

python benchmarks/decoding.py

Two files are made: 9,000 frames of 320 x 240, and ten minutes of 3840 x 2160 at 25 frames per second (one second,
encoded once and repeated). Ratios are of CPU time, over all threads; the limit is 2.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from zoo import clips
from zoo.entries import InputSpec

RATE = 25
REPEATS = 7
#: Frames read at the beginning of the one file, and near the end of the other.
FIRST, LATE = 31, 16
#: Seconds at which the part near the end begins.
START = 590


def write(path: Path, width: int, height: int, seconds: int) -> None:
    """Write a video whose every second is the same."""
    generator = np.random.default_rng(0)
    with av.open(str(path.with_suffix(".second.mp4")), "w") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "g": str(RATE)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        picture = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        for step in range(RATE):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 4 * step, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path.with_suffix(".second.mp4"))) as second, av.open(str(path), "w") as container:
        given = second.streams.video[0]
        packets = [
            (packet.pts, packet.dts, bytes(packet), packet.is_keyframe) for packet in second.demux(given) if packet.size
        ]
        copied = container.add_stream_from_template(given)
        length = int(1 / (given.time_base or Fraction(1)))
        for again in range(seconds):
            for pts, dts, content, is_keyframe in packets:
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = copied, given.time_base, is_keyframe
                packet.pts, packet.dts = pts + again * length, dts + again * length
                container.mux(packet)


def by_hand(path: Path, count: int, start: float) -> np.ndarray[Any, Any]:
    """Decode the first frames from `start` on, with PyAV."""
    kept: list[np.ndarray[Any, Any]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        if start:
            container.seek(int(start / (stream.time_base or Fraction(1))), stream=stream)
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= start:
                kept.append(frame.to_ndarray(format="rgb24"))
            if len(kept) == count:
                break
    return np.stack(kept)


def by_zoo(path: Path, count: int, start: float) -> np.ndarray[Any, Any]:
    """Decode the same frames, as a model reads them."""
    spec = InputSpec(frames=count, size=(224, 224), sampling="consecutive")
    return clips.decode(path, start=start, spec=spec).frames.numpy()


def seconds_of(read: Callable[[Path, int, float], Any], path: Path, count: int, start: float) -> float:
    """Measure the CPU seconds of reading, all threads together."""
    began = time.process_time()
    read(path, count, start)
    return time.process_time() - began


def main() -> None:
    """Make the files and print the two ratios."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cases = (
            (f"first {FIRST} of 9,000 frames, 320 x 240", (320, 240, 360), FIRST, 0.0),
            (f"{LATE} frames at {START} s of 600 s, 3840 x 2160", (3840, 2160, 600), LATE, float(START)),
        )
        for name, size, count, start in cases:
            path = Path(folder) / f"{size[0]}.mp4"
            write(path, *size)
            if not np.array_equal(by_hand(path, count, start), by_zoo(path, count, start)):
                raise SystemExit(f"{name}: the two read different frames")
            pairs = [[seconds_of(read, path, count, start) for read in (by_hand, by_zoo)] for _ in range(REPEATS)]
            hand, zoo = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{name}: PyAV {hand:.3f} s, zoo {zoo:.3f} s of CPU, ratio {zoo / hand:.2f} (limit 2)")


if __name__ == "__main__":
    main()
