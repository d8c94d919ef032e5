"""`zoo download`."""

from __future__ import annotations

from typing import Any

import click

from zoo.commands.shared import options, output
from zoo.errors import UsageError
from zoo.names import is_pattern
from zoo.registry import resolving
from zoo.weights import digests, obtaining, places


@click.command(
    cls=options.Examples,
    epilog="zoo download r3d_18\nzoo download 'swin*'\nzoo download all --offline    # what is missing here?",
)
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@options.offline
@options.token
@options.as_json
@click.pass_context
def download(
    context: click.Context, names: tuple[str, ...], token: str | None, *, offline: bool, as_json: bool
) -> None:
    """Download and check the weights of each NAME, so that loading and verifying need no network.

    A NAME is an architecture (its default weights), architecture.tag, a pattern with wildcards (all weights that
    match), `all`, or hub:ORG/REPO@REVISION. Failures are reported, and the other downloads continue.
    """
    from zoo.errors import ZooError
    from zoo.registry import catalog
    from zoo.weights import hub

    chosen: dict[str, None] = {}
    for name in names:
        if name == "all" or is_pattern(name):
            pattern = "*" if name == "all" else name
            found = catalog.list_models(pattern, pretrained=True)
            if not found:
                raise UsageError(f"no weights match {pattern!r}; `zoo list --pretrained` shows all")
            chosen |= dict.fromkeys(found)
        else:
            chosen[name] = None
    rows: list[dict[str, Any]] = []
    for name in chosen:
        row: dict[str, Any] = {"model": name, "file": None, "bytes": None, "sha256": None, "error": None}
        try:
            entry, weights = resolving.resolve(name, "default", offline=offline, token=token)
            if weights is not None:
                here = obtaining.obtain(weights, offline=offline, token=token)
                path = obtaining.locate(here.source)
                digests.check(path, here)
                if weights.golden is not None and weights.golden.startswith("hub:"):  # `zoo verify` needs it
                    hub.fetch(places.parse(weights.golden), offline=offline, token=token)
                row |= {"model": f"{entry.name}.{weights.tag}", "file": str(path)}
                row |= {"bytes": here.bytes, "sha256": here.sha256}
        except ZooError as error:
            if len(chosen) == 1:
                raise
            row["error"] = str(error)
            output.note(f"error: {name}: {error}")
        rows.append(row)
    text = output.table(
        ["weights", "bytes", "file"], [[row["model"], row["bytes"] or "-", row["file"] or "FAILED"] for row in rows]
    )
    output.emit(rows, text, as_json=as_json)
    context.exit(1 if any(row["error"] for row in rows) else 0)
