"""`zoo data`."""

from __future__ import annotations

import click

from zoo.commands.shared import options, output


@click.command(cls=options.Examples, epilog="ZOO_DATA=~/data zoo data mnist")
@click.argument("dataset", type=click.Choice(["mnist"]))
@options.as_json
def data(dataset: str, *, as_json: bool) -> None:
    """Download a training data set into $ZOO_DATA, or the user's data folder, and check it."""
    from zoo.training.data import mnist

    folder = mnist.download(report=output.note)
    output.emit({"dataset": dataset, "folder": str(folder)}, [f"{folder} holds {dataset}, checked"], as_json=as_json)
