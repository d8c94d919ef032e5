import re
from importlib.resources import files

import pytest
import torch
from safetensors.torch import load

from zoo_motion_mnist import KINDS, SAMPLE, motion, sampling, task

BUNDLED = files("zoo_motion_mnist").joinpath("samples/motion_mnist.safetensors")


def test_the_bundled_clips_are_those_that_sampling_writes(mnist, tmp_path):
    labels = sampling.write(tmp_path / "samples.safetensors")
    assert SAMPLE.labels == labels
    assert (tmp_path / "samples.safetensors").read_bytes() == BUNDLED.read_bytes()


def test_classes_are_those_that_labels_name():
    for label, classes in zip(SAMPLE.labels, SAMPLE.classes, strict=True):
        digit, *motions = label.split(", ")
        assert digit == f"digit {classes['digit']}"
        assert ("motion" in classes) == (len(motions) == 1)
        assert len(motions) > 1 or motions[0].startswith(classes["motion"])


def test_longer_clips_show_the_same_at_smaller_rates(mnist, tmp_path):
    labels = sampling.write(tmp_path / "long.safetensors", several=(), frames=32)
    clips = load((tmp_path / "long.safetensors").read_bytes())["clips"]
    assert clips.shape == (9, 32, 64, 64, 1)
    for long, usual in zip(labels, SAMPLE.labels, strict=False):
        slow, fast = (re.findall(r"\d+\.\d", label) for label in (long, usual))
        assert [float(rate) for rate in slow] == pytest.approx([float(rate) / 2 for rate in fast], abs=0.1)
        assert re.sub(r"\d+\.\d", "", long) == re.sub(r"\d+\.\d", "", usual)


def test_each_motion_is_described_with_its_rate():
    generator = torch.Generator().manual_seed(0)
    units = {"zoom": " % per frame", "rotation": "° per frame", "translation": " pixels per frame", "static": "still"}
    for kind, names in KINDS.items():
        drawn = motion.draw(1, torch.tensor([7]), generator=generator, motions=names)
        text = sampling.describe(drawn)
        assert text.startswith(f"digit 7, {motion.MOTIONS[int(task.labels(drawn))]}")
        assert text.endswith(units[kind])
