"""`zoo card`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zoo.commands.shared import options, output
from zoo.errors import UsageError
from zoo.names import is_pattern


@click.command(cls=options.Examples, epilog="zoo card conv3d\nzoo card 'my_*' --write\nzoo card --check")
@click.argument("name", default="*")
@click.option("--check", is_flag=True, help="Only say whether cards say what their entries say; end with 1 where not.")
@click.option("--write", is_flag=True, help="Replace metadata and generated blocks by what the entries say.")
@options.as_json
@click.pass_context
def card(context: click.Context, name: str, *, check: bool, write: bool, as_json: bool) -> None:
    """Show the model card of NAME, or check or write the cards of all models that match it.

    A card has metadata for the Hub in front and a marked block of figures, both made from the entry; all other text is
    written by hand and kept.
    """
    from zoo.publishing import cards
    from zoo.registry import catalog

    if check and write:
        raise UsageError("--check only looks and --write changes; give one of the two")
    if not check and not write:
        if is_pattern(name):
            raise UsageError("one card is shown at a time: name a model, or give --check or --write")
        text = cards.render(name)
        output.emit({"model": name, "file": _shown(cards.find(name)), "card": text}, text, as_json=as_json)
        return
    names = [one.full_name for one in catalog.select(name)] if is_pattern(name) else [name]
    if not names:
        raise UsageError(f"no model matches {name!r}; `zoo list` shows all")
    rows: list[dict[str, Any]] = []
    for one in names:
        found = cards.problems(one)
        rows.append(
            {
                "model": one.rpartition(":")[2],
                "problems": found,
                "written": str(cards.write(one)) if found and write else None,
                "file": _shown(cards.find(one)),
            }
        )
    lines = [
        f"wrote {row['written']}" if write else f"{row['model']}: {'; '.join(row['problems'])}"
        for row in rows
        if row["problems"]
    ]
    lines.append(f"{len(names)} card{'s' * (len(names) != 1)}, {len(lines)} {'written' if write else 'to put right'}")
    output.emit(rows, lines, as_json=as_json)
    context.exit(1 if check and len(lines) > 1 else 0)


def _shown(path: Path | None) -> str | None:
    return None if path is None else str(path)
