"""The command `explain`."""

from __future__ import annotations

import signal
import sys

from explain.commands.attribute import attribute
from explain.commands.compare import compare
from explain.commands.faithfulness import faithfulness
from explain.commands.fields import fields
from explain.commands.maximize import maximize
from explain.commands.methods import methods
from explain.commands.report import report
from explain.commands.robustness import robustness
from explain.commands.temporal import temporal
from zoo import devices
from zoo.commands.shared import options, output

commands = options.program(
    "explain",
    "See what video models learned: attributions, maximised units, receptive fields, and reports of them all.",
)
for command in (report, attribute, maximize, fields, compare, temporal, faithfulness, robustness, methods):
    commands.add_command(command)


def main() -> None:
    """Run the command line; SIGTERM cleans up like Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    devices.keep_freed_memory()  # commands run one network many times
    output.run(commands)
