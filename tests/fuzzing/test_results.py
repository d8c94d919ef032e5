"""Whatever is in the file of a kept result, it is read or refused with one message."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

import explain
from explain.results import packed
from zoo.errors import ResultError

KEYS = ("$class", "$tensor", "$tuple", "$float", "$function", "$$class", "format", "result", "method", "a\nb")
VALUES = ("Attribution", "Maximization", "os", "system", "raw", "none", "nan", "1e999", "x\0y", "a\nb\x1b[2J", "\u202e")
JUNK = st.recursive(
    st.none() | st.booleans() | st.sampled_from((-1, 0, 1, 2, 2**70, 0.5)) | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def kept():
    """What a file of an attribution says, and its tensors."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    result = explain.attribute(model, torch.ones(1, 1, 2, 2, 2), method="saliency", target=0)
    content = packed(result)
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["explain"]), load(content)


@given(st.data())
def test_any_record_is_read_or_refused(kept, tmp_path_factory, data):
    said, tensors = json.loads(json.dumps(kept[0])), kept[1]
    for _ in range(data.draw(st.integers(1, 3))):
        place = said
        while True:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 3)):
                place = place[key]
                continue
            place[data.draw(st.sampled_from(KEYS)) if isinstance(place, dict) and data.draw(st.booleans()) else key] = (
                data.draw(JUNK)
            )
            break
    read(tmp_path_factory.getbasetemp() / "kept.safetensors", save(tensors, metadata={"explain": json.dumps(said)}))


@given(st.sampled_from(("[" * 5000, '{"result":' * 5000, "{", "", "[]", '{"result": 1}')) | st.text(max_size=20))
def test_what_is_no_record_is_refused(tmp_path_factory, text):
    content = save({"a": torch.ones(1)}, metadata={"explain": text})
    assert read(tmp_path_factory.getbasetemp() / "kept.safetensors", content) is None


def read(path, content):
    path.write_bytes(content)
    try:
        return explain.Attribution.load(path)
    except ResultError as error:
        refused(path, error)
        return None


def refused(path, error):
    """The message names the file, and is one line."""
    assert str(path) in str(error)
    assert str(error).isprintable()


def test_the_record_that_is_changed_was_whole(kept, tmp_path):
    assert read(tmp_path / "a.safetensors", save(kept[1], metadata={"explain": json.dumps(kept[0])})) is not None
