"""Small recipes in a plugin, and processes of their own to run them in: killed, limited, or several together."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist


@dataclass
class Ended:
    """How a process ended: its exit status (below 0: the signal), stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error:") or "Traceback" in line]


def _child(environ, out, err, name, arguments):
    os.environ.update(environ)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), number)
    import regression  # the plugin, on the path of the test

    getattr(regression, name)(*arguments)


class Processes:
    """Calls functions of the plugin in processes forked from one that has torch loaded."""

    def __init__(self, folder):
        self.folder = folder
        self.context = multiprocessing.get_context("forkserver")
        # torch._dynamo is what the first step of an optimiser imports
        self.context.set_forkserver_preload(
            ["torch._dynamo", "safetensors.torch", "tqdm", "zoo.training.runs", "zoo.cli"]
        )
        self.count = 0

    def start(self, name, *arguments, environ=None):
        self.count += 1
        out, err = (self.folder / f"{self.count}.{kind}" for kind in ("out", "err"))
        given = (environ or {}, out, err, name, arguments)
        process = self.context.Process(target=_child, args=given)
        process.start()
        return process, out, err

    def end(self, started):
        process, out, err = started
        process.join(300)  # a busy machine is no hang
        if process.is_alive():
            process.kill()
            pytest.fail(f"a process hangs: {err.read_text()}")
        return Ended(process.exitcode, out.read_text(), err.read_text())

    def run(self, name, *arguments):
        """One process."""
        return self.end(self.start(name, *arguments))

    def together(self, name, *arguments, count=2):
        """Several processes with the environment and the store that torchrun gives them."""
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(minutes=1))
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "GLOO_SOCKET_IFNAME": "lo",
            "WORLD_SIZE": str(count),
        }
        started = [
            self.start(name, *arguments, environ={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]
        return [self.end(one) for one in started]


@pytest.fixture
def processes(installed, tmp_path, monkeypatch):
    installed.add("regression", Path(__file__).with_name("regression.py").read_text())
    installed.use(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "processes"
    folder.mkdir()
    return Processes(folder)


@pytest.fixture
def regression(processes):
    """The plugin's module, in this process."""
    import regression

    yield regression
    sys.modules.pop("regression", None)
