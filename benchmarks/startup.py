"""CPU time of light commands, beside bare Python and `import torch`, in one run: `python benchmarks/startup.py`.

Plugins are written into a folder until ten are installed, each with five models. Limits are those of a machine on which
bare Python takes 12 ms; on a slower, or busier, one they are as many times larger.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from zoo.registry.plugins import installed


def script(program: str, *words: str) -> str:
    """Return the content of the script of this name that pip installs."""
    return f"import sys; sys.argv = {[program, *words]}; from {program}.cli import main; main()"


COMMANDS = {
    "bare Python": "pass",
    "import click": "import click",
    "import zoo": "import zoo",
    "zoo list": script("zoo", "list"),
    "zoo list, ten plugins": script("zoo", "list"),
    "zoo info conv3d": script("zoo", "info", "conv3d"),
    "explain --help": script("explain", "--help"),
    "import torch": "import torch",
}
#: Milliseconds that a command may take where bare Python takes `BARE`.
BARE = 12.0
LIMITS = {"import zoo": BARE + 30.0, "zoo list, ten plugins": 150.0}
PLUGIN = """
from zoo.entries.spec import InputSpec, ModelEntry, OutputSpec
from zoo.registry.hookspecs import hookimpl

@hookimpl
def zoo_models():
    return [
        ModelEntry(name=f"NAME_{number}", builder="NAME.networks:build", summary="one of five", parameters=1,
                   input=InputSpec(frames=16, size=(112, 112)),
                   outputs=(OutputSpec(labels=tuple(map(str, range(400)))),))
        for number in range(5)
    ]
"""


def fill(folder: Path, count: int) -> None:
    """Put in `count` plugins, as pip would install them."""
    for number in range(count):
        name = f"startup_{number}"
        metadata = folder / f"{name}-1.0.dist-info"
        for path, text in {
            folder / name / "__init__.py": PLUGIN.replace("NAME", name),
            metadata / "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            metadata / "entry_points.txt": f"[zoo.plugins]\n{name} = {name}\n",
        }.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def cpu_seconds(code: str, folder: str) -> float:
    """User and system time of one fresh process that finds further plugins in `folder`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": folder}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, every module is compiled in every run
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)  # noqa: S603 - code from above
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as further:
        fill(Path(further), 10 - len(installed()))
        folders = {name: further if "ten" in name else "" for name in COMMANDS}
        cpu_seconds(COMMANDS["zoo list"], further)  # compiles them
        runs = [{name: cpu_seconds(code, folders[name]) for name, code in COMMANDS.items()} for _ in range(7)]
    taken = {name: 1000 * statistics.median(run[name] for run in runs) for name in COMMANDS}
    bare = taken["bare Python"]
    for name, milliseconds in taken.items():
        limit = LIMITS.get(name)
        beside = f", limit {limit * bare / BARE:6.1f}" if limit else ""
        print(f"{name:<22} {milliseconds:8.1f} ms CPU, {milliseconds / bare:6.1f} times bare Python{beside}")
