"""CPU time of light commands, beside bare Python and `import torch`, in one run: `python benchmarks/startup.py`."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

COMMANDS = {
    "bare Python": "pass",
    "import zoo": "import zoo",
    "zoo list": "from zoo.cli import commands; commands(['list'], standalone_mode=False)",
    "zoo info conv3d": "from zoo.cli import commands; commands(['info', 'conv3d'], standalone_mode=False)",
    "explain --help": "from explain.cli import commands; commands(['--help'], standalone_mode=False)",
    "import torch": "import torch",
}


def cpu_seconds(code: str) -> float:
    """User and system time of one fresh process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)  # noqa: S603 - code from above
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    runs = [{name: cpu_seconds(code) for name, code in COMMANDS.items()} for _ in range(7)]
    for name in COMMANDS:
        print(f"{name:<16} {1000 * statistics.median(run[name] for run in runs):8.1f} ms CPU")
