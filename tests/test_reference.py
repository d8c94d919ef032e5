"""docs/commands.md is what commands say: `python tests/test_reference.py > docs/commands.md` writes it."""

from pathlib import Path

import click

from explain.cli import commands as explain
from zoo.cli import commands as zoo

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"


def page():
    """Every command's help, in the order in which they are listed."""
    lines = ["# Commands", "", "What `--help` says of each, on one page."]
    for name, program in (("zoo", zoo), ("explain", explain)):
        for command in [program, *program.commands.values()]:
            title = name if command is program else f"{name} {command.name}"
            context = click.Context(command, info_name=title, terminal_width=100, max_content_width=100)
            lines += ["", f"{'##' if command is program else '###'} {title}", "", "```text"]
            lines += [line.rstrip() for line in command.get_help(context).splitlines()] + ["```"]
    return "\n".join(lines) + "\n"


def test_the_page_of_commands_is_what_they_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/test_reference.py > docs/commands.md`"


if __name__ == "__main__":
    click.echo(page(), nl=False)
