"""Files of the Hub are pinned, fetched once, checked, and never loaded by half; every fault is one message."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save, save_file

import zoo
from zoo.errors import OutputError, UnknownNameError, UsageError, WeightsError
from zoo.registry import catalog
from zoo.weights import caches, describing, downloads, files, hub, obtaining, places, transfer

REPO = "org/tiny"


@pytest.fixture
def published(hub_server, installed, tiny, monkeypatch):
    """The model `tiny` with weights on the Hub: its weights entry, and the tensors."""
    installed.add("plain", tiny)
    installed.use(monkeypatch)
    torch.manual_seed(5)
    tensors = {
        name: torch.randn_like(value) if value.is_floating_point() else value
        for name, value in zoo.load("tiny", weights=None).state_dict().items()
    }
    data = save(tensors, metadata={"padding": "x" * 40_000})
    revision = hub_server.add(REPO, {"tiny.safetensors": data})
    digest = hashlib.sha256(data).hexdigest()
    source = f"hub:{REPO}@{revision}:tiny.safetensors"
    weights = f"WeightsEntry(tag='theirs', source={source!r}, bytes={len(data)}, sha256={digest!r})"
    installed.add("some", tiny.replace("entry()", f"entry('netted', weights=({weights},))"))
    installed.use(monkeypatch)
    return zoo.info("netted.theirs").weights[0], tensors


def stored():
    """Files in the cache, without the partial file that a later run resumes."""
    return [path for path in caches.hub_cache().rglob("*") if path.is_file() and path.suffix != ".part"]


def blob(weights):
    return obtaining.locate(weights.source).resolve()


def test_it_is_fetched_once_and_then_needs_no_network(published, hub_server):
    weights, tensors = published
    assert hub.find(weights) is None
    model = zoo.load("netted")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in tensors.items())
    assert model.zoo_load_report.sha256 == weights.sha256
    asked = len(hub_server.asked)
    assert asked > 0
    for offline in (False, True):
        again = zoo.load("netted", offline=offline)
        assert torch.equal(again.state_dict()["0.weight"], tensors["0.weight"])
    assert len(hub_server.asked) == asked
    assert hub.find(weights).source == str(obtaining.locate(weights.source))
    assert zoo.verify("netted").passed


def test_looking_for_a_cached_file_imports_neither_torch_nor_an_http_client(published):
    weights, _ = published
    hub.obtain(weights)
    code = (
        f"from zoo import entries; from zoo.weights import hub; w = entries.WeightsEntry(tag='a', "
        f"source={weights.source!r}, "
        f"bytes={weights.bytes}, sha256={weights.sha256!r}); assert hub.obtain(w, offline=True); "
        "import sys; assert not {'torch', 'huggingface_hub.file_download', 'httpx', 'httpx2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_cache_is_that_of_the_library_in_both_directions(published, hub_server):
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    weights, _ = published
    place = places.parse(weights.source)
    asked = {"repo_id": place.repo, "filename": place.file, "revision": place.revision, "cache_dir": caches.hub_cache()}
    found = hub.obtain(weights).source
    assert try_to_load_from_cache(**asked) == found
    assert hf_hub_download(**asked, local_files_only=True) == found
    shutil.rmtree(caches.hub_cache())
    assert hf_hub_download(**asked, endpoint=hub_server.url) == found
    asked = len(hub_server.asked)
    assert hub.obtain(weights).source == found
    assert len(hub_server.asked) == asked


@pytest.mark.parametrize("how", ["argument", "ZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked_for(published, hub_server, monkeypatch, how):
    if how != "argument":
        monkeypatch.setenv(how, "1")
    with pytest.raises(WeightsError, match="may not be fetched \\(offline\\)"):
        hub.obtain(published[0], offline=how == "argument")
    assert not hub_server.asked


@pytest.mark.parametrize(
    "source",
    [
        f"hub:{REPO}@main:tiny.safetensors",
        f"hub:{REPO}:tiny.safetensors",
        f"hub:{REPO}@abc123:tiny.safetensors",
        f"hub:{REPO}@{'A' * 40}:tiny.safetensors",
        f"hub:{REPO}@{'a' * 40}:../../evil.safetensors",
        f"hub:{REPO}@{'a' * 40}:/etc/passwd",
        f"hub:{REPO}@{'a' * 40}:a//b",
        f"hub:../..@{'a' * 40}:x",
        f"hub:a..b/c@{'a' * 40}:x",
        f"hub:a--b/c@{'a' * 40}:x",
        f"hub:{REPO}@{'a' * 40}:a/../b",
        f"hub:{REPO}@{'a' * 40}:a\\..\\b",
        f"hub:{REPO}@{'a' * 40}:a\nb",
        f"hub:{REPO}@{'a' * 40}:a\0b",
        f"hub:tiny@{'a' * 40}:x",
        f"hub:{REPO}@{'a' * 40}:",
        "hub:",
    ],
)
def test_what_is_not_pinned_or_leaves_the_cache_is_refused(source):
    with pytest.raises(UsageError, match=r"pinned|names nothing on the Hub|no name of a file"):
        places.parse(source)
    weights = zoo.WeightsEntry(tag="a", source=source, bytes=1, sha256="0" * 64)
    entry = zoo.info("conv3d")
    with pytest.raises(ValueError, match="hub:"):
        catalog.validate(dataclasses.replace(entry, weights=(weights,)))


def test_a_changed_cached_file_is_fetched_again(published, hub_server):
    weights, tensors = published
    hub.obtain(weights)
    whole = blob(weights).read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:100], b""):
        blob(weights).write_bytes(damaged)
        assert hub.find(weights) is None
        model = zoo.load("netted")
        assert torch.equal(model.state_dict()["0.weight"], tensors["0.weight"])
        assert blob(weights).read_bytes() == whole


def test_a_changed_cached_file_is_named_offline(published):
    weights, _ = published
    hub.obtain(weights)
    content = blob(weights).read_bytes()
    blob(weights).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"sha256 .* the file was changed"):
        zoo.load("netted", offline=True)


def expect(weights, said, error=WeightsError, **options):
    """One message on one line, and nothing in the cache that could be loaded."""
    with pytest.raises(error, match=said) as caught:
        hub.obtain(weights, **options)
    assert "\n" not in str(caught.value)
    assert type(caught.value.__cause__).__module__ in ("builtins", "zoo.errors")  # a library's could hold a token
    assert not stored()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "", r"does not exist at http://127.* or is private: .*--token"),
        (404, "RepoNotFound", "does not exist at .* or is private"),
        (404, "RevisionNotFound", "no such commit"),
        (404, "EntryNotFound", "no such file at this commit"),
        (403, "GatedRepo", "is gated: ask for access on its page"),
        (403, "", "is forbidden at .*the token may not do this"),
        (429, "", "too many requests .*try again in 7 seconds"),
        (500, "", "answers 500; try again later"),
        (503, "", "answers 503"),
    ],
)
def test_answers_of_the_server_are_told(published, hub_server, fault, status, code, said):
    headers = {"X-Error-Code": code, "Retry-After": "7", "X-Repo-Commit": "a" * 40}
    hub_server.faults = [fault("GET .*resolve", status=status, headers=headers)]
    expect(published[0], said)


def test_passing_faults_are_got_over(published, hub_server, fault):
    hub_server.faults = [fault("GET .*resolve", times=2, status=503), fault("GET .*resolve", times=1, status=429)]
    assert hub.obtain(published[0])


def test_a_broken_connection_is_gone_on_with(published, hub_server, fault):
    weights, tensors = published
    hub_server.faults = [fault("GET .*resolve", times=2, breaks=10_000)]
    model = zoo.load("netted")
    assert torch.equal(model.state_dict()["0.weight"], tensors["0.weight"])
    assert hub_server.sent < weights.bytes + 10_000  # what had come was not sent again


def test_a_connection_that_always_breaks_is_told(published, hub_server, fault):
    hub_server.faults = [fault("GET .*resolve", breaks=0)]
    expect(published[0], "could not be transferred: http://127.*check the network")


def test_a_truncated_body_is_told(published, hub_server, fault):
    hub_server.faults = [fault("GET .*resolve", changed=lambda data: data[:500])]
    expect(published[0], "does not have the content that its ETag")


@pytest.mark.parametrize("changed", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: bytes(len(data))])
def test_another_content_of_the_same_length_is_told(published, hub_server, fault, changed):
    hub_server.faults = [fault("GET .*resolve", changed=changed)]
    expect(published[0], "does not have the content that its ETag")


def test_a_dead_network_is_told(published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    expect(published[0], "could not be transferred: http://127.0.0.1:1: .*refused")


@pytest.mark.parametrize(
    "address", ["file:///etc", "http://", "https:// x", "http://a b", "http://a:port", "http:///x"]
)
def test_an_endpoint_is_an_address(published, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    expect(published[0], re.escape(f"HF_ENDPOINT is '{address}'"), UsageError)


@pytest.mark.parametrize(
    "address", ["http://host", "https://a.b-c:8080/mirror/", "http://[::1]:80", "http://me:secret@127.0.0.1:1"]
)
def test_an_endpoint_may_be_a_mirror(monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert transfer.endpoint() == address.rstrip("/")


def test_a_server_that_begins_to_listen_is_waited_for(published, hub_server, monkeypatch):
    tried = []
    connect = socket.create_connection

    def late(*args, **options):
        tried.append(args)
        if len(tried) < 3:
            raise ConnectionRefusedError("refused")
        return connect(*args, **options)

    monkeypatch.setattr(transfer, "_PATIENCE", 60.0)
    monkeypatch.setattr(transfer, "_PAUSE", 0.0)
    monkeypatch.setattr(socket, "create_connection", late)
    assert hub.obtain(published[0])
    assert len(tried) >= 3


@pytest.mark.parametrize("address", ["http://no.such.host.invalid", "http://127.0.0.1:99999"])
def test_an_address_that_nobody_has_is_told(published, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    expect(published[0], f"could not be transferred: {address}: .*check the network")


def test_behind_a_proxy_the_library_asks(monkeypatch):
    def never(*args, **options):
        raise AssertionError("asked without the proxy")

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(socket, "create_connection", never)
    transfer.reach("http://huggingface.co")
    monkeypatch.setenv("no_proxy", "huggingface.co")
    with pytest.raises(AssertionError):
        transfer.reach("http://huggingface.co")


def linked(link, target):
    """What is at `link` becomes a symbolic link."""
    if link.is_dir():
        shutil.rmtree(link)
    else:
        link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("planted", ["file", "blob", "snapshot", "snapshots", "blobs", "repository"])
def test_a_link_out_of_the_cache_is_not_followed(published, hub_server, tmp_path, planted, damaged):
    """What it leads to is neither loaded, though its content be right, nor deleted, where it is wrong, nor replaced."""
    weights, _ = published
    path = Path(hub.obtain(weights).source)
    repository = path.parents[2]
    places = {"file": path, "blob": path.resolve(), "snapshot": path.parent, "repository": repository}
    link = places.get(planted, repository / planted)
    outside = tmp_path / "mine"
    if link.is_dir():
        shutil.copytree(link, outside, symlinks=planted == "repository")
    else:
        shutil.copy(link, outside)
    linked(link, outside)
    there = [one for one in (outside, *outside.rglob("*")) if one.is_file() and not one.is_symlink()]
    for one in there if damaged else ():
        one.write_bytes(b"mine, and of the same name")
    before = {one: one.read_bytes() for one in there}
    asked = len(hub_server.asked)
    assert hub.find(weights) is None
    with pytest.raises(WeightsError, match="is a link out of the cache and is not followed"):
        hub.obtain(weights)
    hub.forget(path)
    assert {one: one.read_bytes() for one in there} == before
    assert len(hub_server.asked) == asked


def test_links_in_a_circle_are_told(published):
    weights, _ = published
    path = Path(hub.obtain(weights).source)
    linked(path, path.with_name("other"))
    path.with_name("other").symlink_to(path)
    with pytest.raises(WeightsError, match="is a link out of the cache"):
        hub.obtain(weights)


@pytest.mark.parametrize("size", [10, 5000])
def test_files_without_a_checksum_have_the_content_that_the_hub_named(hub_server, size):
    data = b"x" * size
    place = places.Place(REPO, hub_server.add(REPO, {"some.json": data}), "some.json")
    path = hub.fetch(place)
    asked = len(hub_server.asked)
    assert hub.fetch(place) == path
    assert len(hub_server.asked) == asked
    path.resolve().write_bytes(b"y" * size)
    with pytest.raises(WeightsError, match=r"changed or damaged .*load it once with a network"):
        hub.fetch(place, offline=True)
    assert hub.fetch(place).read_bytes() == data


def test_a_file_that_comes_damaged_and_has_no_checksum_is_told(hub_server, fault):
    place = places.Place(REPO, hub_server.add(REPO, {"some.json": b"x" * 50}), "some.json")
    hub_server.faults = [fault("GET .*resolve", changed=lambda data: b"y" * len(data))]
    with pytest.raises(WeightsError, match=r"from http://127.* does not have the content that its ETag"):
        hub.fetch(place)
    assert not stored()


def test_a_full_disk_is_told(published, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads, "_opened", lambda part, mode: Full() if part.touch() is None else None)
    expect(published[0], "cannot write .*No space left on device; free some space", OutputError)
    assert not list(caches.hub_cache().rglob("*.part"))


def started(weights):
    """A process that obtains them."""
    code = (
        "from zoo import entries; from zoo.weights import hub; hub.obtain(entries.WeightsEntry(tag='a', "
        f"source={weights.source!r}, "
        f"bytes={weights.bytes}, sha256={weights.sha256!r}))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def test_two_processes_fetch_the_same_file_at_once(published, hub_server, fault):
    weights, _ = published
    hub_server.faults = [fault("GET .*resolve", waits=0.5)]
    with started(weights) as one, started(weights) as other:
        assert (one.wait(60), other.wait(60)) == (0, 0)
    assert hub.find(weights) is not None
    assert len([path for path in stored() if "blobs" in path.parts]) == 1


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_in_the_middle_leaves_nothing_that_is_loaded(published, hub_server, fault, ended):
    weights, tensors = published
    hub_server.faults = [fault("GET .*resolve", times=1, waits=20.0)]
    with started(weights) as process:
        assert hub_server.waiting.wait(60)
        process.send_signal(ended)
        process.wait(60)
    assert hub.find(weights) is None
    with pytest.raises(WeightsError, match="offline"):
        zoo.load("netted", offline=True)
    assert torch.equal(zoo.load("netted").state_dict()["0.weight"], tensors["0.weight"])


def test_a_private_repository_needs_its_token_and_the_token_is_never_shown(hub_server, published, monkeypatch, caplog):
    weights, _ = published
    hub_server.repositories[REPO].private = True
    (secret,) = hub_server.tokens
    for token in (None, "hf_wrongwrongwrong", "odd token\nwith a break"):
        with pytest.raises(zoo.ZooError) as caught:
            hub.obtain(weights, token=token)
        assert token is None or token.strip() not in str(caught.value)
        assert "hf_" not in str(caught.value) + caplog.text
    assert hub.obtain(weights, token=secret)
    hub.forget(obtaining.locate(weights.source))
    monkeypatch.setenv("HF_TOKEN", secret)
    assert hub.obtain(weights)
    assert f"Bearer {secret}" in hub_server.authorizations


@pytest.mark.parametrize("command", ["info", "verify"])
def test_commands_take_a_token_and_stay_offline(hub_server, published, monkeypatch, capsys, command):
    from zoo.cli import main

    data = save(published[1])
    listed = {"tag": "a", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    golden = save({"input": torch.zeros(1, 1, 4, 8, 8), "shape": torch.zeros(1, 3)})
    content = {
        "config.json": json.dumps({**CONFIG, "parameters": 69, "weights": listed}).encode(),
        "model.safetensors": data,
        "golden.safetensors": golden,
    }
    revision = hub_server.add("org/closed", content)
    hub_server.repositories["org/closed"].private = True

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["zoo", command, f"hub:org/closed@{revision}", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, "".join(capsys.readouterr())

    assert "may not be fetched" in run("--offline")[1]
    assert not hub_server.asked
    assert "is private" in run()[1]
    code, said = run("--token", *hub_server.tokens)
    assert code == (1 if command == "verify" else 0)  # the golden outputs are other ones
    assert "largest difference" in said or command == "info"


def test_a_token_that_a_server_repeats_is_not_shown(published, hub_server, fault):
    (secret,) = hub_server.tokens
    body = json.dumps({"error": f"no {secret}"}).encode()
    headers = {"X-Error-Message": f"no {secret}"}
    hub_server.faults = [fault("GET", status=418, headers=headers, body=body)]
    with pytest.raises(WeightsError) as caught:
        hub.obtain(published[0], token=secret)
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_credentials_in_an_endpoint_are_not_shown(published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://me:password@127.0.0.1:1")
    with pytest.raises(WeightsError) as caught:
        hub.obtain(published[0])
    assert "password" not in str(caught.value)


def test_shards_are_fetched_and_checked_together(hub_server, published, tmp_path):
    _, tensors = published
    names = {name: f"part-{int(name.startswith('5'))}.safetensors" for name in tensors}
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in set(names.values()):
        save_file({name: tensors[name] for name, where in names.items() if where == shard}, folder / shard)
    index = folder / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    revision = hub_server.add(REPO, {f"deep/{path.name}": path.read_bytes() for path in folder.iterdir()})
    described = describing.describe_file(str(index))
    weights = dataclasses.replace(described, source=f"hub:{REPO}@{revision}:deep/{index.name}", record=None)
    local = hub.obtain(weights)
    assert set(files.map_tensors(Path(local.source))) == set(tensors)
    blob(dataclasses.replace(weights, source=weights.source.replace(index.name, "part-1.safetensors"))).write_bytes(b"")
    assert hub.find(weights) is None
    hub.obtain(weights)
    assert hub.find(weights) is not None


CONFIG = {"format": 1, "architecture": "tiny", "distribution": "dist-plain", "arguments": {"classes": 3},
          "weights": {"tag": "a", "bytes": 0, "sha256": "0" * 64}}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format 1"),
        ({"weights": {}}, "KeyError: 'tag'"),
        ({"weights": {"tag": "../x", "bytes": 1, "sha256": "0"}}, "is no tag"),
        ({"weights": {"tag": "<b>", "bytes": 1, "sha256": "0"}}, "is no tag"),
        ({"outputs": 5}, "not what `zoo push` writes"),
        ({"input": {"frames": -1, "size": [1, 1]}}, "positive integers"),
        ({"arguments": [1]}, "not what `zoo push` writes"),
        ({"input": {"frames": 1, "size": [1, 1], "mean": ["a"]}}, "mean is a tuple of finite numbers"),
        ({"input": {"frames": 1, "size": [1, 1], "std": [float("inf")]}}, "std is a tuple of finite numbers"),
        ({"input": {"frames": 1, "size": [1, 1], "range": [None, 1]}}, "range is a tuple of 2 finite numbers"),
        ({"input": {"frames": 1, "size": [1, 1], "short_side": 2**40}}, "at most 16,384 pixels a side"),
        ({"outputs": [{"name": []}]}, "name is a text"),
        ({"outputs": [{"labels": [1]}]}, "labels is a tuple of texts"),
        ({"parameters": float("inf")}, "OverflowError"),
    ],
)
def test_a_configuration_with_nonsense_is_refused(hub_server, published, change, said):
    revision = hub_server.add("org/odd", {"config.json": json.dumps({**CONFIG, **change}).encode()})
    with pytest.raises(WeightsError, match=said):
        zoo.load(f"hub:org/odd@{revision}")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * (2**20 + 1)])
def test_what_is_no_configuration_is_refused(hub_server, published, content):
    revision = hub_server.add("org/odd", {"config.json": content})
    with pytest.raises(WeightsError, match=r"not what `zoo push` writes|more than the 1,048,576 bytes"):
        zoo.load(f"hub:org/odd@{revision}")


def test_a_plugin_that_is_not_installed_is_named(hub_server, published):
    config = {**CONFIG, "distribution": "motion-zoo-missing"}
    revision = hub_server.add("org/other", {"config.json": json.dumps(config).encode()})
    with pytest.raises(UnknownNameError, match="not installed: pip install motion-zoo-missing"):
        zoo.load(f"hub:org/other@{revision}")


def test_a_repository_without_a_configuration_is_told(published, hub_server):
    revision = hub_server.repositories[REPO].commits[0][0]
    with pytest.raises(WeightsError, match=r"config\.json does not exist"):
        zoo.load(f"hub:{REPO}@{revision}")


def test_a_pickle_on_the_hub_is_not_opened(hub_server, published, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    data = pickle.dumps(Evil())
    weights = {"tag": "a", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    config = json.dumps({**CONFIG, "weights": weights}).encode()
    revision = hub_server.add("org/evil", {"config.json": config, "model.safetensors": data})
    with pytest.raises(WeightsError, match="pickle"):
        zoo.load(f"hub:org/evil@{revision}")
    assert not (tmp_path / "ran").exists()


def test_foreign_files_and_those_of_the_hub_are_forbidden_by_the_same_word(monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert transfer.is_hub_offline()
    assert transfer.is_offline()
    monkeypatch.setenv("ZOO_OFFLINE", "0")
    assert not transfer.is_hub_offline()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"distribution": "x; rm -rf ~"}, "is no name of a distribution"),
        ({"distribution": "--index-url=http://evil"}, "is no name of a distribution"),
        ({"architecture": "tiny\nerror: fine"}, "is no name of a model"),
        ({"input": {"frames": 1, "size": [1, 1], "a\nerror: fine\x1b[2J": 1}}, r"argument 'a error: fine\\x1b\[2J'"),
        ({"input": {"frames": 1, "size": [1, 1], "channels": "other", "other_channels": 2**40}}, "at most .* pixels"),
        (
            {"input": {"frames": 1, "size": [1, 1], "channels": "other", "other_channels": 1.5}},
            "other_channels is a whole number",
        ),
        ({"input": {"frames": True, "size": [1, 1]}}, "frames is a whole number"),
    ],
)
def test_a_configuration_puts_nothing_into_messages_or_memory(hub_server, published, change, said):
    revision = hub_server.add("org/odd", {"config.json": json.dumps({**CONFIG, **change}).encode()})
    with pytest.raises(WeightsError, match=said):
        zoo.info(f"hub:org/odd@{revision}")


@pytest.mark.parametrize("metric", [{"value": "0.9"}, {"value": float("nan")}, {"value": 1, "dataset": ["d"]}])
def test_metrics_of_a_configuration_are_texts_and_numbers(hub_server, published, metric):
    said = {**CONFIG["weights"], "metrics": [{"dataset": "d", "split": "s", "name": "n", **metric}]}
    revision = hub_server.add("org/odd", {"config.json": json.dumps({**CONFIG, "weights": said}).encode()})
    with pytest.raises(WeightsError, match=r"is a (finite number|text)"):
        zoo.info(f"hub:org/odd@{revision}")


def test_what_the_library_of_the_hub_logs_holds_no_token(published, hub_server, fault, monkeypatch, caplog, capfd):
    (secret,) = hub_server.tokens
    headers = {"X-HF-Warning": f"topic; you sent {secret}"}
    hub_server.faults = [fault("GET", times=1, status=404, headers=headers)]
    monkeypatch.setenv("HF_ENDPOINT", hub_server.url.replace("//", "//me:password@"))
    with pytest.raises(WeightsError):
        hub.obtain(published[0], token=secret)
    said = caplog.text + "".join(capfd.readouterr())
    assert "you sent ***" in said
    assert secret not in said
    assert "password" not in said


OUTSIDE = ["/OUTSIDE/x.pth", "../../../../../x.pth", "..%2f..%2f..%2fx.pth", "x" * 5000, "..\\..\\x.pth", "", "a\0b"]


def everything(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("method", ["GET", "HEAD", "GET|HEAD"])
@pytest.mark.parametrize("header", ["ETag", "X-Linked-Etag", "X-Repo-Commit"])
@pytest.mark.parametrize("value", OUTSIDE)
def test_no_header_of_a_server_names_a_file(published, hub_server, fault, tmp_path, header, value, method, monkeypatch):
    weights, _ = published
    value = value.replace("/OUTSIDE", str(tmp_path)).replace("\0", "\x01")
    hub_server.faults = [fault(f"({method}) .*resolve", lies={header: value})]
    before = everything(tmp_path)
    if "GET" not in method or (header == "X-Linked-Etag" and not value):
        assert hub.obtain(weights)  # nothing asks for HEAD
    else:
        expect(weights, "gave another commit|does not have the content that its ETag|could not be transferred")
    assert all(path.is_relative_to(caches.hub_cache()) for path in everything(tmp_path) - before)
    assert not list(Path.cwd().glob("*x.pth"))


def test_a_header_that_names_a_file_ends_a_command_with_one_line(published, hub_server, fault, monkeypatch, capsys):
    from zoo.cli import main

    revision = hub_server.add("org/any", {"config.json": b"{}"})
    headers = {"ETag": "/etc/\x1b[31mx", "X-HF-Warning": "topic; \x1b]0;OWNED\x07\x1b[31mserver"}
    hub_server.faults = [fault("GET .*resolve", lies=headers)]
    monkeypatch.setattr(sys, "argv", ["zoo", "load", f"hub:org/any@{revision}"])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert shown.err.isprintable() or shown.err.rstrip("\n").isprintable()
    assert not stored()


def test_a_warning_of_the_server_is_shown_as_text(published, hub_server, fault, monkeypatch, capfd, caplog):
    from zoo.cli import main

    revision = hub_server.add("org/any", {"config.json": b"{}"})
    headers = {"X-HF-Warning": "another topic; \x1b]0;OWNED\x07\x1b[31mserver"}
    hub_server.faults = [fault("GET .*resolve", status=404, headers=headers)]
    monkeypatch.setattr(sys, "argv", ["zoo", "info", f"hub:org/any@{revision}"])
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with pytest.raises(SystemExit):
        main()
    shown = capfd.readouterr().err + caplog.text
    assert "OWNED" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_a_suggested_file_name_is_ignored(published, hub_server, fault, tmp_path):
    hub_server.faults = [fault("GET .*resolve", lies={"Content-Disposition": 'attachment; filename="../../x"'})]
    hub.obtain(published[0])
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//[", "data:,x", "http://127.0.0.1:x/"])
def test_a_redirect_stays_with_http(published, hub_server, fault, target):
    hub_server.faults = [fault("GET .*resolve", status=302, headers={"Location": target})]
    expect(published[0], "could not be transferred|redirects to")


def test_redirects_without_end_are_given_up(published, hub_server, fault):
    hub_server.faults = [fault("GET .*resolve", status=302, headers={"Location": "?again"})]
    expect(published[0], "more than 10 redirects")


def test_a_token_stays_with_the_hub(published, hub_server, fault, storage):
    weights, _ = published
    place = places.parse(weights.source)
    data = hub_server.repositories[REPO].at(place.revision)[1][place.file]
    revision = storage.add(REPO, {place.file: data})
    headers = {
        "Location": f"{storage.url}/{REPO}/resolve/{revision}/{place.file}",
        "X-Repo-Commit": place.revision,
        "X-Linked-Etag": hashlib.sha256(data).hexdigest(),
    }
    hub_server.faults = [fault("GET .*resolve", status=302, headers=headers)]
    (secret,) = hub_server.tokens
    assert hub.obtain(weights, token=secret)
    assert f"Bearer {secret}" in hub_server.authorizations
    assert storage.authorizations == {None}


def test_a_body_without_end_is_cut(published, hub_server, fault):
    hub_server.faults = [fault("GET .*resolve", endless=True)]
    expect(published[0], f"sends more than the {published[0].bytes:,} bytes")
    assert hub_server.sent < 2**22


def test_a_longer_body_than_the_entry_says_is_not_begun(published, hub_server, fault):
    weights, _ = published
    expect(dataclasses.replace(weights, bytes=weights.bytes - 1), "sends more than")


def test_a_slow_server_is_given_up(published, hub_server, fault, monkeypatch):
    seconds = itertools.count(step=30.0)
    monkeypatch.setattr(downloads, "LEAST_RATE", 10_000.0)
    monkeypatch.setattr(downloads.time, "monotonic", lambda: next(seconds))
    weights, _ = published
    hub_server.faults = [fault("GET .*resolve", waits=0.3)]
    expect(weights, "could not be transferred: .*less than 10,000 a second")


@pytest.mark.parametrize("header", [{"Retry-After": "100000"}, {"RateLimit": '"resolvers";r=0;t=100000'},
                                    {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}])  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_too_long_a_wait_is_not_waited_for(published, hub_server, fault, header, status):
    hub_server.faults = [fault("GET .*resolve", status=status, headers=header)]
    expect(published[0], "asks to wait [0-9,]{7,} seconds")
    assert hub_server.count("GET .*resolve") == 1


@pytest.mark.parametrize("where", ["argument", "HF_TOKEN", "file"])
def test_a_token_of_any_form_is_redacted(published, hub_server, fault, monkeypatch, tmp_path, where):
    secret = "api_org_9a8b7c6d5e"
    hub_server.tokens = {secret}
    if where == "HF_TOKEN":
        monkeypatch.setenv("HF_TOKEN", secret)
    if where == "file":
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        (tmp_path / "token").write_text(secret)
    body = json.dumps({"error": f"no {secret}"}).encode()
    hub_server.faults = [fault("GET", status=302, headers={"Location": f"ftp://{secret}"}, body=body)]
    with pytest.raises(WeightsError) as caught:
        hub.obtain(published[0], token=secret if where == "argument" else None)
    assert f"Bearer {secret}" in hub_server.authorizations
    assert secret not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("token", ["hf_abc\n", "hf_a bc", "hf_äbc"])
def test_a_token_with_what_no_token_holds_is_refused(published, token):
    with pytest.raises(UsageError, match="the token holds") as caught:
        hub.obtain(published[0], token=token)
    assert token.strip() not in str(caught.value)


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_download_leaves_one_partial_file_that_is_resumed(published, hub_server, fault, ended):
    weights, _ = published
    for _ in range(2):
        hub_server.waiting.clear()
        hub_server.faults = [fault("GET .*resolve", times=1, waits=20.0)]
        with started(weights) as process:
            assert hub_server.waiting.wait(60)
            until = time.monotonic() + 10
            while (
                not sum(path.stat().st_size for path in caches.hub_cache().rglob("*.part")) and time.monotonic() < until
            ):
                time.sleep(0.02)
            process.send_signal(ended)
            process.wait(60)
        (part,) = caches.hub_cache().rglob("*.part")
        assert 0 < part.stat().st_size < weights.bytes
    sent = hub_server.sent
    hub_server.faults = []
    assert hub.obtain(weights)
    assert hub_server.sent - sent < weights.bytes
    assert not list(caches.hub_cache().rglob("*.part*"))
