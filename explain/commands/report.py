"""`explain report`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from explain.commands import shared
from zoo.commands.shared import options as cli
from zoo.commands.shared import output


@click.command(
    cls=cli.Examples,
    epilog="explain report conv3d sample:blinking_mnist/3 --out report\n"
    "explain report conv3d 'sample:blinking_mnist/*' --out report\n"
    "explain report r3d_18 videos --out report",
)
@click.argument("model")
@click.argument("clip")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write: a new one, an empty one, or an earlier report, which is replaced.",
)
@click.option(
    "--method", "methods", multiple=True, help="Attribution method; may be given again. [default: six usual ones]"
)
@click.option("--section", "sections", multiple=True, help="Section to write; may be given again. [default: all]")
@shared.target
@shared.layer
@shared.method_options("n_steps")
@click.option(
    "--unit-layer",
    "unit_layers",
    multiple=True,
    help="Layer whose units are maximised; may be given again. [default: 3]",
)
@click.option("--units", default=2, show_default=True, type=cli.Count(min=1), help="Units maximised in each layer.")
@click.option("--unit-steps", default=64, show_default=True, type=cli.Count(min=1), help="Steps of each maximisation.")
@click.option("--thorough", is_flag=True, help="Test at length whether maps can be trusted; takes many times as long.")
@click.option(
    "--each", is_flag=True, help="Where CLIP is a folder: take every image file as a clip of its own, not as a frame."
)
@cli.cut
@cli.weights
@cli.num_classes
@cli.in_channels
@cli.device
@cli.dtype
@cli.seed
@cli.as_json
def report(
    model: str,
    clip: str,
    out: Path,
    methods: tuple[str, ...],
    sections: tuple[str, ...],
    target: str | None,
    layer: str | None,
    options: dict[str, Any],
    unit_layers: tuple[str, ...],
    units: int,
    unit_steps: int,
    start: float,
    end: float | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    dtype: str | None,
    seed: int,
    *,
    thorough: bool,
    each: bool,
    as_json: bool,
) -> None:
    """Write a report on MODEL's explanations of CLIP: a video, an image, a folder of images, or sample:NAME.

    CLIP may denote many clips, which share one page: a folder of videos or sub-folders (their names are labels), a list
    FILE.txt or FILE.csv of `path` or `path,label` per line, or 'sample:NAME/*'. A folder of images alone is one clip,
    unless --each is used. Repeating an interrupted run resumes it.
    """
    import explain
    from explain.progress import Line

    with _told(), Line() as line:
        written = explain.report(
            model,
            clip,
            out,
            methods=methods or None,
            sections=sections or None,
            target=target,
            device=device,
            dtype=dtype,
            weights=cli.resolve_weights(weights),
            num_classes=num_classes,
            in_channels=in_channels,
            layer=layer,
            **options,
            unit_layers=unit_layers or 3,
            units=units,
            unit_steps=unit_steps,
            thorough=thorough,
            each=each,
            start=start,
            end=end,
            seed=seed,
            progress=line.show,
        )
    shared.warn(written)
    data = {
        "page": str(written.page),
        "model": written.data["model"],
        "clip": written.data["clip"],
        **({"clips": written.data["clips"], "failed": written.data["failed"]} if "clips" in written.data else {}),
        "target": written.data["target"],
        "seconds": written.data["run"]["total_seconds"],
        "warnings": written.warnings,
        "problems": written.problems,
    }
    output.emit(data, [f"wrote {written.page}: {written.data['summary']}".strip()], as_json=as_json)


@contextmanager
def _told() -> Iterator[None]:
    """Print an error's notes, such as how to resume after Ctrl-C."""
    try:
        yield
    except BaseException as error:
        for line in getattr(error, "__notes__", ()):
            output.note(line)
        raise
