"""docs/commands.md is what commands say: `python tests/test_reference.py > docs/commands.md` writes it."""

from pathlib import Path

import click
import pytest

from explain.cli import commands as explain
from zoo.cli import commands as zoo

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"


def page():
    """Every command's help, in the order in which they are listed."""
    lines = ["# Commands", "", "What `--help` says of each, on one page."]
    for name, program in (("zoo", zoo), ("explain", explain)):
        group = click.Context(program, info_name=name, terminal_width=100, **program.context_settings)
        for command in [program, *program.commands.values()]:
            context = group if command is program else click.Context(command, group, info_name=command.name)
            title = context.command_path
            lines += ["", f"{'##' if command is program else '###'} {title}", "", "```text"]
            lines += [line.rstrip() for line in command.get_help(context).splitlines()] + ["```"]
    return "\n".join(lines) + "\n"


def test_the_page_of_commands_is_what_they_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python tests/test_reference.py > docs/commands.md`"


@pytest.mark.parametrize(("name", "program"), [("zoo", zoo), ("explain", explain)])
def test_every_command_prints_json_where_asked_and_shows_an_example(name, program):
    assert len(program.commands) > 8
    for title, command in program.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, title
        assert f"{name} {title}" in command.epilog, title


if __name__ == "__main__":
    click.echo(page(), nl=False)
