"""A Hub on loopback, a cache and a token of its own."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

from zoo.weights import transfer


def _load(name):
    spec = importlib.util.spec_from_file_location(f"hub_{name}", Path(__file__).with_name(f"{name}.py"))
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_server = _load("server")


@pytest.fixture(autouse=True)
def own_surroundings(monkeypatch, tmp_path):
    """No cache, token or setting of the user's; no uploads that pass by the server; no long waits."""
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "ZOO_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(transfer, "_PATIENCE", 0.1)
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.03)))  # between attempts


@pytest.fixture
def hub_server(monkeypatch):
    from huggingface_hub import constants

    server = _server.Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    # The library reads the variable when it is imported, and its older releases parse the address of a commit by that.
    template = server.url + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    yield server
    server.close()


@pytest.fixture
def fault():
    return _server.Fault


@pytest.fixture
def storage():
    """Another server, as where the Hub redirects to for large files."""
    server = _server.Hub()
    yield server
    server.close()
