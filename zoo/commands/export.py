"""`zoo export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from zoo.commands.shared import options, output


@click.command(cls=options.Examples, epilog="zoo export conv3d --out conv3d.pt2 --dynamic-batch")
@click.argument("model")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE.pt2", help="File to write.")
@click.option("--dynamic-batch", is_flag=True, help="Take any number of samples at a time instead of one.")
@options.weights
@options.num_classes
@options.in_channels
@options.device
@options.seed
@options.as_json
def export(
    model: str,
    out: Path,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    seed: int,
    *,
    dynamic_batch: bool,
    as_json: bool,
) -> None:
    """Write MODEL as a program of torch.export, read it again, and compare its outputs.

    `torch.export.load(FILE).module()` runs it without zoo and without its plugin. A recurrent network is written out
    step by step, which takes a minute or so.
    """
    from zoo import writing
    from zoo.models import exporting, loading

    if out.suffix == exporting.SUFFIX:
        writing.check_writable(out)
    loaded = loading.load(
        model,
        weights=options.resolve_weights(weights),
        num_classes=num_classes,
        in_channels=in_channels,
        device=device,
        seed=seed,
    )
    done = exporting.export(loaded, out, dynamic_batch=dynamic_batch, seed=seed)
    shape = " x ".join("N" if size is None else str(size) for size in done.batch)
    text = (
        f"wrote {done.file}, {done.bytes:,} bytes: {shape} to {', '.join(done.outputs)}; read again, its outputs "
        f"differ from the model's by at most {done.difference:.1e}"
    )
    output.emit(dataclasses.asdict(done), text, as_json=as_json)
