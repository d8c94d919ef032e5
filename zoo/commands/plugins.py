"""`zoo plugins`."""

from __future__ import annotations

import click

from zoo import options, output


@click.command(cls=options.Examples, epilog="zoo plugins --json")
@options.as_json
def plugins(*, as_json: bool) -> None:
    """List plugins, their state, and the hooks they implement."""
    from zoo import catalog
    from zoo.plugins import registry

    models = catalog.listings()  # a broken entry shows only when its hook is called
    rows = [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": plugin.status,
            "reason": plugin.reason,
            "hooks": plugin.hooks,
            "models": [listing.entry.name for listing in models if listing.plugin is plugin],
        }
        for plugin in registry().plugins
    ]
    text = output.table(
        ["plugin", "distribution", "version", "status", "models", "reason"],
        [
            [row["name"], row["distribution"], row["version"], row["status"], len(row["models"]), row["reason"]]
            for row in rows
        ],
    )
    output.emit(rows, text if rows else "no plugins are installed", as_json=as_json)
