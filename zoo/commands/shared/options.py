"""Options that several commands of `zoo` and `explain` share, so that they read alike everywhere."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import click

from zoo.commands.shared import output
from zoo.errors import UsageError


class Count(click.IntRange):
    """A whole number in a range, which ends where no one means it: beyond, memory or patience does."""

    name = "whole number"

    def __init__(self, min: int = 0, max: int = 1_000_000) -> None:  # noqa: A002  # as click calls them
        super().__init__(min=min, max=max)


class Amount(click.FloatRange):
    """A number in a range; "nan" is in none, though click lets it through."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number as the user wrote it."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there."
)

device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to compute."
)

dtype = click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    help="Numbers to compute in; bfloat16 takes half the memory and tells changes of 1 in 256 apart. "
    "[default: the model's own]",
)

seed = click.option(
    "--seed",
    default=0,
    show_default=True,
    type=Count(0, 2**63 - 1),
    help="Seed of everything drawn at random.",
)

weights = click.option(
    "--weights", default="default", show_default=True, metavar="TAG|FILE|none", help="Weights to load."
)

_start = click.option(
    "--start",
    default=0.0,
    show_default=True,
    type=Amount(0, 1e9),
    help="Seconds of the clip at which to begin; of a video, an animation, or many of them.",
)

_end = click.option("--end", type=Amount(0, 1e9), help="Seconds of the clip at which to stop. [default: its end]")


def cut(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--start` and `--end`, the part of a clip that a command takes."""
    return _start(_end(command))


def _numbers(given: tuple[str, ...]) -> int | dict[str, int] | None:
    """Parse `--num-classes`: a number, or one for each head."""
    if len(given) == 1 and given[0].isdecimal():
        return int(given[0])
    numbers = {}
    for one in given:
        head, equals, number = one.rpartition("=")
        if not (equals and head and number.isdecimal()):
            raise UsageError(f"--num-classes {one}: expected a whole number, or HEAD=N for each of several heads")
        numbers[head] = int(number)
    return numbers or None


num_classes = click.option(
    "--num-classes",
    multiple=True,
    metavar="N|HEAD=N",
    callback=lambda *given: _numbers(given[-1]),
    help="Other number of classes, of the only head that has some or of the one named; may be given again. Weights "
    "that were saved with it load as they are; a head of another number is drawn from the seed.",
)

in_channels = click.option(
    "--in-channels",
    type=Count(min=1),
    help="Other number of input channels. Weights that were saved with it load as they are; the first filters of "
    "others are adapted.",
)

offline = click.option(
    "--offline",
    is_flag=True,
    help="Fetch nothing; what is not on this machine is an error. ZOO_OFFLINE=1 says the same.",
)


def _given(value: str | None) -> str | None:
    """Return a token unless it is empty, as from an unset variable."""
    if value is not None and not value.strip():
        raise UsageError("--token is empty; give a token, or leave --token out")
    return value


token = click.option(
    "--token",
    metavar="TOKEN",
    callback=lambda *given: _given(given[-1]),
    help="Token of the Hugging Face Hub; others may read command lines. [default: HF_TOKEN, or of `hf auth login`]",
)


class Examples(click.Command):
    """A command that prints its result alone; its help ends with an example, the `epilog`, one command a line."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; where something is missing, show one that is whole."""
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            example = (self.epilog or "").partition("\n")[0].partition("    #")[0]
            raise click.UsageError(f"{error.format_message()} An example: {example}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with output.results_alone():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example lines verbatim; click would refill them into a paragraph."""
        del ctx
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def resolve_weights(weights: str) -> str | None:
    """Convert `--weights` to the argument of `zoo.load`: None for "none"."""
    return None if weights == "none" else weights


class ExamplesGroup(click.Group):
    """A group whose commands end their help with an example."""

    command_class = Examples


class Deferred(MutableMapping[str, click.Command]):
    """Commands by name, each imported on first use: a command need not wait for all others.

    Args:
        places: Reference of each command, "package.module:function".
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places: dict[str, str | click.Command] = dict(places)

    def __getitem__(self, name: str) -> click.Command:
        found = self._places[name]
        if isinstance(found, str):
            module, _, function = found.partition(":")
            found = self._places[name] = getattr(importlib.import_module(module), function)
        return found

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._places[name] = command

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def program(name: str, help_text: str, places: Mapping[str, str] | None = None) -> click.Group:
    """Create the group of a program's commands, with the options that precede a command.

    Args:
        name: Of the program.
        help_text: Help text of the program.
        places: Lazily imported commands, as taken by `Deferred`.
    """

    @click.group(
        cls=ExamplesGroup,
        commands=Deferred(places or {}),
        help=help_text,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    @click.version_option(package_name="motion-zoo", prog_name=name)
    @click.option("--disable-plugin", multiple=True, metavar="NAME", help="Leave a plugin out; may be given again.")
    def commands(disable_plugin: tuple[str, ...]) -> None:
        if disable_plugin:
            from zoo.registry.plugins import DISABLE, check_names

            check_names(disable_plugin)
            os.environ[DISABLE] = ",".join(filter(None, [os.environ.get(DISABLE), *disable_plugin]))

    return commands
