"""Whatever is in a file, it is read as a clip or refused with one message, within the limits."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save

from zoo import clips
from zoo.entries import InputSpec
from zoo.errors import ZooError

FRAMES, HEIGHT, WIDTH = 6, 32, 48
SPEC = InputSpec(frames=4, size=(8, 8))
#: Container and codec of the videos that are damaged, by the ending of their names.
VIDEOS = {
    ".mp4": "libx264",
    ".avi": "mpeg4",
    ".mkv": "mjpeg",
    ".webm": "libvpx",
    ".mpg": "mpeg1video",
    ".ts": "mpeg2video",
}
IMAGES = (".gif", ".webp", ".png", ".tiff", ".jpg", ".bmp")
ENDINGS = (*VIDEOS, *IMAGES, ".safetensors", ".txt", ".m3u8", "")
#: Numbers that sizes and offsets are replaced by.
EXTREME = tuple(
    struct.pack(code, number)
    for code in ("<H", ">H", "<I", ">I", "<Q", ">Q")
    for number in (0, 1, 2 ** (8 * struct.calcsize(code) - 1), 2 ** (8 * struct.calcsize(code)) - 1)
)


def _frames():
    return np.random.default_rng(0).integers(0, 255, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


def _video(ending):
    file = io.BytesIO()
    formats = {".mkv": "matroska", ".mpg": "mpeg", ".ts": "mpegts"}
    with av.open(file, "w", format=formats.get(ending, ending[1:])) as container:
        stream = container.add_stream(VIDEOS[ending], rate=Fraction(25))
        stream.height, stream.width = HEIGHT, WIDTH
        stream.pix_fmt = "yuvj420p" if ending == ".mkv" else "yuv420p"
        for frame in _frames():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _image(ending):
    file = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in _frames())
    several = {"save_all": True, "append_images": rest} if ending in {".gif", ".webp", ".png", ".tiff"} else {}
    first.save(file, format={".jpg": "jpeg"}.get(ending, ending[1:]), **several)
    return file.getvalue()


WHOLE = {
    **{ending: _video(ending) for ending in VIDEOS},
    **{ending: _image(ending) for ending in IMAGES},
    ".safetensors": save({"clip": _frames()}),
}


@st.composite
def damaged(draw):
    """Bytes of a file that was whole once, and the ending that it has."""
    ending = draw(st.sampled_from(sorted(WHOLE)))
    content = bytearray(WHOLE[ending])
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where most goes wrong, so that half of the places are near the beginning or the end.
        most = len(content)
        at = draw(st.integers(0, most) | st.integers(0, min(most, 200)) | st.integers(max(0, most - 200), most))
        match draw(st.sampled_from(("cut", "flip", "number", "insert", "remove", "repeat"))):
            case "cut":
                del content[at:]
            case "flip":
                content[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "number":
                number = draw(st.sampled_from(EXTREME))
                content[at : at + len(number)] = number
            case "insert":
                content[at:at] = draw(st.binary(max_size=40))
            case "remove":
                del content[at : at + draw(st.integers(1, 100))]
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 1000))]
    return bytes(content), draw(st.sampled_from([ending] * 9 + list(ENDINGS)))


def refused(path, error):
    """The message names the file, and is one line."""
    assert str(path) in str(error)
    assert str(error).isprintable()


def read(path):
    """The clip, or None where it is refused; whichever way, within what is promised."""
    try:
        clip = clips.decode(path, spec=SPEC)
    except ZooError as error:
        refused(path, error)
        return None
    assert clip.frames.shape[0] == len(clip.indices) <= clip.total
    assert clip.frames.shape[3] == 3
    assert clip.frames.numel() <= clips.MAX_BYTES
    return clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged")


def test_the_files_that_are_damaged_were_whole(folder):
    for ending, content in WHOLE.items():
        path = folder / f"whole{ending}"
        path.write_bytes(content)
        assert read(path).frames.shape[1:] == (HEIGHT, WIDTH, 3)


@given(damaged())
@settings(max_examples=4 * settings.default.max_examples)
def test_a_damaged_file_is_read_or_refused(folder, file):
    content, ending = file
    path = folder / f"clip{ending}"
    path.write_bytes(content)
    read(path)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(ENDINGS))
def test_what_is_no_clip_is_refused(folder, content, ending):
    path = folder / f"clip{ending}"
    path.write_bytes(content)
    read(path)
