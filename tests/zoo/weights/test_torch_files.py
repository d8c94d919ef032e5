"""Weights that others publish are fetched once, checked and converted, or nothing is left of them."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import filelock
import platformdirs
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import zoo
from zoo import cli
from zoo.errors import OutputError, UsageError, WeightsError
from zoo.models import verification
from zoo.registry import catalog, resolving
from zoo.weights import caches, describing, downloads, torch_files, transfer


class Server:
    """A server on loopback with one file, which can break connections and answer in other ways."""

    lengths = True

    def __init__(self):
        self.content = b""
        self.status = None
        self.breaks = []  # bytes after which each of the next connections breaks
        self.parts = True
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                given = self.headers.get("Range")
                outer.asked.append((self.path, given))
                if outer.status is not None:
                    self.send_error(outer.status)
                    return
                start = int(given.removeprefix("bytes=").removesuffix("-")) if given and outer.parts else 0
                body = outer.content[start:]
                self.send_response(206 if start else 200)
                if outer.lengths:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: outer.breaks.pop(0)] if outer.breaks else body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture
def published(server, installed, tiny, monkeypatch, tmp_path):
    """A model `tiny` whose weights lie on the server: its entry, and what the file holds."""
    namespace = {"__name__": "made"}
    exec(dedent(tiny), namespace)
    torch.manual_seed(3)
    state = dict(namespace["build"]().state_dict())
    del state["1.num_batches_tracked"]  # files of older torch lack it
    server.content = saved(
        {("old.bias" if name == "0.bias" else name): state[name] for name in state} | {"aux.weight": torch.ones(2)}
    )
    digest = hashlib.sha256(server.content).hexdigest()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setenv(torch_files.MIRROR, f"{server.address}/mirror/")
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    url = f"https://weights.example/models/tiny-{digest[:8]}.pth"
    source = tiny.replace(
        "return [entry()]",
        f"return [entry(weights=(WeightsEntry(tag='theirs', source={url!r}, bytes={len(server.content)}, "
        f"sha256={digest[:8]!r}, left=('aux.',), renamed=(('old.', '0.'),)),))]",
    )
    installed.add("some", source)
    installed.use(monkeypatch)
    return zoo.info("tiny.theirs").weights[0], state


def left_behind(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != "sha256.json"]


def test_it_is_fetched_and_converted_once(published, server, tmp_path):
    weights, state = published
    assert torch_files.find(weights) is None
    model = zoo.load("tiny")
    assert server.asked == [(f"/mirror/models/tiny-{weights.sha256}.pth", None)]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in state.items())
    report = model.zoo_load_report
    assert report.initialised_names == ("1.num_batches_tracked",)
    assert (report.tag, report.bytes) == ("theirs", Path(report.file).stat().st_size)
    assert report.sha256 == hashlib.sha256(Path(report.file).read_bytes()).hexdigest()
    again = zoo.load("tiny", offline=True)
    assert torch.equal(again.state_dict()["0.weight"], state["0.weight"])
    assert len(server.asked) == 1
    assert zoo.verify("tiny").passed
    assert sorted(path.suffix for path in left_behind(tmp_path)) == [".json", ".safetensors"]


def test_the_record_holds_the_checksum_of_what_was_published(published, server):
    weights, _ = published
    local = torch_files.obtain(weights)
    record = json.loads(Path(local.source).with_suffix(".json").read_text())
    assert record["source_sha256"] == hashlib.sha256(server.content).hexdigest()
    assert (record["source"], record["sha256"]) == (weights.source, local.sha256)


def test_a_broken_connection_is_gone_on_with(published, server):
    weights, _ = published
    server.breaks = [700, 300]
    torch_files.obtain(weights)
    assert [given for _, given in server.asked] == [None, "bytes=700-", "bytes=1000-"]


def test_where_the_server_gives_no_parts_it_begins_again(published, server):
    weights, _ = published
    server.breaks, server.parts = [700], False
    torch_files.obtain(weights)
    assert len(server.asked) == 2


def expect(error, message, weights, tmp_path, **options):
    """One message on one line, and nothing half-written."""
    with pytest.raises(error, match=message) as caught:
        torch_files.obtain(weights, **options)
    assert "\n" not in str(caught.value)
    assert not left_behind(tmp_path)


def test_a_connection_that_always_breaks_is_told(published, server, tmp_path):
    server.breaks = [10] * 9
    with pytest.raises(WeightsError, match=r"broke after 50 of .* put the file at"):
        torch_files.obtain(published[0])
    (part,) = left_behind(tmp_path)
    assert part.stat().st_size == 50
    server.breaks = []
    assert torch_files.obtain(published[0])
    assert server.asked[-1][1] == "bytes=50-"
    assert part not in left_behind(tmp_path)


@pytest.mark.parametrize("parts", [True, False])
def test_more_than_was_published_is_not_taken(published, server, tmp_path, monkeypatch, parts):
    monkeypatch.setattr(torch_files, "SLACK", 10)
    if parts:  # the length is not announced, and the body goes on
        monkeypatch.setattr(Server, "lengths", False)
    server.content += b"x" * 2**21
    expect(WeightsError, "sends more than the", published[0], tmp_path)


def test_what_was_taken_first_is_taken_from_then_on(published, server, tmp_path):
    """Eight digits are what the publisher gives; another file with the same eight is not accepted later."""
    weights, _ = published
    target = Path(torch_files.obtain(weights).source)
    record = target.with_suffix(".json")
    kept = json.loads(record.read_text())
    first = kept["source_sha256"]
    assert len(first) == 64
    record.write_text(json.dumps({**kept, "source_sha256": first[:8] + "0" * 56}))
    target.unlink()
    with pytest.raises(WeightsError, match=f"expected {first[:8]}0.*the digest of the file that was taken first"):
        torch_files.obtain(weights)
    record.write_text(json.dumps(kept))
    assert torch_files.obtain(weights)


def test_partial_files_of_ended_processes_are_swept(published, tmp_path):
    weights, _ = published
    folder = Path(caches.cache_folder()) / "weights"
    folder.mkdir(parents=True)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    old = folder / f".big.safetensors.{ended.stdout.strip()}.part"
    mine = folder / f".other.safetensors.{os.getpid()}.part"
    abandoned, fresh, held = (folder / f".{name}.safetensors.part" for name in ("abandoned", "fresh", "held"))
    for part in (old, mine, abandoned, fresh, held):
        part.write_bytes(b"x" * 100)
    for part in (abandoned, held):
        os.utime(part, (0, 0))
    with filelock.FileLock(f"{held}.lock"):
        torch_files.obtain(weights)
    assert sorted(path.name for path in folder.glob(".*.part")) == sorted(path.name for path in (mine, fresh, held))


def test_a_redirect_does_not_leave_an_encrypted_address():
    for target in ("http://a.example/x", "file:///x", "ftp://x", "//["):
        with pytest.raises(ConnectionError, match="redirects to"):
            downloads.check_redirect("https://a.example", target)
    downloads.check_redirect("https://a.example", "https://b.example/x")
    downloads.check_redirect("http://127.0.0.1", "http://b.example/x")


def test_a_missing_file_is_asked_for_once(published, server, tmp_path):
    server.status = 404
    expect(WeightsError, "cannot download http.*answers 404", published[0], tmp_path)
    assert len(server.asked) == 1


def test_a_dead_network_is_told(published, tmp_path, monkeypatch):
    monkeypatch.setenv(torch_files.MIRROR, "http://127.0.0.1:1")
    expect(WeightsError, "cannot download .*refused.*ZOO_MIRROR", published[0], tmp_path)


def test_damage_on_the_way_is_seen(published, server, tmp_path):
    server.content = server.content[:-1] + b"?"
    expect(WeightsError, "not the file that was published: its SHA-256 begins with", published[0], tmp_path)


def test_a_full_disk_is_told(published, tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads, "_opened", lambda part, mode: Full() if part.touch() is None else None)
    expect(OutputError, "No space left on device; free some space", published[0], tmp_path)


def test_a_disk_that_is_full_of_the_download_is_told(published, tmp_path, full_disk):
    expect(OutputError, "No space left", published[0], tmp_path)


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_offline_nothing_is_asked_for(published, server, tmp_path, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv(transfer.OFFLINE, "1")
    expect(WeightsError, "offline.*put it at", published[0], tmp_path, offline=how == "argument")
    assert not server.asked


def test_a_mirror_is_an_address(published, tmp_path, monkeypatch):
    monkeypatch.setenv(torch_files.MIRROR, "file:///etc")
    expect(UsageError, "ZOO_MIRROR is 'file:///etc'", published[0], tmp_path)


def test_what_torchvision_downloaded_is_taken(published, server, tmp_path):
    weights, _ = published
    theirs = tmp_path / "cache" / "torch" / "hub" / "checkpoints" / f"tiny-{weights.sha256}.pth"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(server.content)
    torch_files.obtain(weights, offline=True)
    assert theirs.is_file()
    assert not server.asked


def test_a_converted_file_that_was_changed_is_made_again(published, server):
    weights, _ = published
    path = Path(torch_files.obtain(weights).source)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert torch_files.find(weights) is None
    assert Path(torch_files.obtain(weights).source).read_bytes() == whole
    assert len(server.asked) == 2


@pytest.mark.parametrize("state", [[torch.ones(1)], {}, {"a": 1}])
def test_what_is_no_state_dictionary_is_refused(published, server, tmp_path, state):
    server.content = saved(state)
    digest = hashlib.sha256(server.content).hexdigest()
    expect(WeightsError, "holds no state dictionary", dataclasses.replace(published[0], sha256=digest), tmp_path)


def test_code_in_a_file_does_not_run(published, server, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    server.content = pickle.dumps(Evil())
    digest = hashlib.sha256(server.content).hexdigest()
    expect(WeightsError, "cannot be read as a state dict", dataclasses.replace(published[0], sha256=digest), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_entries_of_foreign_files_give_the_beginning_of_their_hash(published):
    entry = resolving.info("tiny")
    for wrong in ("", "abc", "g" * 8, "A" * 8):
        weights = dataclasses.replace(entry.weights[0], sha256=wrong)
        with pytest.raises(ValueError, match="8 to 64"):
            catalog.validate(dataclasses.replace(entry, weights=(weights,)))


def test_a_pattern_verifies_only_what_is_here(published, server):
    with pytest.raises(UsageError, match=r"no weights match .* on this machine"):
        verification.verify_all("tin*")
    assert not server.asked


def test_a_known_file_is_told_by_its_checksum(published, tmp_path):
    path = tmp_path / "found.safetensors"
    save_file({"a": torch.ones(3)}, path)
    spec = zoo.InputSpec(frames=2, size=(4, 4))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = zoo.WeightsEntry(tag="found", source="somewhere", bytes=path.stat().st_size, sha256=digest, input=spec)
    assert describing.describe_file(str(path), [known]) == dataclasses.replace(known, source=str(path))
    other = dataclasses.replace(known, sha256="0" * 64)
    assert describing.describe_file(str(path), [other]).input is None
    assert resolving.resolve("tiny", str(path))[1].input is None


def said(*arguments):
    done = CliRunner().invoke(cli.commands, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_commands_tell_what_would_be_downloaded(published):
    weights, _ = published
    assert json.loads(said("list", "--json"))[0]["to_download"] == {"theirs": weights.bytes}
    assert f"theirs (download, {weights.bytes / 2**20:.3g} MiB)" in said("list")
    assert f"downloaded on first use from {weights.source}" in said("info", "tiny")
    assert json.loads(said("info", "tiny", "--json"))["weights"][0]["to_download"] is True
    torch_files.obtain(weights)
    assert json.loads(said("list", "--json"))[0]["to_download"] == {}
    assert "download" not in said("list") + said("info", "tiny")
    assert json.loads(said("info", "tiny", "--json"))["weights"][0]["to_download"] is False


@pytest.mark.parametrize("folder", [None, "relative", "", "absolute"])
def test_the_cache_is_where_platformdirs_says(monkeypatch, tmp_path, folder):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if folder is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path) if folder == "absolute" else folder)
    assert caches.cache_folder() == platformdirs.user_cache_dir("motion-zoo")
