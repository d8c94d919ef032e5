"""Read clips (videos, images and folders of them, tensors, bundled samples) and turn them into batches.

The way of a clip: `decode` -> uint8 frames T x H x W x 3 -> `convert` -> uint8 frames as the model sees them
-> `normalize` -> a batch. `preprocess` goes all the way.
"""

from zoo.clips.clip import Clip, instant, moment, timed
from zoo.clips.images import IMAGE_SUFFIXES
from zoo.clips.limits import MAX_BYTES, MAX_FRAMES, MAX_PIXELS
from zoo.clips.preparing import (
    convert,
    cut,
    describe,
    following,
    normalize,
    of_frames,
    preprocess,
    sampled_of,
    spec_of,
    times_of,
)
from zoo.clips.reading import check_exists, decode, read_clip, samples
from zoo.clips.sampling import sampled, spread

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_FRAMES",
    "MAX_PIXELS",
    "Clip",
    "check_exists",
    "convert",
    "cut",
    "decode",
    "describe",
    "following",
    "instant",
    "moment",
    "normalize",
    "of_frames",
    "preprocess",
    "read_clip",
    "sampled",
    "sampled_of",
    "samples",
    "spec_of",
    "spread",
    "timed",
    "times_of",
]
