"""`zoo new-plugin`."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.commands.shared import options, output


@click.command(
    "new-plugin",
    cls=options.Examples,
    epilog="zoo new-plugin my_models\npip install --editable my_models && zoo check my_models",
)
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the package; new or empty.  [default: NAME, here]"
)
@options.as_json
def new_plugin(name: str, out: Path | None, *, as_json: bool) -> None:
    """Write an installable package that gives the model NAME, with its card and tests, to begin your own with."""
    from zoo.authors import scaffolding

    scaffolding.check_name(name)
    folder = out or Path(name)
    files = scaffolding.new_plugin(name, folder)
    output.emit(
        {"name": name, "folder": str(folder), "files": [str(path.relative_to(folder)) for path in files]},
        [str(path) for path in files],
        as_json=as_json,
    )
    output.note(f"next: pip install --editable {folder} && zoo check {name}")
