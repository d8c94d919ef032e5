"""The command `zoo`."""

from __future__ import annotations

from zoo import options, output
from zoo.commands.data import data
from zoo.commands.evaluate import evaluate
from zoo.commands.info import info
from zoo.commands.list import list_
from zoo.commands.load import load
from zoo.commands.plugins import plugins
from zoo.commands.predict import predict
from zoo.commands.train import train
from zoo.commands.verify import verify

commands = options.program("zoo", "A zoo of video models: list them, load them, ask them about a clip.")
for command in (list_, info, predict, load, verify, evaluate, plugins, train, data):
    commands.add_command(command)


def main() -> None:
    """Run the command line."""
    output.run(commands)
