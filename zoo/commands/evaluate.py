"""`zoo evaluate`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from zoo.commands.shared import options, output
from zoo.errors import UsageError
from zoo.plain import plain


@click.command(
    cls=options.Examples,
    epilog="ZOO_DATA=~/data zoo evaluate conv3d\nzoo evaluate conv3d --clips 500 --out conv3d.json",
)
@click.argument("model")
@click.option("--clips", type=options.Count(min=1), help="Measure the first N clips of the test set.  [default: all]")
@click.option("--recipe", help="Evaluate as this recipe does; by default the one that made the weights.")
@click.option("--out", type=click.Path(path_type=Path), help="Store the evaluation in this JSON file as well.")
@options.weights
@options.device
@options.seed
@options.as_json
def evaluate(
    model: str,
    clips: int | None,
    recipe: str | None,
    out: Path | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Measure MODEL on its recipe's fixed test set, as the metrics in its entry were measured."""
    import zoo
    from zoo import devices
    from zoo.training import evaluation
    from zoo.writing import check_writable, write

    if out is not None:
        if out.suffix != ".json":  # nor may a slip of the pen replace a weights file
            raise UsageError(f"--out {out}: an evaluation is stored as JSON; give a name that ends in .json")
        evaluation.check_replaceable(out)
        check_writable(out)
    devices.keep_freed_memory()
    measured = zoo.evaluate(
        model, recipe=recipe, weights=options.resolve_weights(weights), device=device, clips=clips, seed=seed
    ).record()
    output.emit(measured, _evaluation_text(measured), as_json=as_json)
    if out is not None:
        write(out, json.dumps(plain(measured), indent=1) + "\n")
        output.note(f"wrote {out}")


def _evaluation_text(measured: dict[str, Any]) -> str:
    """Format the metrics of an evaluation, and every table of its breakdown."""
    count = measured["clips_measured"]
    shown = "" if count is None else f" on {count:,} clip{'s' * (count != 1)}"
    rows = [
        [metric["dataset"], metric["split"], metric["name"], _figure(metric["value"])] for metric in measured["metrics"]
    ]
    parts = [
        f"{measured['model']}, measured{shown} as recipe {measured['measured_as']} says",
        output.table(["dataset", "split", "metric", "value"], rows),
    ]
    for name, table in measured["breakdown"].items():
        if not table:  # a table may be empty if few clips were measured
            continue
        columns = list(dict.fromkeys(column for row in table for column in row))
        parts += [f"by {name}", output.table(columns, [[_figure(row.get(one)) for one in columns] for row in table])]
    return "\n\n".join(parts)


def _figure(value: object) -> object:
    """Format a cell: numbers with four significant digits, since an error may be small."""
    if not isinstance(value, float):
        return "-" if value is None else value
    places = 3 - math.floor(math.log10(abs(value))) if value and math.isfinite(value) else 4
    return f"{value:.{max(places, 0)}f}" if places < 10 else f"{value:.3e}"
