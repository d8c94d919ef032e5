"""Weights files are found, verified once, and never opened where they are not what they say."""

from __future__ import annotations

import json
import os
import pickle
import time

import pytest
import torch
from safetensors.torch import save_file

from zoo.entries import WeightsEntry
from zoo.errors import PluginError, UnknownNameError, WeightsError
from zoo.weights import describing, digests, files, obtaining


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "some.safetensors"
    save_file({"a": torch.arange(6.0).reshape(2, 3)}, path, metadata={"zoo": json.dumps({"arguments": {"classes": 5}})})
    return path


def entry(path, **fields):
    given = {"bytes": path.stat().st_size, "sha256": digests.sha256_of(path)}
    return WeightsEntry(tag="some", source=str(path), **{**given, **fields})


def test_bundled_and_local_files_are_located(file):
    assert obtaining.locate(str(file)) == file
    assert obtaining.locate("zoo:py.typed").name == "py.typed"
    assert obtaining.locate("zoo.training.data:mnist.py").name == "mnist.py"
    with pytest.raises(WeightsError, match="reinstall"):
        obtaining.locate("zoo:no.safetensors")
    with pytest.raises(PluginError, match="not installed"):
        obtaining.locate("no_such_package:a.safetensors")
    with pytest.raises(UnknownNameError, match=r"did you mean 'some\.safetensors'"):
        obtaining.locate(str(file.with_name("sone.safetensors")))


def test_a_file_is_hashed_once_until_it_changes(file, monkeypatch):
    first = digests.sha256_of(file)
    with monkeypatch.context() as patch:
        patch.setattr(digests.hashlib, "file_digest", None)  # hashing again would fail
        assert digests.sha256_of(file) == first
    file.write_bytes(file.read_bytes() + b" ")
    assert digests.sha256_of(file) != first


def test_a_hash_is_not_remembered_while_a_change_could_bear_the_same_time(file):
    file.write_bytes(file.read_bytes()[:-1] + b"1")
    digests.sha256_of(file)
    assert time.time_ns() >= file.stat().st_mtime_ns + digests._TICK
    os.utime(file, (4e9, 4e9))  # in a future that is not waited for
    digests.sha256_of(file)
    assert time.time() < 4e9


def test_a_file_replaced_by_one_of_equal_size_or_time_is_hashed_again(file):
    first, status, content = digests.sha256_of(file), file.stat(), file.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes(changed)  # same inode and size, another time
    second = digests.sha256_of(file)
    other = file.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)  # same size and time, another inode
    assert digests.sha256_of(file) == first != second


def test_a_cache_that_cannot_be_written_is_no_error(file, monkeypatch, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is needed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert len(digests.sha256_of(file)) == 64


def test_check_names_what_differs(file):
    digests.check(file, entry(file))
    with pytest.raises(WeightsError, match="bytes"):
        digests.check(file, entry(file, bytes=3))
    with pytest.raises(WeightsError, match="sha256"):
        digests.check(file, entry(file, sha256="1" * 64))


def test_the_header_is_read_without_tensors(file):
    header = files.read_header(file)
    assert header.tensors == {"a": ("F32", (2, 3))}


def test_mapped_and_read_tensors_are_equal(file):
    mapped, read = files.map_tensors(file), files.map_tensors(file, mmap=False)
    assert torch.equal(mapped["a"], read["a"])


@pytest.mark.parametrize("content", ["pickle", "zip", "truncated", "empty", "text"])
def test_a_damaged_or_foreign_file_is_refused_by_name(file, content):
    whole = file.read_bytes()
    if content == "zip":
        torch.save({"a": torch.ones(1)}, file)
    else:
        file.write_bytes(
            {"pickle": pickle.dumps({}), "truncated": whole[:-5], "empty": b"", "text": b"not weights"}[content]
        )
    with pytest.raises(WeightsError, match=r"some\.safetensors") as caught:
        files.read_header(file)
    assert ("pickle" in str(caught.value)) == (content in ("pickle", "zip"))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
KINDS = {
    "Git LFS pointer": LFS,
    "web page": b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "a web page": b"\xef\xbb\xbf<html>",
    "JSON": b'{"abc": {"error": "Repository not found"}}',
    "pickle": pickle.dumps({"a": 1}, protocol=2),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "GGUF": b"GGUF\x03\x00\x00\x00" + bytes(64),
    "NumPy": b"\x93NUMPY\x01\x00" + bytes(64),
    "gzip": b"\x1f\x8b\x08\x00" + bytes(64),
    "empty": b"",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_instead_of_weights_is_said_wherever_it_is_read(file, kind):
    known = entry(file)
    file.write_bytes(KINDS[kind])
    with pytest.raises(WeightsError, match=kind):
        files.read_header(file)
    with pytest.raises(WeightsError, match=kind):  # a plugin's bundled file, of which more is known
        digests.check(file, known)
    with pytest.raises(WeightsError, match=kind):
        describing.describe_file(str(file))


@pytest.mark.parametrize("kind", ["Git LFS pointer", "web page", "pickle", "empty"])
def test_an_index_and_its_shards_are_identified_likewise(tmp_path, kind):
    index, shard = tmp_path / f"a{files.INDEX}", tmp_path / "a-00001.safetensors"
    index.write_text(json.dumps({"weight_map": {"a": shard.name}}))
    with pytest.raises(WeightsError, match=f"{shard.name}.* is missing"):
        describing.describe_file(str(index))
    shard.write_bytes(KINDS[kind])
    with pytest.raises(WeightsError, match=f"{shard.name}.*{kind}"):
        describing.describe_file(str(index))
    index.write_bytes(KINDS[kind])
    with pytest.raises(WeightsError, match=kind):
        describing.describe_file(str(index))


@pytest.mark.parametrize("length", [640, 896, 1152, 1408, 0x8B1F + 1])
def test_a_header_whose_length_begins_as_a_pickle_does_is_read(tmp_path, length):
    save_file({"a": torch.ones(1)}, tmp_path / "some.safetensors", metadata={"padding": ""})
    spare = length - int.from_bytes((tmp_path / "some.safetensors").read_bytes()[:8], "little")
    save_file({"a": torch.ones(1)}, tmp_path / "some.safetensors", metadata={"padding": "x" * spare})
    start = (tmp_path / "some.safetensors").read_bytes()[:8]
    assert int.from_bytes(start, "little") == length
    assert list(files.read_header(tmp_path / "some.safetensors").tensors) == ["a"]


def test_a_file_given_by_path_says_what_differs_from_its_architecture(file):
    described = describing.describe_file(str(file))
    assert described.tag == "some"
    assert described.arguments == {"classes": 5}
    assert described.input is None


def test_a_header_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "deep.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"zoo": "[" * 100_000})
    with pytest.raises(WeightsError, match="header"):
        describing.describe_file(str(path))


@pytest.mark.parametrize(
    "said", ["{", "[1]", '{"input": {"colour": 1}}', '{"outputs": 5}', '{"input": {"frames": 4, "size": 64}}']
)
def test_a_header_with_nonsense_is_refused(tmp_path, said):
    path = tmp_path / "odd.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"zoo": said})
    with pytest.raises(WeightsError, match="header"):
        describing.describe_file(str(path))
