"""What is kept between runs: whole or not at all, and never taken for something else."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from explain.reporting.many.resumption import Work, fingerprint
from explain.sources import Source
from zoo.errors import OutputError


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"clip")
    return Source(str(tmp_path / "a.mp4"), "a.mp4")


def test_what_was_kept_comes_back(tmp_path, source):
    work = Work(tmp_path / "report", {"seed": 0})
    name = work.name(source)
    assert work.load(name) is None
    work.save(name, {"score": 0.25, "bad": float("nan")}, {"time": torch.arange(3.0)})
    record, tensors = Work(tmp_path / "report", {"seed": 0}).load(name)
    assert record == {"score": 0.25, "bad": None}
    assert tensors["time"].tolist() == [0, 1, 2]
    assert work.folder.name == ".report.unfinished"


def test_half_a_file_is_none(tmp_path, source):
    work = Work(tmp_path / "report", {})
    work.save("x", {}, {"time": torch.arange(300.0)})
    file = work.folder / "x.safetensors"
    whole = file.read_bytes()
    for size in (0, 4, 20, len(whole) - 1):
        file.write_bytes(whole[:size])
        assert work.load("x") is None


def test_other_settings_files_and_weights_have_other_names(tmp_path, source):
    names = [Work(tmp_path / "report", settings).name(source) for settings in ({}, {"seed": 1})]
    other = tmp_path / "b.mp4"
    other.write_bytes(b"clip")
    names.append(Work(tmp_path / "report", {}).name(Source(str(other), "b.mp4")))
    os.utime(source.path, ns=(5, 5))
    names.append(Work(tmp_path / "report", {}).name(source))
    assert len(set(names)) == 4


def test_a_folder_of_images_changes_with_its_images(tmp_path):
    (tmp_path / "clip").mkdir()
    image = tmp_path / "clip" / "1.png"
    image.write_bytes(b"1")
    work, source = Work(tmp_path / "report", {}), Source(str(tmp_path / "clip"), "clip")
    before = work.name(source)
    os.utime(image, ns=(5, 5))
    assert work.name(source) != before


def test_the_label_changes_nothing(tmp_path, source):
    """Labels can be corrected without asking the model again."""
    work = Work(tmp_path / "report", {})
    assert work.name(source) == work.name(Source(source.path, source.name, "cat"))


def test_fingerprints_tell_weights_and_structure():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
    found = {fingerprint(model)}
    assert fingerprint(model) in found
    model[1].running_mean[0] = 1
    found.add(fingerprint(model))
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    found.add(fingerprint(model))
    found.add(fingerprint(nn.Sequential(model[0], model[1], nn.GELU())))
    assert len(found) == 4


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        Work(tmp_path / "file" / "report", {}).save("x", {}, {"a": torch.zeros(1)})
