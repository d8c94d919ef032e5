"""Drawings of effective fields, and what a report measures of them."""

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch import nn

import explain
from explain.drawing import fields as drawing
from explain.fields.effective import effective_fields
from explain.reporting.topics import fields as section

SVG = "{http://www.w3.org/2000/svg}"


def found(frames=5):
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 2, 3, padding=1))
    return effective_fields(model, ["0", "1"], torch.rand(1, 1, frames, 9, 9), draws=1)


@pytest.mark.parametrize("frames", [1, 5])
def test_each_layer_is_a_picture_and_of_clips_a_chart(frames):
    fields = found(frames)
    shown = np.zeros((frames, 9, 9, 1), dtype=np.uint8)
    text = drawing.write_effective(fields, shown)
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter(f"{SVG}text")]
    for field in fields:
        assert field.layer in words
        assert drawing.in_words(field) in words
    assert len(list(root.iter(f"{SVG}image"))) == 2
    assert words.count("frame") == (2 if frames > 1 else 0)
    assert text == drawing.write_effective(fields, shown)


def test_words_name_frames_of_clips_alone_and_say_where_nothing_is_seen():
    clip, image = found()[0], found(1)[0]
    assert drawing.in_words(clip) == "95 % within 3 × 3 × 3; can see 3 × 3 × 3"
    assert drawing.in_words(image) == "95 % within 3 × 3; can see 3 × 3"


def test_a_report_measures_a_few_layers_on_its_clip(written):
    data = written.data["sections"]["fields"]["effective"]
    assert [one["layer"] for one in data] == ["early", "pool", "late"]
    assert data[0]["theoretical"] == [3, 3, 3]
    assert all(low >= 0 for one in data for low, _ in one["box"])
    page = written.page.read_text(encoding="utf-8")
    assert "Where it looks" in page
    assert "can see 3 × 3 × 3" in page


def test_very_dear_models_are_not_measured(model, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(section, "FORBIDDING", 1)
    report = explain.report(model, clip, tmp_path / "out", sections=["fields"])
    assert report.data["sections"]["fields"]["effective"] == []
    assert "too dear to measure" in report.page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("where", "share"), [("middle", 1.0), ("edge", 0.0), ("even", 0.25), ("nowhere", None)])
def test_what_a_page_says_of_the_middle_is_measured(where, share):
    from explain.drawing.fields import in_the_middle

    heat = torch.zeros(2, 16, 16, dtype=torch.float64)
    inside = heat[:, 4:12, 4:12]  # the field; the rest it cannot see
    if where == "even":
        inside += 1.0
    elif where == "middle":
        inside[:, 2:6, 2:6] += 3.0
    elif where == "edge":
        inside[:, 0, :] += 2.0
    field = SimpleNamespace(heat=heat, box=None, theoretical_box=((0, 1), (4, 11), (4, 11)))
    assert in_the_middle(field) == (None if share is None else pytest.approx(share))


def test_no_page_claims_that_layers_look_at_the_middle(written):
    page = written.page.read_text(encoding="utf-8")
    assert "mostly at the middle" not in page
    for one in written.data["sections"]["fields"]["effective"]:
        assert 0 <= one["in_the_middle"] <= 1
