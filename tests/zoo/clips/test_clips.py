"""Whatever a clip is stored as, the batch is what the entry states."""

from __future__ import annotations

import errno
import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import zoo
from zoo import clips
from zoo.clips import limits, videos
from zoo.entries import InputSpec, ModelEntry, OutputSpec
from zoo.errors import ClipError, ClipWarning, ResourceError, UnknownNameError, UsageError


def entry(**fields):
    spec = InputSpec(**{"frames": 4, "size": (8, 8), **fields})
    return ModelEntry(name="m", builder="m:b", summary="", parameters=0, input=spec, outputs=(OutputSpec(),))


def grey_ramp(count, height=32, width=48):
    """Frame i is evenly grey at level 5 * i: the index of one of the first 51 can be read off it."""
    return np.stack([np.full((height, width, 3), 5 * index % 256, np.uint8) for index in range(count)])


def index_of(frame):
    return round(float(frame.float().mean()) / 5)


@pytest.fixture
def video(tmp_path):
    def write(frames, name="clip.mp4", rate=10, codec="libx264", options=None):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=Fraction(rate), options=options or {"crf": "1"})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path

    return write


def test_a_video_is_read_whole_in_order(video):
    frames = zoo.read_clip(video(grey_ramp(20)))
    assert frames.shape == (20, 32, 48, 3)
    assert frames.dtype == torch.uint8
    assert [index_of(frame) for frame in frames] == list(range(20))


def test_frames_are_spread_evenly_and_times_cut(video):
    path = video(grey_ramp(20))
    assert [index_of(frame) for frame in zoo.read_clip(path, frames=3)] == [0, 10, 19]
    assert [index_of(frame) for frame in zoo.read_clip(path, start=0.5, end=1.0)] == [5, 6, 7, 8, 9]
    assert len(zoo.read_clip(path, frames=50)) == 20


def test_only_the_frames_that_an_input_uses_are_kept(video):
    path = video(grey_ramp(20))
    kept = clips.decode(path, spec=entry(frames=4).input)
    assert kept.indices == (0, 6, 13, 19)
    following = clips.decode(path, spec=entry(frames=4, sampling="consecutive", stride=3).input)
    assert following.indices == tuple(range(10))
    assert kept.total == following.total == 20
    assert kept.fps == 10


def test_a_video_shorter_than_it_declares_is_read_with_a_warning(video):
    path = video(grey_ramp(60), name="clip.avi", codec="mpeg4", options={"g": "1"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    clip = clips.decode(path, spec=entry(frames=4).input)
    assert 0 < clip.total < 60
    assert clip.indices[-1] == clip.total - 1
    said = f"after {clip.total} of 60 frames"
    assert any(said in warning for warning in clip.warnings)  # another, where the cut falls into a frame, is right too


@pytest.mark.parametrize("sampling", [{}, {"sampling": "consecutive"}, {"sampling": "consecutive", "stride": 3}])
@pytest.mark.parametrize("frames", [1, 4, 15])
@pytest.mark.filterwarnings("ignore::zoo.errors.ClipWarning")  # 15 frames, every third, are more than there are
def test_a_path_and_its_frames_give_the_same_batch(video, sampling, frames):
    path = video(grey_ramp(20))
    spec = entry(frames=frames, **sampling)
    assert torch.equal(zoo.preprocess(path, spec), zoo.preprocess(zoo.read_clip(path), spec))
    expected = clips.sampled(20, spec.input)
    batch = zoo.preprocess(path, spec)
    assert [round(float(batch[0, :, t].mean()) * 51) for t in range(frames)] == expected


def test_an_animation_is_a_clip_of_all_its_frames(tmp_path):
    for name in ("moving.gif", "moving.webp"):
        shown = [Image.new("RGB", (8, 8), (level,) * 3) for level in (0, 100, 200)]
        shown[0].save(tmp_path / name, save_all=True, append_images=shown[1:], lossless=True)
        assert [int(frame.float().mean().round()) for frame in zoo.read_clip(tmp_path / name)] == [0, 100, 200]


@pytest.mark.parametrize("name", ["12:30.mp4", "concat:one.mp4|two.mp4", "https:talk.mp4", "a b'\"<c>.mp4"])
def test_a_files_name_is_never_read_as_anything_else(video, tmp_path, monkeypatch, name):
    path = video(grey_ramp(5), name="safe.mp4").rename(tmp_path / name)
    assert len(zoo.read_clip(path)) == 5
    monkeypatch.chdir(tmp_path)
    assert len(zoo.read_clip(name)) == 5


def test_a_clip_with_too_few_frames_is_read_with_a_warning(video):
    clip = clips.decode(video(grey_ramp(3)), spec=entry(frames=4).input)
    assert clip.warnings == ("The clip has 3 frames and the model takes 4: some are shown more than once.",)


def test_a_name_that_is_not_utf8_is_read_and_can_be_written(video):
    path = video(grey_ramp(3))
    odd = path.rename(path.with_name(os.fsdecode(b"odd\xff.mp4")))
    assert clips.decode(odd).source.encode().endswith("odd\N{REPLACEMENT CHARACTER}.mp4".encode())


def test_a_folder_of_images_is_a_clip_in_natural_order(tmp_path):
    for index in (10, 9, 1):
        Image.new("RGB", (12, 10), (5 * index,) * 3).save(tmp_path / f"frame{index}.png")
    frames = zoo.read_clip(tmp_path)
    assert [index_of(frame) for frame in frames] == [1, 9, 10]
    Image.new("RGB", (12, 11)).save(tmp_path / "frame11.png")
    with pytest.raises(ClipError, match=r"frame11\.png has another size"):
        zoo.read_clip(tmp_path)


def test_one_image_fills_all_frames(tmp_path):
    Image.new("RGB", (8, 8), (10, 20, 30)).save(tmp_path / "one.png")
    with pytest.warns(ClipWarning, match="has 1 frame"):
        batch = zoo.preprocess(tmp_path / "one.png", entry())
    assert batch.shape == (1, 3, 4, 8, 8)
    assert torch.equal(batch[0, :, 0], batch[0, :, 3])


def test_a_tensor_file_is_a_clip(tmp_path):
    given = torch.randint(256, (6, 8, 8, 1), dtype=torch.uint8)
    save_file({"clip": given}, tmp_path / "t.safetensors")
    assert torch.equal(zoo.read_clip(tmp_path / "t.safetensors"), given.expand(-1, -1, -1, 3))
    save_file({"clip": given.float()}, tmp_path / "f.safetensors")
    with pytest.raises(ClipError, match=r"no single uint8 tensor.*clip F32"):
        zoo.read_clip(tmp_path / "f.safetensors")


@pytest.fixture
def sampled(installed, tiny, monkeypatch, tmp_path):
    stacked = torch.randint(256, (2, 4, 8, 8, 1), dtype=torch.uint8)
    save_file({"clips": stacked}, tmp_path / "s.safetensors")
    resource = str(tmp_path / "s.safetensors")
    sample = f"Sample(name='dots', resource={resource!r}, labels=('a', 'b'), license='CC0', source='x')"
    code = tiny.replace("import InputSpec", "import Sample, InputSpec").replace(
        "entry()", f"entry(samples=({sample},))"
    )
    installed.add("with_samples", code)
    installed.use(monkeypatch)
    return stacked


def test_samples_are_read_by_name_and_index(sampled):
    assert torch.equal(zoo.read_clip("sample:dots"), sampled[0].expand(-1, -1, -1, 3))
    second = clips.decode("sample:dots/1")
    assert torch.equal(second.frames[..., :1], sampled[1])
    assert second.label == "b"
    for wrong in ("sample:dosts", "sample:dots/2"):
        with pytest.raises(UnknownNameError, match="did you mean 'sample:dots"):
            zoo.read_clip(wrong)


def test_grey_clips_come_back_bit_for_bit():
    grey = torch.randint(256, (4, 8, 8, 1), dtype=torch.uint8)
    for given in (grey, grey.expand(-1, -1, -1, 3)):
        assert torch.equal(clips.convert(given, entry(channels="L").input), grey)


def test_normalisation_is_as_the_entry_states():
    given = torch.randint(256, (4, 8, 8, 3), dtype=torch.uint8)
    batch = zoo.preprocess(given, entry(range=(-1, 1), mean=(0.1, 0.2, 0.3), std=(2, 3, 4)))
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([2.0, 3.0, 4.0])
    expected = ((given.double() / 255 * 2 - 1) - mean) / std
    assert torch.allclose(batch[0].double(), expected.permute(3, 0, 1, 2), atol=1e-6)


def test_the_batch_has_the_type_of_the_model():
    model = torch.nn.Conv3d(3, 1, 1).to(torch.bfloat16)
    model.zoo_entry = entry()
    assert zoo.preprocess(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), model).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 64},
        {"size": (0, 8)},
        {"frames": 0},
        {"stride": 0},
        {"layout": "NHWC"},
        {"channels": "grey"},
        {"resize": "pad"},
        {"mean": (0.1, 0.2)},
        {"std": (0.0,)},
        {"frames": "x"},
        {"frames": 10**9},
        {"size": (10**5, 10**5)},
        {"resized": (7, 16)},
        {"resized": (16,)},
        {"resized": (16.0, 16)},
        {"interpolation": "nearest"},
    ],
)
def test_an_input_that_cannot_be_is_refused(wrong):
    with pytest.raises((ValueError, TypeError)):
        entry(**wrong)


def test_layouts_and_channel_order():
    given = torch.randint(256, (4, 8, 8, 3), dtype=torch.uint8)
    plain = zoo.preprocess(given, entry())
    assert torch.equal(zoo.preprocess(given, entry(layout="NTCHW")), plain.transpose(1, 2))
    assert torch.equal(zoo.preprocess(given, entry(channels="BGR")), plain.flip(1))
    image = zoo.preprocess(given[:1], entry(layout="NCHW", frames=1))
    assert torch.equal(image, plain[:, :, 0])


def test_resizing_keeps_the_aspect_and_cuts_the_centre():
    wide = torch.zeros(4, 16, 64, 3, dtype=torch.uint8)
    wide[:, :, 24:40] = 200  # the central square
    assert (clips.convert(wide, entry().input) > 150).all()
    squeezed = clips.convert(wide, entry(resize="exact").input)
    assert squeezed.shape == (4, 8, 8, 3)
    assert (squeezed[:, :, 0] == 0).all()
    assert clips.convert(wide, entry(size=(16, 24)).input).shape == (4, 16, 24, 3)


def test_sides_before_the_crop_may_be_given():
    wide = torch.zeros(4, 16, 64, 3, dtype=torch.uint8)
    wide[:, :, 32:] = 200
    cut = clips.convert(wide, entry(resize="exact", resized=(8, 16)).input)
    assert cut.shape == (4, 8, 8, 3)
    assert (cut[:, :, :3] == 0).all()
    assert (cut[:, :, 5:] == 200).all()


def test_shrinking_is_smoothed_unless_told_otherwise():
    stripes = torch.zeros(4, 8, 64, 3, dtype=torch.uint8)
    stripes[:, :, ::8] = 255
    for interpolation in ("bilinear", "bicubic"):
        smooth, sharp = (
            clips.convert(stripes, entry(resize="exact", interpolation=interpolation, antialias=antialias).input)
            for antialias in (True, False)
        )
        assert 20 < smooth[:, :, 2:-2].float().mean() < 45  # an eighth of the columns is white
        assert (sharp == 0).all()  # samples fall between the stripes


def test_every_step_of_the_conversion_is_told(video):
    spec = entry(channels="L", mean=(0.5,), std=(0.25,)).input
    colour = np.random.default_rng(0).integers(0, 255, (20, 32, 48, 3)).astype(np.uint8)
    told = " ".join(clips.describe(clips.decode(video(colour), spec=spec), spec))
    for part in (
        "20 frames of 48 × 32",
        "10 frames per second",
        "Took 4",
        "grey",
        "12 × 8",
        "central 8 × 8",
        "mean (0.5)",
    ):
        assert part in told


@pytest.mark.parametrize(
    "given",
    [torch.zeros(4, 8, 8, 3), torch.zeros(4, 8, 8, dtype=torch.uint8), torch.zeros(0, 8, 8, 3, dtype=torch.uint8)],
)
def test_a_tensor_that_is_no_clip_is_refused(given):
    with pytest.raises(ClipError, match="expected uint8 frames T x H x W x C"):
        zoo.preprocess(given, entry())


def test_what_cannot_be_read_says_so(tmp_path, video):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG but no more")
    (tmp_path / "folder").mkdir()
    for name, said in [
        ("text.mp4", "does not decode"),
        ("empty.mp4", "does not decode"),
        ("bad.png", "image"),
        ("folder", "no images"),
    ]:
        with pytest.raises(ClipError, match=said):
            zoo.read_clip(tmp_path / name)
    video(grey_ramp(3), name="right.mp4")
    with pytest.raises(UnknownNameError, match=r"did you mean 'right\.mp4'"):
        zoo.read_clip(tmp_path / "rihgt.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "folder" / "0.png")
    for times in ({"start": 1}, {"end": 2}):
        with pytest.raises(UsageError, match="folder is no video"):
            zoo.read_clip(tmp_path / "folder", **times)
    with pytest.raises(ClipError, match="no frame between 9 s and its end"):
        zoo.read_clip(tmp_path / "right.mp4", start=9)
    for wrong in ({"frames": 0}, {"start": -1}, {"start": 2, "end": 1}, {"start": float("nan")}):
        with pytest.raises(UsageError):
            zoo.read_clip(tmp_path / "right.mp4", **wrong)


def test_a_sound_file_has_no_video(tmp_path):
    path = tmp_path / "sound.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ClipError, match="no video stream"):
        zoo.read_clip(path)


def test_a_clip_too_large_is_refused_with_a_remedy(video, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BYTES", 10 * 32 * 48 * 3)
    path = video(grey_ramp(20))
    with pytest.raises(ClipError, match="take fewer `frames`"):
        zoo.read_clip(path)
    assert len(zoo.read_clip(path, frames=10)) == 10


@pytest.fixture
def stored(video, tmp_path):
    """Stores frames in each way that clips have: gives the path."""

    def store(kind, frames):
        images = [Image.fromarray(frame) for frame in frames]
        if kind == "video":
            return video(frames)
        if kind == "animation":
            images[0].save(tmp_path / "moving.gif", save_all=True, append_images=images[1:])
            return tmp_path / "moving.gif"
        if kind == "tensor":
            save_file({"clip": torch.from_numpy(frames)}, tmp_path / "clip.safetensors")
            return tmp_path / "clip.safetensors"
        (tmp_path / "folder").mkdir()
        for index, image in enumerate(images):
            image.save(tmp_path / "folder" / f"{index}.png")
        return tmp_path / "folder"

    return store


@pytest.mark.parametrize("kind", ["video", "animation", "tensor", "folder"])
@pytest.mark.parametrize(
    ("limit", "most", "said"),
    [
        ("MAX_BYTES", 6 * 32 * 48 * 3, "take fewer `frames`"),
        ("MAX_FRAMES", 6, "7 frames; expected at most 6: cut it"),
        ("MAX_PIXELS", 32 * 48, "frames of 48 x 40 pixels; expected at most .* and 1,536 in all: scale it down"),
        ("LONGEST_SIDE", 48, "frames of 50 x 30 pixels; expected at most 48 a side"),
    ],
)
def test_a_clip_is_within_the_limits_or_refused(stored, monkeypatch, kind, limit, most, said):
    over = {"MAX_BYTES": (7, 32, 48), "MAX_FRAMES": (7, 32, 48), "MAX_PIXELS": (2, 40, 48), "LONGEST_SIDE": (2, 30, 50)}
    path = stored(kind, grey_ramp(*over[limit]))
    assert len(zoo.read_clip(path)) == over[limit][0]
    monkeypatch.setattr(limits, limit, most)
    with pytest.raises(ClipError, match=said):
        zoo.read_clip(path)


def test_a_clip_at_the_limits_is_read(video, monkeypatch):
    path = video(grey_ramp(6))
    for limit, most in {
        "MAX_BYTES": 6 * 32 * 48 * 3,
        "MAX_FRAMES": 6,
        "MAX_PIXELS": 32 * 48,
        "LONGEST_SIDE": 48,
    }.items():
        monkeypatch.setattr(limits, limit, most)
    assert len(zoo.read_clip(path)) == 6


def test_a_frame_so_narrow_that_it_would_grow_out_of_measure_is_refused():
    frames = torch.zeros(4, 1, 200, 3, dtype=torch.uint8)
    with pytest.raises(ClipError, match="resized to 20000 x 100, and no side may be longer than 16,384; crop"):
        clips.convert(frames, entry(short_side=100).input)
    assert clips.convert(frames, entry(short_side=80).input).shape == (4, 8, 8, 3)


def test_a_number_of_frames_that_a_header_makes_up_is_not_believed(video):
    path = video(grey_ramp(20), name="clip.avi", codec="mpeg4")
    content = path.read_bytes()
    at = content.index(b"strh") + 8 + 32  # dwLength of the stream's header
    assert int.from_bytes(content[at : at + 4], "little") == 20
    path.write_bytes(content[:at] + (2**31 - 1).to_bytes(4, "little") + content[at + 4 :])
    assert len(zoo.read_clip(path)) == 20


def test_a_video_that_decodes_in_two_ways_is_refused(video, monkeypatch):
    path, cut = video(grey_ramp(6)), iter([1, 2])
    frames = videos._Reading.frames

    def fewer(reading):
        found = list(frames(reading))
        return iter(found[: -next(cut)])

    monkeypatch.setattr(videos._Reading, "frames", fewer)
    with pytest.raises(ClipError, match="decodes differently each time"):
        zoo.read_clip(path, frames=4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.mp4", "ffconcat version 1.0\nfile inner.mp4\n"),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ninner.ts\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ninner.ts\n#EXT-X-ENDLIST\n"),
        ("words.txt", "some words\n" * 100),
        ("stream.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
        ("drawing.png", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"),
    ],
)
def test_what_names_other_files_or_starts_a_program_is_no_clip(video, tmp_path, name, content):
    video(grey_ramp(5), name="inner.mp4")
    video(grey_ramp(5), name="inner.ts", codec="mpeg2video", options={})
    (tmp_path / name).write_text(content)
    with pytest.raises(ClipError, match=r"does not decode as a video|cannot be read as an image"):
        zoo.read_clip(tmp_path / name)


def test_what_follows_an_input_keeps_its_stride(tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(
        {"clip": (10 * torch.arange(9, dtype=torch.uint8)).view(9, 1, 1, 1).expand(9, 4, 4, 1).contiguous()}, path
    )
    given = entry(channels="L", frames=2, size=(4, 4), sampling="consecutive", stride=2, layout="NTCHW", mean=(0.1,))
    after = clips.following(path, given, 3)
    assert after.shape == (1, 1, 3, 4, 4)
    torch.testing.assert_close(after[0, 0, :, 0, 0], torch.tensor([40.0, 60, 80]) / 255 - 0.1)
    assert clips.following(path, given, 4) is None


def test_every_real_clip_decodes(test_data):
    found = sorted(path for path in (test_data / "clips").iterdir() if path.suffix in (".avi", ".mp4"))
    assert len(found) == 24
    for path in found:
        batch = zoo.preprocess(path, entry(frames=8, size=(32, 32)))
        assert batch.shape == (1, 3, 8, 32, 32)
        assert 0.0 <= batch.min() < batch.max() <= 1.0


def _raises(error):
    def fail(*_, **__):
        raise error

    return fail


SHORTAGES = [
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "Too many open files in system"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ENOSPC, "No space left on device"),
    RuntimeError("can't start new thread"),
    ImportError("libavcodec.so: failed to map segment from shared object"),
    ImportError("libavcodec.so: cannot open shared object file: Too many open files"),
    av.error.BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    av.error.OSError(errno.EMFILE, "Too many open files"),
    MemoryError("Unable to allocate 1.00 TiB for an array"),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=lambda error: f"{type(error).__name__} {error}"[:60])
@pytest.mark.parametrize("source", ["video", "image", "folder"])
def test_what_the_machine_lacks_is_not_the_fault_of_the_clip(tmp_path, monkeypatch, error, source):
    path = tmp_path / {"video": "x.mp4", "image": "x.png", "folder": "x"}[source]
    path.mkdir() if source == "folder" else path.write_bytes(b"whatever")
    monkeypatch.setattr(av, "open", _raises(error))
    monkeypatch.setattr(Image, "open", _raises(error))
    if source == "folder":
        monkeypatch.setattr(type(path), "iterdir", _raises(error))
    with pytest.raises(ResourceError, match=r"cannot read .*x") as caught:
        clips.decode(path)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "error",
    [
        av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"),
        av.error.OSError(errno.EIO, "I/O error"),
        av.error.PermissionError(errno.EPERM, "Operation not permitted"),
    ],
)
def test_a_damaged_file_that_makes_a_decoder_say_so_is_a_damaged_file(tmp_path, monkeypatch, error):
    """FFmpeg says so of some damaged files: there is memory, and the file can be read. Old decoders say -1, EPERM."""
    (tmp_path / "x.mp4").write_bytes(b"whatever")
    monkeypatch.setattr(av, "open", _raises(error))
    with pytest.raises(ClipError):
        clips.decode(tmp_path / "x.mp4")


def test_a_disk_that_fails_under_a_decoder_is_the_machine_s_fault(tmp_path, monkeypatch):
    (tmp_path / "x.mp4").write_bytes(b"whatever")
    monkeypatch.setattr(av, "open", _raises(av.error.OSError(errno.EIO, "I/O error")))
    monkeypatch.setattr("builtins.open", _raises(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(ResourceError):
        clips.decode(tmp_path / "x.mp4")
