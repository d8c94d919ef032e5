"""`zoo plugins`."""

from __future__ import annotations

from typing import Any

import click

from zoo import options, output


@click.command(cls=options.Examples, epilog="zoo plugins --json")
@options.as_json
def plugins(*, as_json: bool) -> None:
    """List plugins, their state, and the hooks they implement.

    One that makes every command slow is named as such, with the line that is to blame. A model that another plugin
    gives as well is named; `DISTRIBUTION:MODEL` tells them apart.
    """
    from zoo import catalog
    from zoo.plugins import registry

    models = catalog.listings()  # a broken entry shows only when its hook is called
    names = [listing.entry.name for listing in models]
    rows: list[dict[str, Any]] = []
    for plugin in registry().plugins:
        own = [listing.entry.name for listing in models if listing.plugin is plugin]
        rows.append(
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "status": plugin.status,
                "reason": plugin.reason,
                "slow": plugin.slow,
                "import_ms": round(1000 * plugin.import_seconds, 1),
                "hooks": plugin.hooks,
                "models": own,
                "shared_names": [name for name in own if names.count(name) > 1],
            }
        )
    text = output.table(
        ["plugin", "distribution", "version", "status", "models", "reason"],
        [
            [
                row["name"],
                row["distribution"],
                row["version"],
                "slow" if row["slow"] and row["status"] == "ready" else row["status"],
                len(row["models"]),
                "; ".join(filter(None, [row["reason"], row["slow"], _shared(row["shared_names"])])),
            ]
            for row in rows
        ],
    )
    output.emit(rows, text if rows else f"no plugins are installed; {catalog.HOW_TO_ADD}", as_json=as_json)


def _shared(names: list[str]) -> str:
    return f"others give models of these names too: {', '.join(names)}" if names else ""
