"""`zoo list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zoo.commands.shared import options, output
from zoo.errors import UnknownNameError

if TYPE_CHECKING:
    from zoo.entries import ModelEntry


@click.command("list", cls=options.Examples, epilog="zoo list 'conv*'")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only models with trained weights.")
@click.option("--plugin", help="Only models of this plugin or distribution.")
@options.as_json
def list_(pattern: str, plugin: str | None, *, pretrained: bool, as_json: bool) -> None:
    """List models; PATTERN may hold wildcards."""
    from zoo.registry import catalog
    from zoo.registry.plugins import registry

    known = registry().plugins
    if plugin is not None and not any(one.is_called(plugin) for one in known):
        raise UnknownNameError("plugin", plugin, [one.name for one in known], "`zoo plugins` shows all")
    rows: list[dict[str, Any]] = []
    for listing in catalog.select(pattern, plugin=plugin):
        entry = listing.entry
        tags = [weights.tag for weights in entry.weights]
        if tags or not pretrained:
            rows.append(
                {
                    "name": entry.name,
                    "tags": tags,
                    "default_tag": tags[0] if tags else None,
                    "plugin": listing.plugin.name,
                    "distribution": listing.plugin.distribution,
                    "summary": entry.summary,
                    "parameters": entry.parameters,
                    **_missing(entry),
                }
            )
    names = [row["name"] for row in rows]
    text = output.table(
        ["name", "weights", "parameters", "summary"],
        [
            [
                f"{row['distribution']}:{row['name']}" if names.count(row["name"]) > 1 else row["name"],
                ", ".join(tag + _to_download(row.get("to_download", {}).get(tag)) for tag in row["tags"]) or "-",
                row["parameters"],
                row["summary"],
            ]
            for row in rows
        ],
    )
    if not rows:
        everything = catalog.list_models()
        of = f" of {plugin}" if plugin else ""
        text = (
            f"no {'pretrained ' * pretrained}model{of} matches {pattern!r}; `zoo list` shows all {len(everything)}"
            if everything
            else f"no models: {_why_none()}"
        )
    output.emit(rows, text, as_json=as_json)


def _missing(entry: ModelEntry) -> dict[str, dict[str, int]]:
    """Return the bytes to download by tag, for entries whose weights are remote."""
    from zoo.weights import torch_files

    if not any(weights.is_foreign or weights.is_hub for weights in entry.weights):
        return {}
    return {"to_download": {weights.tag: weights.bytes for weights in entry.weights if torch_files.is_missing(weights)}}


def _to_download(size: int | None) -> str:
    return "" if size is None else f" (download, {size / 2**20:.3g} MiB)"


def _why_none() -> str:
    from zoo.registry import catalog
    from zoo.registry.plugins import registry

    if registry().plugins:
        return "no plugin that is switched on gives any (`zoo plugins` shows their state)"
    return f"no plugin is installed; {catalog.HOW_TO_ADD}"
