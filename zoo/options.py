"""Options that several commands of `zoo` and `explain` share, so that they read alike everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there."
)
device = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to compute."
)
seed = click.option("--seed", default=0, show_default=True, help="Seed of everything drawn at random.")
weights = click.option(
    "--weights", default="default", show_default=True, metavar="TAG|FILE|none", help="Weights to load."
)


class Examples(click.Command):
    """A command whose help ends with an example: give it as `epilog`, one command a line."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example lines as they stand; click would refill them into a paragraph."""
        del ctx
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def resolve_weights(weights: str) -> str | None:
    """What `zoo.load` takes for `--weights`: None for "none"."""
    return None if weights == "none" else weights


class ExamplesGroup(click.Group):
    """A group whose commands end their help with an example."""

    command_class = Examples


def group(help_text: str) -> Callable[[Callable[..., None]], click.Group]:
    """Decorator of the function that takes the options of a whole command line."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    return click.group(cls=ExamplesGroup, help=help_text, context_settings=settings)
