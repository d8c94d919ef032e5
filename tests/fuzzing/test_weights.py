"""Whatever a weights file says of itself, it is read or refused with one message, by file and by index of shards."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from zoo.errors import WeightsError
from zoo.weights import describing
from zoo.weights import files as weights

NUMBERS = st.sampled_from((-1, 0, 1, 2, 4, 8, 24, 2**31, 2**32, 2**53 + 1, 2**62, 2**63, 2**64 - 1, 2**64, 0.5, 1e308))
NAMES = st.sampled_from(
    ("a", "a.b", "", "NaN", "Infinity", "__metadata__", "../a", "a\n\x1b[2Jb", "\u202ea", "\U0001f600")
)
DTYPES = st.sampled_from(("F32", "F64", "BF16", "F8_E8M0", "F4", "F6_E2M3", "C64", "BOOL", "f32", "F99", "", None))
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TENSOR = st.fixed_dictionaries(
    {
        "dtype": DTYPES,
        "shape": st.lists(NUMBERS, max_size=3) | st.just([1] * 2000) | JUNK,
        "data_offsets": st.tuples(NUMBERS, NUMBERS) | JUNK,
    },
    optional={"more": JUNK},
)
METADATA = st.dictionaries(st.just("zoo") | NAMES, JUNK.map(json.dumps) | JUNK, max_size=2)
#: Members of an object, in which a name may stand twice.
MEMBERS = st.lists(st.tuples(NAMES, TENSOR | JUNK) | st.tuples(st.just("__metadata__"), METADATA), max_size=4)
HEADERS = st.one_of(
    MEMBERS.map(lambda members: "{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in members) + "}"),
    JUNK.map(json.dumps),
    st.sampled_from(("[" * 5000, '{"a":' * 5000, '{"a":' + "9" * 5000 + "}", '"\\ud800"', '{"\\ud800":1}', "NaN")),
).map(str.encode) | st.binary(max_size=60)
LENGTHS = st.sampled_from((0, 1, 7, 8, 2**25, 2**25 + 1, 2**31, 2**32, 2**63, 2**64 - 1))
WHOLE = save(
    {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}, metadata={"zoo": '{"arguments": {"classes": 5}}'}
)


@st.composite
def files(draw):
    """A file of any header, or the whole one with some bytes changed, cut or put in."""
    if draw(st.booleans()):
        header = draw(HEADERS)
        length = draw(st.just(len(header)) | LENGTHS)
        return struct.pack("<Q", length) + header + draw(st.just(b"\1" * 24) | st.binary(max_size=30))
    content = bytearray(WHOLE)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@st.composite
def indices(draw):
    """An index of shards: as it should be but for what is drawn."""
    shards = st.sampled_from(
        ("one.safetensors", "two.safetensors", "../one.safetensors", "/etc/passwd", ".safetensors")
    )
    placed = draw(st.dictionaries(st.sampled_from(("a", "b", "c")), shards | JUNK, max_size=3) | JUNK)
    said = {"metadata": draw(JUNK), "weight_map": placed}
    return json.dumps(draw(st.just(said) | JUNK)).encode() if draw(st.integers(0, 9)) else draw(st.binary(max_size=60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


def refused(path, error):
    """The message names the file, or one that it names, and is one line."""
    assert str(path.parent) in str(error)
    assert str(error).isprintable()


def read(path):
    """Everything that reads such a file, or None where it is refused; whichever way, on one line."""
    given = None
    for step in (
        weights.read_header,
        weights.map_tensors,
        lambda path: weights.map_tensors(path, mmap=False),
        lambda path: describing.describe_file(str(path)),
    ):
        try:
            said = step(path)
        except WeightsError as error:
            refused(path, error)
        else:
            given = said if given is None else given
    return given


def test_the_file_that_is_damaged_was_whole(folder):
    path = folder / "whole.safetensors"
    path.write_bytes(WHOLE)
    assert read(path).tensors == {"a": ("F32", (2, 3)), "b": ("F32", (1,))}


@given(files())
@settings(max_examples=6 * settings.default.max_examples)
def test_any_file_is_read_or_refused(folder, content):
    path = folder / "any.safetensors"
    path.write_bytes(content)
    read(path)


@given(indices(), files(), st.booleans())
def test_any_index_is_read_or_refused(folder, index, shard, whole):
    (folder / "one.safetensors").write_bytes(WHOLE if whole else shard)
    (folder / "two.safetensors").write_bytes(save({"c": torch.ones(2)}))
    path = folder / "any.safetensors.index.json"
    path.write_bytes(index)
    read(path)


def test_a_file_has_so_many_tensors_and_no_more(folder, monkeypatch):
    path = folder / "many.safetensors"
    path.write_bytes(save({f"t{at}": torch.empty(0) for at in range(20)}))
    index = folder / "many.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {f"t{at}": path.name for at in range(20)}}))
    monkeypatch.setattr(weights, "MOST_TENSORS", 20)
    for one in (path, index):
        assert len(weights.read_header(one).tensors) == 20
    monkeypatch.setattr(weights, "MOST_TENSORS", 19)
    for one in (path, index):
        with pytest.raises(WeightsError, match="20 tensors; expected at most 19"):
            weights.read_header(one)


def test_what_a_header_says_of_a_model_has_a_length(folder, monkeypatch):
    path = folder / "said.safetensors"
    path.write_bytes(save({"a": torch.ones(1)}, metadata={"zoo": " " * 1001}))
    monkeypatch.setattr(describing, "LONGEST_OVERRIDES", 1000)
    with pytest.raises(WeightsError, match="longer than 1,000 characters"):
        describing.describe_file(str(path))


def test_a_header_has_a_length(folder):
    path = folder / "long.safetensors"
    with path.open("wb") as file:  # sparse: nothing of it is read
        file.write(struct.pack("<Q", 2**25 + 1))
        file.truncate(2**25 + 9)
    with pytest.raises(WeightsError, match="header has more than 33,554,432 bytes"):
        weights.read_header(path)
