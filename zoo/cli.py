"""The command `zoo`."""

from __future__ import annotations

from zoo.commands.shared import options, output

commands = options.program(
    "zoo",
    "A zoo of video models: list them, load them, ask them about a clip.",
    {
        "list": "zoo.commands.list:list_",
        "info": "zoo.commands.info:info",
        "predict": "zoo.commands.predict:predict",
        "load": "zoo.commands.load:load",
        "download": "zoo.commands.download:download",
        "verify": "zoo.commands.verify:verify",
        "evaluate": "zoo.commands.evaluate:evaluate",
        "train": "zoo.commands.train:train",
        "search": "zoo.commands.search:search",
        "data": "zoo.commands.data:data",
        "export": "zoo.commands.export:export",
        "push": "zoo.commands.push:push",
        "plugins": "zoo.commands.plugins:plugins",
        "new-plugin": "zoo.commands.new_plugin:new_plugin",
        "check": "zoo.commands.check:check",
        "card": "zoo.commands.card:card",
    },
)


def main() -> None:
    """Run the command line."""
    output.run(commands)
