"""`zoo plugins`."""

from __future__ import annotations

import click

from zoo.commands.shared import options, output


@click.command(
    cls=options.Examples, epilog="zoo plugins --json\nzoo plugins --isolate    # which one ends every command?"
)
@click.option(
    "--isolate",
    is_flag=True,
    help="Import each plugin in a process of its own, and name those that end it or hang.",
)
@options.as_json
def plugins(*, isolate: bool, as_json: bool) -> None:
    """List plugins, their state, and the hooks they implement.

    Plugins that slow down every command are marked, with the line responsible. A model that several plugins provide
    is listed; `DISTRIBUTION:MODEL` selects one of them.
    """
    from zoo.registry import catalog, inspection

    rows = inspection.isolated_states() if isolate else inspection.states()
    text = output.table(
        ["plugin", "distribution", "version", "status", "models", "reason"],
        [
            [
                row["name"],
                row["distribution"],
                row["version"],
                "slow" if row["slow"] and row["status"] == "ready" else row["status"],
                len(row["models"]),
                "; ".join(filter(None, [row["reason"], row["slow"], _shared(row["shared_names"]), _also(row["also"])])),
            ]
            for row in rows
        ],
    )
    output.emit(rows, text if rows else f"no plugins are installed; {catalog.HOW_TO_ADD}", as_json=as_json)


def _shared(names: list[str]) -> str:
    return f"others give models of these names too: {', '.join(names)}" if names else ""


def _also(keys: list[str]) -> str:
    return f"also installed as {', '.join(keys)}" if keys else ""
