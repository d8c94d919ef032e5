"""A process that has imported everything and forks for each command: a command costs its own work, not the imports.

Run as a program: each line on stdin is one command as JSON (`arguments`, `environment`, `folder`, `code`, `output`,
`errors`: two files); each line on stdout its exit status, as `subprocess` counts. A child ends as Python ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOTS = ("zoo", "explain")
#: What torch, numpy and Pillow import when they are first used; the first alone takes a second.
LATER = ("torch._dynamo", "numpy.fft", "numpy.random", "PIL.ImageOps")


class Preloaded:
    """The process, begun when first asked."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._asked = 0

    def __call__(self, *arguments, code, environment=None) -> subprocess.CompletedProcess[str]:
        """Run `code` as `python -c` does, with these arguments and further variables."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # numpy's begins its threads when it is imported
            )
        self._asked += 1
        output, errors = (self._folder / f"{self._asked}.{kind}" for kind in ("out", "err"))
        told = {
            "arguments": [str(argument) for argument in arguments],
            "environment": {**os.environ, **(environment or {})},
            "folder": str(Path.cwd()),
            "code": code,
            "output": str(output),
            "errors": str(errors),
        }
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, output.read_text(), errors.read_text())

    def close(self):
        """End the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(60)
            self._process.stdout.close()


def import_everything():
    """All modules of ours, and with them what they import; no plugin, since tests bring their own."""
    for root in ROOTS:
        for module in pkgutil.walk_packages(importlib.import_module(root).__path__, f"{root}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)
    Image.init()


def become(told):
    """Make the forked child what `python -c CODE ARGUMENTS` would be in that folder; gives the code."""
    for name, descriptor in ((os.devnull, 0), (told["output"], 1), (told["errors"], 2)):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(told["folder"])
    os.environ.clear()
    os.environ.update(told["environment"])
    path = told["environment"].get("PYTHONPATH")
    sys.path[:0] = path.split(os.pathsep) if path else []
    sys.argv = ["-c", *told["arguments"]]
    return compile(told["code"], "<string>", "exec")


def serve():
    """Fork for each line; gives the code in a child, None in the end."""
    replies = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        told = json.loads(line)
        child = os.fork()
        if child == 0:
            replies.close()
            return become(told)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=replies, flush=True)
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and they this
    import_everything()
    threads = [task.name for task in Path("/proc/self/task").iterdir()]
    assert threads == [str(os.getpid())], "threads are lost in a fork"
    gc.freeze()  # children need not go through what they share
    code = serve()
    if code is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(code, {"__name__": "__main__"})
