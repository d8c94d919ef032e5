"""`explain methods`."""

from __future__ import annotations

from typing import Any

import click

from explain.commands import shared
from zoo.commands.shared import options, output


@click.command(cls=options.Examples, epilog="explain methods --json\nexplain methods conv3d")
@click.argument("model", required=False)
@shared.target
@options.as_json
def methods(model: str | None, target: str | None, *, as_json: bool) -> None:
    """List the attribution methods; with MODEL, show which of them apply to it, and why the others do not."""
    from explain.attribution.methods import all_methods

    if model is not None:
        _applicable(model, target, as_json=as_json)
        return
    found = all_methods().values()
    data = [
        {"name": one.name, "summary": one.summary, "needs_layer": one.needs_layer, "source": one.source}
        for one in found
    ]
    output.emit(
        data, output.table(["method", "shows"], [[row["name"], row["summary"]] for row in data]), as_json=as_json
    )


def _applicable(model: str, target: str | None, *, as_json: bool) -> None:
    import torch

    import zoo
    from explain.attribution import applicability
    from explain.progress import Line

    loaded = zoo.load(model, weights=None)
    spec: Any = loaded.zoo_entry
    noise = torch.rand(spec.input.shape, generator=torch.Generator().manual_seed(0))
    with Line() as line:
        reasons = applicability(loaded, noise, target, progress=line.step("trying methods"))
    data = [{"name": name, "applies": not reason, "reason": reason} for name, reason in reasons.items()]
    rows = [[row["name"], "yes" if row["applies"] else "no", row["reason"]] for row in data]
    output.emit(data, output.table(["method", "applies", "reason"], rows), as_json=as_json)
