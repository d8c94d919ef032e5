"""An independent server of the Hub's protocol, olah, serves what `zoo push` would have put there.

It wants an environment of its own: `python -m venv olah && olah/bin/pip install olah==0.5.4`, git-lfs, and the path of
its command in ZOO_TEST_OLAH.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.request
from textwrap import dedent

import pytest
import torch

import zoo
from zoo.errors import WeightsError
from zoo.publishing import pushing
from zoo.weights import hub, places

OLAH = os.environ.get("ZOO_TEST_OLAH") or shutil.which("olah-cli")

pytestmark = pytest.mark.skipif(
    not (OLAH and shutil.which("git-lfs")), reason="needs olah-cli (ZOO_TEST_OLAH) and git-lfs"
)


def git(folder, *arguments):
    settings = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def olah(tmp_path, monkeypatch):
    """A server with one repository; the commit in it."""
    folder = tmp_path / "mirrors" / "models" / "org" / "conv3d"
    folder.mkdir(parents=True)
    for name, data in pushing._bundle("conv3d", "default", None, None).content.items():
        (folder / name).write_bytes(data)
    git(folder, "init", "-b", "main")
    git(folder, "lfs", "install", "--local")
    git(folder, "lfs", "track", "*.safetensors")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "pushed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "olah.toml"
    config.write_text(
        dedent(f"""
        [basic]
        host = "127.0.0.1"
        port = {port}
        repos-path = "{tmp_path}/repos"
        mirrors-path = ["{tmp_path}/mirrors"]
        [accessibility]
        offline = true
        """)
    )
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([OLAH, "-c", config, "--log-path", tmp_path / "logs"], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                except urllib.error.HTTPError:
                    break
                except OSError:
                    time.perf_counter()
                else:
                    break
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
            yield git(folder, "rev-parse", "HEAD")
        finally:
            server.terminate()
            server.wait(30)


def test_another_server_serves_a_pinned_model(olah, monkeypatch):
    name = f"hub:org/conv3d@{olah}"
    loaded, known = zoo.load(name), zoo.load("conv3d")
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in known.state_dict().items())
    assert zoo.verify(name).passed
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # whatever is here is not asked for
    assert zoo.load(name).zoo_load_report.sha256 == known.zoo_load_report.sha256


@pytest.mark.parametrize("place", ["org/conv3d@{}:missing.safetensors", "org/none@{}:model.safetensors"])
def test_what_another_server_does_not_have_is_told(olah, place):
    with pytest.raises(WeightsError, match="does not exist") as caught:
        hub.fetch(places.parse("hub:" + place.format(olah)))
    assert "\n" not in str(caught.value)
