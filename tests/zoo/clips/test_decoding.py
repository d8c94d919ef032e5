"""A clip is what ffmpeg decodes of the file: every frame, upright, at its time, and no more work than needed."""

from __future__ import annotations

import errno
import io
import math
import shutil
import struct
import subprocess

import av
import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo import clips
from zoo.clips import sampling, videos
from zoo.entries import InputSpec
from zoo.errors import ClipError, ClipWarning, ResourceError, UsageError

RATE, SECONDS = 20, 5
#: Codecs by name, with options that give B-frames and several groups of pictures where there are such.
CODECS = {
    "h264": ("libx264", "-bf", "2", "-g", "24", "-preset", "veryfast"),
    "hevc": ("libx265", "-x265-params", "log-level=none:keyint=24", "-preset", "veryfast"),
    "mpeg4": ("mpeg4", "-bf", "2", "-g", "12", "-q:v", "3"),
    "mpeg2": ("mpeg2video", "-bf", "2", "-g", "12", "-q:v", "3"),
    "mjpeg": ("mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p"),
    "vp9": ("libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "24"),
}


@pytest.fixture(scope="session")
def ffmpeg():
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed, and clips are compared with what it decodes")

    def run(*arguments):
        command = ["ffmpeg", "-y", "-hide_banner", "-loglevel", "error", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, check=False).stdout

    return run


@pytest.fixture(scope="session")
def made(ffmpeg, tmp_path_factory):
    """Videos of a moving test picture by codec and container, each made once."""
    folder = tmp_path_factory.mktemp("made")

    def make(codec, container, *, size="64x48", seconds=SECONDS, rate=RATE):
        path = folder / f"{codec}-{size}-{seconds}-{rate}.{container}"
        if not path.exists():
            source = f"testsrc2=s={size}:r={rate}:d={seconds}"
            ffmpeg("-f", "lavfi", "-i", source, "-c:v", *CODECS[codec], path)
            assert path.exists(), f"ffmpeg lacks {codec} in {container}"
        return path

    return make


@pytest.fixture
def shown(ffmpeg):
    """The frames that ffmpeg decodes, after filters: uint8, T x H x W x 3."""

    def decode(path, size, *filters):
        chain = ",".join([*filters, "format=rgb24"])
        raw = ffmpeg("-i", path, "-map", "0:v:0", "-vf", chain, "-vsync", "passthrough", "-f", "rawvideo", "-")
        return np.frombuffer(raw, np.uint8).reshape(-1, *size, 3)

    return decode


def assert_same(frames, expected, most=1.0):
    """As many frames, of pixels that differ by no more than rounding."""
    assert len(frames) == len(expected)
    difference = np.abs(frames.numpy().astype(int) - expected).mean(axis=(1, 2, 3))
    assert difference.max() <= most


def spoiled(path, hit):
    """The file with the packets of these numbers, in the order of the file, replaced by zeros."""
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in hit:
        at = bytes(content).find(packets[number])
        assert at >= 0
        content[at : at + len(packets[number])] = bytes(len(packets[number]))
    damaged = path.with_name(f"spoiled-{'-'.join(map(str, hit))}-{path.name}")
    damaged.write_bytes(content)
    return damaged


FIRST = InputSpec(frames=8, size=(16, 16), sampling="consecutive")


@pytest.mark.parametrize("hit", [(50,), (9, 30, 31, 70)])
@pytest.mark.parametrize(
    ("codec", "container"), [("h264", "mp4"), ("mpeg4", "avi"), ("mjpeg", "mkv"), ("hevc", "mp4"), ("mpeg4", "mkv")]
)
def test_a_damaged_packet_costs_no_more_frames_than_in_ffmpeg(made, shown, codec, container, hit):
    path = spoiled(made(codec, container), hit)
    clip = clips.decode(path)
    assert_same(clip.frames, shown(path, clip.frames.shape[1:3]))
    assert RATE * SECONDS - 15 < len(clip.frames) < RATE * SECONDS
    warning = clip.warnings[0]
    assert f"{len(hit)} packet" in warning
    assert "missing" in warning


def test_the_missing_frames_are_named(made):
    clip = clips.decode(spoiled(made("mjpeg", "mkv"), (30, 31, 50)))
    assert clip.warnings == (
        "Of the video, 3 packets do not decode and frames 30-31 and 50 are missing (1.50-2.50 s).",
    )
    assert clip.indices == tuple(range(97))
    assert clip.times[30] == pytest.approx(1.6)


@pytest.mark.parametrize("start", ["0", "0.7", "1.3", "2.15"])
@pytest.mark.parametrize(
    ("codec", "container"),
    [(codec, container) for codec in ("h264", "mpeg4") for container in ("mp4", "mov", "mkv", "avi", "ts")]
    + [("mpeg2", "ts"), ("mpeg2", "mkv"), ("h264", "flv"), ("hevc", "mp4"), ("vp9", "webm")],
)
def test_cutting_without_encoding_gives_no_false_alarm(made, ffmpeg, shown, tmp_path, codec, container, start):
    path = tmp_path / f"cut.{container}"
    source = made(codec, container if container in {"avi", "ts", "webm"} else "mkv")  # which store headers otherwise
    ffmpeg("-ss", start, "-i", source, "-c", "copy", path)
    clip = clips.decode(path)
    assert_same(clip.frames, shown(path, (48, 64)))
    assert clip.warnings == ()


@pytest.mark.parametrize(("codec", "container"), [("h264", "avi"), ("h264", "mp4"), ("mpeg4", "avi"), ("mpeg2", "ts")])
def test_times_are_those_of_ffmpeg(made, shown, codec, container):
    path = made(codec, container)
    part = zoo.read_clip(path, start=1, end=2)
    assert len(part) == RATE
    assert_same(part, shown(path, (48, 64), "trim=start=1:end=2"))


def test_frames_before_the_declared_start_are_kept(made, ffmpeg, shown, tmp_path):
    path = tmp_path / "early.mkv"
    ffmpeg("-ss", "1.3", "-i", made("h264", "mp4"), "-c", "copy", "-avoid_negative_ts", "disabled", path)
    clip = clips.decode(path)
    assert_same(clip.frames, shown(path, (48, 64)))
    assert clip.times[0] < 0
    assert list(clip.times) == sorted(clip.times)
    assert clip.warnings == ()


@pytest.mark.parametrize(("codec", "container"), [("h264", "h264"), ("hevc", "hevc"), ("mpeg2", "m2v")])
def test_a_stream_without_times_is_counted(made, shown, codec, container):
    path = made(codec, container)
    clip = clips.decode(path, start=1, end=2)
    assert_same(clip.frames, shown(path, (48, 64), "trim=start=1:end=2"))
    assert len(clip.frames) == RATE
    assert clip.times[0] == pytest.approx(1)
    if container != "m2v":  # whose parser counts time itself
        assert "stores no times" in clip.warnings[0]
    assert clips.decode(path).warnings == ()


def test_a_file_that_ends_early_says_so(made, tmp_path):
    for codec, container in [("mpeg4", "avi"), ("h264", "mkv"), ("h264", "flv"), ("mjpeg", "mov")]:
        content = made(codec, container).read_bytes()
        path = tmp_path / f"short.{container}"
        path.write_bytes(content[: len(content) * 3 // 4])
        if container == "mov":  # its index comes last
            with pytest.raises(ClipError):
                clips.decode(path)
            continue
        clip = clips.decode(path)
        assert 0 < len(clip.frames) < RATE * SECONDS
        assert any("cut off" in warning for warning in clip.warnings), container
        assert clips.decode(path, spec=FIRST).warnings == ()


CORNERS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))  # red and green over blue and white


def corners(frame):
    """The letters of the colors in the corners, row by row."""
    height, width = frame.shape[:2]
    picked = [frame[int(height * y), int(width * x)].tolist() for y in (0.25, 0.75) for x in (0.25, 0.75)]
    return "".join("RGBW"[min(range(4), key=lambda k: math.dist(CORNERS[k], color))] for color in picked)


@pytest.fixture
def corner_video(tmp_path):
    def write(name, codec, pix_fmt="yuv420p"):
        frame = np.zeros((48, 64, 3), np.uint8)
        for place, color in enumerate(CORNERS):
            frame[24 * (place // 2) :, 32 * (place % 2) :][:24, :32] = color
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return tmp_path / name

    return write


def turned_by(degrees):
    angle = math.radians(degrees)
    return (math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle))


#: The upper left of display matrices, and what the corners become.
MATRICES = {
    "as it is": ((1, 0, 0, 1), "RGBW"),
    "mirrored": ((-1, 0, 0, 1), "GRWB"),
    "upside down": ((1, 0, 0, -1), "BWRG"),
    "transposed": ((0, 1, 1, 0), "RBGW"),
    "transposed the other way": ((0, -1, -1, 0), "WGBR"),
    "90": (turned_by(90), "BRWG"),
    "-90": (turned_by(-90), "GWRB"),
    "180": (turned_by(180), "WBGR"),
    "-89.99": (turned_by(-89.99), "GWRB"),
    "89.99": (turned_by(89.99), "BRWG"),
    "2": (turned_by(2), "RGBW"),
    "-2": (turned_by(-2), "RGBW"),
    "88": (turned_by(88), "BRWG"),
    "-179": (turned_by(-179), "WBGR"),
}


@pytest.mark.parametrize(("codec", "name"), [("libx264", "o.mp4"), ("mpeg4", "o.mov"), ("libx265", "o.m4v")])
@pytest.mark.parametrize("case", MATRICES)
def test_videos_are_shown_upright(corner_video, shown, case, codec, name):
    if codec == "libx265" and name.endswith("m4v"):
        name = "o265.mp4"
    path = corner_video(name, codec)
    content = path.read_bytes()
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    at = content.rindex(upright)  # of the track; the one of the whole movie comes before
    (a, b, c, d), expected = MATRICES[case]
    matrix = [round(65536 * value) for value in (a, b)], [round(65536 * value) for value in (c, d)]
    path.write_bytes(
        content[:at] + struct.pack(">9i", *matrix[0], 0, *matrix[1], 0, 0, 0, 1 << 30) + content[at + 36 :]
    )
    frames = zoo.read_clip(path)
    assert frames.shape[1:3] == ((64, 48) if abs(a) < abs(b) else (48, 64))
    assert {corners(frame.numpy()) for frame in frames} == {expected}
    if case not in {"2", "-2", "88", "-179"}:  # ffmpeg turns by these, with black corners
        assert corners(shown(path, frames.shape[1:3])[0]) == expected


@pytest.mark.parametrize("container", ["mkv", "ts", "avi", "h264"])
@pytest.mark.parametrize(
    ("orientation", "expected"),
    [("rotate=90:flip=horizontal", "RBGW"), ("flip=vertical", "BWRG"), ("rotate=270", "BRWG")],
)
def test_an_orientation_within_the_stream_counts(corner_video, ffmpeg, shown, container, orientation, expected):
    path = corner_video("plain.mp4", "libx264")
    turned = path.with_name(f"turned.{container}")
    filters = f"h264_metadata=display_orientation=insert:{orientation}"
    ffmpeg("-i", path, "-c", "copy", "-bsf:v", "h264_mp4toannexb," * (container == "h264") + filters, turned)
    frames = zoo.read_clip(turned)
    assert {corners(frame.numpy()) for frame in frames} == {expected}
    assert corners(shown(turned, frames.shape[1:3])[0]) == expected


@pytest.mark.parametrize(("sar", "width"), [("2/1", 160), ("1/2", 40), ("16/15", 85)])
@pytest.mark.parametrize(("codec", "container"), [("h264", "mp4"), ("mpeg4", "mkv"), ("mpeg2", "avi"), ("hevc", "mov")])
def test_pixels_become_square(ffmpeg, shown, tmp_path, sar, width, codec, container):
    path = tmp_path / f"wide.{container}"
    source = f"gradients=s=80x60:r=10:d=0.4,setsar={sar}"  # smooth: each version scales edges in its own way
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", *CODECS[codec], "-pix_fmt", "yuv420p", path)
    frames = zoo.read_clip(path)
    assert frames.shape[1:3] == (60, width)
    assert_same(frames, shown(path, (60, width), "scale=iw*sar:ih"))


@pytest.mark.parametrize(
    ("codec", "container"),
    [(codec, container) for codec in ("h264", "mpeg4") for container in ("mp4", "mkv", "avi", "ts")]
    + [("hevc", "mp4"), ("mpeg2", "ts"), ("mpeg2", "mpg"), ("vp9", "webm"), ("mjpeg", "mov")],
)
def test_reading_from_a_time_is_exactly_a_part_of_reading_all(made, codec, container):
    path = made(codec, container)
    whole = clips.decode(path)
    for start in (0.05, 1.0, 2.37, 4.6):
        part = clips.decode(path, start=start)
        first = next(place for place, time in enumerate(whole.times) if time >= start - 1e-6)
        assert part.times == whole.times[first:]
        assert torch.equal(part.frames, whole.frames[first:])
    few = clips.decode(path, start=2.0, end=3.0, frames=5)
    inside = [place for place, time in enumerate(whole.times) if 2 - 1e-6 <= time < 3 - 1e-6]
    assert few.times == tuple(whole.times[inside[place]] for place in clips.spread(len(inside), 5))


def test_nothing_is_decoded_that_is_not_needed(made):
    """What is damaged outside of the part that is read is never noticed."""
    late = spoiled(made("h264", "mp4"), range(60, 100))
    assert clips.decode(late).warnings != ()
    assert clips.decode(late, spec=FIRST).warnings == ()
    early = spoiled(made("h264", "mp4"), range(1, 24))
    assert clips.decode(early).warnings != ()
    assert clips.decode(early, start=4.0, spec=FIRST).warnings == ()


@pytest.mark.parametrize("rate", [10, 30, 60])
def test_the_rate_of_a_video_changes_nothing(made, ffmpeg, tmp_path, rate):
    spec = InputSpec(frames=16, size=(48, 64), sampling="consecutive", frame_rate=10)
    original = clips.decode(made("mjpeg", "mkv", rate=60), spec=spec)
    path = made("mjpeg", "mkv", rate=rate)
    clip = clips.decode(path, spec=spec)
    assert clip.times == pytest.approx([index / 10 for index in range(16)], abs=2e-3)  # milliseconds, rounded
    assert clip.warnings == ()
    difference = (clips.convert(clip, spec).float() - clips.convert(original, spec).float()).abs().mean()
    assert difference < 6  # the pictures differ by noise of their own between rates


def test_frames_of_a_variable_rate_are_taken_by_time(ffmpeg, tmp_path):
    path = tmp_path / "variable.mkv"
    source = "testsrc2=s=64x48:r=30:d=3,select='lt(t,1)+not(mod(n,15))'"
    ffmpeg("-f", "lavfi", "-i", source, "-vsync", "vfr", "-c:v", *CODECS["h264"], path)
    whole = clips.decode(path)
    assert len(whole.frames) == 34
    few = clips.decode(path, frames=4)
    assert few.times == pytest.approx([0, 5 / 6, 5 / 3, 2.5], abs=0.18)
    assert few.times[1] == pytest.approx(0.833, abs=0.01)
    spec = InputSpec(frames=6, size=(16, 16), sampling="consecutive", frame_rate=2)
    clip = clips.decode(path, spec=spec)
    assert clip.times == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5], abs=0.01)
    assert torch.equal(clips.convert(clip, spec), clips.convert(whole, spec))


def test_slow_videos_repeat_frames_and_short_ones_their_last(made):
    path = made("mjpeg", "mkv", rate=10, seconds=1)
    spec = InputSpec(frames=20, size=(16, 16), sampling="consecutive", frame_rate=20)
    clip = clips.decode(path, spec=spec)
    assert clip.warnings == ()
    assert len(clip.frames) == 10
    assert clips.sampled_of(clip, spec)[:6] == [0, 0, 1, 2, 2, 2]  # half-way between two: the even one
    longer = InputSpec(frames=40, size=(16, 16), sampling="consecutive", frame_rate=20)
    with pytest.warns(ClipWarning, match="last frame is repeated"):
        batch = zoo.preprocess(path, longer)
    assert torch.equal(batch[:, :, 19], batch[:, :, 39])


def test_frames_in_memory_have_the_rate_that_is_given():
    frames = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 8, 8, 3)
    spec = InputSpec(frames=4, size=(8, 8), sampling="consecutive", frame_rate=15)
    taken = {
        fps: (zoo.preprocess(frames, spec, fps=fps)[0, 0, :, 0, 0] * 255).round().int().tolist() for fps in (15, 30, 60)
    }
    assert taken == {15: [0, 1, 2, 3], 30: [0, 2, 4, 6], 60: [0, 4, 8, 12]}
    with pytest.warns(ClipWarning, match="15"):
        unknown = zoo.preprocess(frames, spec)
    assert torch.equal(unknown, zoo.preprocess(frames, spec, fps=15))
    later = zoo.preprocess(frames, spec, fps=30, start=1.0)
    assert (later[0, 0, :, 0, 0] * 255).round().int().tolist() == [30, 32, 34, 36]
    for wrong in ({"start": 1.0}, {"fps": 0}, {"fps": float("nan")}, {"fps": 10, "end": -1.0}):
        with pytest.raises(UsageError):
            zoo.preprocess(frames, spec, **wrong)


def test_a_folder_of_frames_has_the_rate_that_is_given(tmp_path):
    for index in range(30):
        Image.new("RGB", (8, 8), (8 * index,) * 3).save(tmp_path / f"{index}.png")
    spec = InputSpec(frames=4, size=(8, 8), sampling="consecutive", frame_rate=10)
    assert clips.decode(tmp_path, spec=spec, fps=30).indices == (0, 3, 6, 9)
    part = clips.decode(tmp_path, spec=spec, fps=30, start=0.5)
    assert part.times == pytest.approx([0.5, 0.6, 0.7, 0.8])
    unknown = clips.decode(tmp_path, spec=spec)
    assert unknown.times is None
    assert "frames per second" in unknown.warnings[0]


def test_a_video_knows_its_rate(made):
    with pytest.raises(UsageError, match="leave out fps"):
        zoo.preprocess(made("mjpeg", "mkv"), FIRST, fps=30)


def test_animations_have_times(tmp_path):
    shown = [Image.new("RGB", (8, 8), (level,) * 3) for level in range(0, 200, 20)]
    for name in ("moving.gif", "moving.webp", "moving.png"):
        shown[0].save(tmp_path / name, save_all=True, append_images=shown[1:], duration=100, lossless=True)
        clip = clips.decode(tmp_path / name, start=0.3, end=0.6)
        assert clip.times == pytest.approx([0.3, 0.4, 0.5])
        assert clip.fps == pytest.approx(10)
        spec = InputSpec(frames=3, size=(8, 8), sampling="consecutive", frame_rate=5)
        assert clips.decode(tmp_path / name, spec=spec).indices == (0, 2, 4)


def test_numbers_of_more_bits_are_scaled_by_their_range(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "grey.png")
    Image.fromarray(ramp.astype(np.uint16)).save(tmp_path / "grey.tiff")
    Image.fromarray((ramp / 65535).astype(np.float32)).save(tmp_path / "fractions.tiff")
    Image.fromarray((ramp / 257).astype(np.uint8)).save(tmp_path / "plain.png")
    expected = zoo.read_clip(tmp_path / "plain.png").float()
    for name in ("grey.png", "grey.tiff", "fractions.tiff"):
        frames = zoo.read_clip(tmp_path / name)
        assert frames.shape == (1, 64, 64, 3)
        assert (frames.float() - expected).abs().max() <= 1
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "grey.png", tmp_path / "folder" / "0.png")
    assert zoo.read_clip(tmp_path / "folder").float().mean() == pytest.approx(127.5, abs=1)
    Image.fromarray((ramp / 100).astype(np.float32)).save(tmp_path / "large.tiff")
    Image.fromarray((ramp * 1000).astype(np.int32)).save(tmp_path / "whole.tiff")
    for name in ("large.tiff", "whole.tiff"):
        with pytest.raises(ClipError, match=name):
            zoo.read_clip(tmp_path / name)


@pytest.mark.parametrize("size", [(8, 6), (32, 24)])
def test_a_camera_jpeg_is_its_first_picture(tmp_path, size):
    first, second = Image.new("RGB", (32, 24), (200, 0, 0)), Image.new("RGB", size, (0, 0, 200))
    first.save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=[second])
    frames = zoo.read_clip(tmp_path / "camera.jpg")
    assert frames.shape == (1, 24, 32, 3)
    assert frames[0, 0, 0, 0] > 150


def test_transparent_pixels_are_noted(tmp_path, ffmpeg):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0] = 200
    Image.fromarray(pixels).save(tmp_path / "clear.png")
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert "transparent" in clips.decode(tmp_path / "clear.png").warnings[0]
    assert clips.decode(tmp_path / "opaque.png").warnings == ()
    source = "color=red:s=64x48:r=5:d=1,format=rgba,colorchannelmixer=aa=0.5"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "qtrle", tmp_path / "clear.mov")
    assert "transparent" in clips.decode(tmp_path / "clear.mov").warnings[0]


@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG")])
def test_high_dynamic_range_is_noted(ffmpeg, tmp_path, transfer, name):
    path = tmp_path / "bright.mp4"
    colors = ("-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=1", "-c:v", *CODECS["h264"], *colors, path)
    (warning,) = clips.decode(path).warnings
    assert name in warning


def test_bytes_and_open_files_are_clips(made, tmp_path):
    path = made("h264", "mp4")
    expected = zoo.read_clip(path)
    content = path.read_bytes()
    assert torch.equal(zoo.read_clip(content), expected)
    with path.open("rb") as file:
        file.seek(100)
        assert torch.equal(zoo.read_clip(file), expected)
        assert clips.decode(file).source == str(path)
    assert torch.equal(
        zoo.read_clip(io.BytesIO(content), start=4.5, frames=3), zoo.read_clip(path, start=4.5, frames=3)
    )
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "one.png")
    assert zoo.read_clip((tmp_path / "one.png").read_bytes()).shape == (1, 8, 8, 3)
    for wrong in (3, io.StringIO("text"), None):
        with pytest.raises(UsageError):
            zoo.read_clip(wrong)
    for wrong in (b"", b"no video"):
        with pytest.raises(ClipError):
            zoo.read_clip(wrong)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EMFILE, errno.ENOMEM, errno.EACCES])
def test_troubles_of_the_machine_are_not_the_clips(made, monkeypatch, number):
    def fail(*_, **__):
        av.error.err_check(-number)

    path = made("mjpeg", "mkv")
    monkeypatch.setattr(av, "open", fail)
    monkeypatch.setattr(videos, "_has_memory", lambda: False)
    with pytest.raises((ResourceError, OSError)) as caught:
        zoo.read_clip(path)
    assert str(path) in str(caught.value)


def test_an_input_error_is_the_clips_if_the_disk_gives_the_file(made, monkeypatch):
    path = made("mjpeg", "mkv")
    monkeypatch.setattr(av, "open", lambda *_, **__: av.error.err_check(-errno.EIO))
    with pytest.raises(ClipError):
        zoo.read_clip(path)
    monkeypatch.setattr(videos, "_is_readable", lambda _: False)
    with pytest.raises(ResourceError, match="mjpeg"):
        zoo.read_clip(path)


def test_real_clips_are_as_ffmpeg_decodes_them(test_data, shown):
    for path in sorted((test_data / "clips").iterdir()):
        if path.suffix not in {".avi", ".mp4"}:
            continue
        clip = clips.decode(path)
        square = "scale=iw*sar:ih" if "arm_wrestling" in path.name else "null"
        assert_same(clip.frames, shown(path, clip.frames.shape[1:3], square))
        assert clip.warnings == ()
        part = zoo.read_clip(path, start=1, end=1.4)
        assert_same(part, shown(path, clip.frames.shape[1:3], "trim=start=1:end=1.4", square))


@pytest.mark.parametrize(
    ("codec", "container"),
    [(codec, container) for codec in ("h264", "hevc") for container in ("mp4", "mkv", "ts")]
    + [("mpeg4", "mp4"), ("mpeg2", "mkv"), ("mpeg2", "mpg"), ("vp9", "webm"), ("mjpeg", "mov"), ("h264", "flv")],
)
@pytest.mark.parametrize(
    ("count", "start", "end"), [(1, 0, None), (3, 0, None), (4, 2.37, None), (5, 1, 18.5), (16, 0, None)]
)
def test_frames_spread_over_a_long_video_are_exactly_those_of_reading_all(made, codec, container, count, start, end):
    path = made(codec, container, seconds=20)
    whole = clips.decode(path)
    part = clips.decode(path, frames=count, start=start, end=end)
    inside = [time for time in whole.times if time >= start - 1e-6 and (end is None or time < end - 1e-6)]
    places = sampling.evenly(inside, count)
    assert (part.total, part.indices) == (len(inside), tuple(places))
    assert part.times == tuple(inside[place] for place in places)
    first = whole.times.index(inside[0])
    assert torch.equal(part.frames, whole.frames[[first + place for place in places]])
    assert (part.fps, part.warnings) == (pytest.approx(whole.fps), ())


def test_few_frames_of_a_long_video_decode_only_what_leads_to_them(made, monkeypatch):
    decoded = []
    frames_of = videos._Reading._frames_of

    def counting(reading, packet, stamp):
        decoded.append(packet)
        return frames_of(reading, packet, stamp)

    monkeypatch.setattr(videos._Reading, "_frames_of", counting)
    path = made("h264", "mp4", seconds=20)
    assert clips.decode(path, frames=3).indices == (0, 200, 399)
    assert len(decoded) < 150


def test_damage_that_chosen_frames_meet_is_reported(made):
    path = spoiled(made("h264", "mp4", seconds=20), range(199, 203))
    clip = clips.decode(path, frames=3)
    whole = clips.decode(path)
    assert clip.warnings == whole.warnings != ()
    assert (clip.total, len(clip.frames)) == (whole.total, 3)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2"])
def test_frames_without_time_stamps_follow_by_the_duration_of_packets(ffmpeg, shown, tmp_path, codec):
    """A program stream stamps few of its frames, and its declared rate may be wrong."""
    path = tmp_path / f"{codec}.mpg"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=64x48:r={RATE}:d=4", "-c:v", *CODECS[codec], "-f", "vob", path)
    clip = clips.decode(path)
    assert_same(clip.frames, shown(path, (48, 64)))
    assert clip.times[40] == pytest.approx(2)
    assert_same(zoo.read_clip(path, start=1, end=2), shown(path, (48, 64), "trim=start=1:end=2"))


@pytest.mark.parametrize("codec", ["h264", "mpeg2"])
@pytest.mark.parametrize("offset", [0, 500, -1])
def test_the_times_of_joined_parts_follow_each_other(ffmpeg, shown, tmp_path, codec, offset):
    """A transport stream may set its clock anew: ahead, back to the same zero, or back to before."""
    parts = []
    for place, seconds in enumerate((0, offset) if offset >= 0 else (500, 0)):
        parts.append(tmp_path / f"{place}.ts")
        source = ("-f", "lavfi", "-i", f"testsrc2=s=64x48:r={RATE}:d=3")
        ffmpeg(*source, "-c:v", *CODECS[codec], "-output_ts_offset", seconds, parts[-1])
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = clips.decode(path)
    assert_same(clip.frames, shown(path, (48, 64)))
    assert clip.times == pytest.approx([frame / RATE for frame in range(6 * RATE)])
    assert (clip.fps, clip.warnings) == (RATE, ())
    part = clips.decode(path, start=4, end=5)
    assert part.times == pytest.approx([4 + frame / RATE for frame in range(RATE)])
    assert torch.equal(part.frames, clip.frames[4 * RATE : 5 * RATE])
    assert clips.decode(path, frames=4).times == pytest.approx([0, 2, 4, 119 / RATE], abs=0.05)


@pytest.mark.parametrize("start", ["0.7", "1.3", "2.15"])
@pytest.mark.parametrize("audio", [("-an",), ("-c:a", "libmp3lame", "-ar", "44100")])
def test_time_stamps_that_wrap_around_are_counted_on(made, ffmpeg, shown, tmp_path, start, audio):
    """FLV stores negative times as large numbers, which begin anew at zero."""
    path, source = tmp_path / "early.flv", tmp_path / "source.mkv"
    ffmpeg("-i", made("h264", "mp4"), "-f", "lavfi", "-i", f"sine=d={SECONDS}", "-c:v", "copy", source)
    ffmpeg("-ss", start, "-i", source, "-c:v", "copy", *audio, "-avoid_negative_ts", "disabled", path)
    clip = clips.decode(path)
    assert_same(clip.frames, shown(path, (48, 64)))
    assert clip.times[-1] - clip.times[0] == pytest.approx((len(clip.times) - 1) / RATE, abs=0.01)
    assert_same(zoo.read_clip(path, start=1, end=2), shown(path, (48, 64), "trim=start=1:end=2"))
