"""A photo or a clip becomes the batch that torchvision's own transforms make of it."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo import clips


@pytest.fixture(scope="module")
def photo(test_data):
    return zoo.read_clip(test_data / "photos" / "chelsea.png")


@pytest.fixture(scope="module")
def video(test_data):
    return zoo.read_clip(test_data / "clips" / "v_BabyCrawling_g19_c01.avi")


# One of each way: resized to 232 or 256 bilinearly, bicubically, both sides at once, the shorter one, for time.
WAYS = ["resnet18", "resnet50.imagenet1k_v2", "resnet50.imagenet1k_v1", "efficientnet_b0", "convnext_tiny", "swin_t"]
WAYS += ["r3d_18", "s3d", "mvit_v2_s", "swin3d_t"]


@pytest.mark.parametrize("named", WAYS)
@pytest.mark.filterwarnings("ignore::zoo.errors.ClipWarning")  # the clip is too short for some
def test_it_is_torchvisions(named, torchvision, request):
    entry = zoo.info(named)
    spec = entry.input
    frames = request.getfixturevalue("photo" if spec.layout == "NCHW" else "video")
    fps = None if spec.frame_rate is None else 2 * spec.frame_rate
    taken = frames[clips.sampled(len(frames), spec, fps=fps)].permute(0, 3, 1, 2)
    theirs = torchvision.models.get_model_weights(entry.name)[entry.weights[0].tag.upper()].transforms()(taken)
    expected = theirs if spec.layout == "NCHW" else theirs[None]
    found = zoo.preprocess(frames, entry, fps=fps)
    assert found.shape == expected.shape
    level = 1 / 255 / min(spec.std)  # one step of a pixel: rounded otherwise where torchvision resizes whole numbers
    difference = (found - expected).abs()
    assert difference.max() <= level * 1.001
    assert difference.mean() < level / 50


def test_frames_are_as_far_apart_as_in_training(video):
    spec = zoo.info("r3d_18").input
    for fps, stride in ((30, 2), (60, 4), (15, 1)):
        assert clips.sampled(len(video), spec, fps=fps) == list(range(0, 16 * stride, stride))


def test_an_image_is_a_clip_of_one_frame(photo):
    batch = zoo.preprocess(photo, "vit_b_16")
    assert photo.shape[0] == 1
    assert batch.shape == (1, 3, 224, 224)
    assert batch.dtype == torch.float32
