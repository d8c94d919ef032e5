"""`explain compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explain.commands import shared
from zoo.commands.shared import options as cli
from zoo.commands.shared import output


@click.command(
    cls=cli.Examples,
    epilog="explain compare conv2d conv3d --out comparison\n"
    "explain compare conv2d conv3d --clip sample:blinking_mnist/3 --out comparison",
)
@click.argument("models", nargs=-1, metavar="MODEL MODEL...")
@click.option("--clip", help="Compare on this clip, too: a video, an image, a folder of images, or sample:NAME.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder to write: a new one, an empty one, or an earlier comparison, which is replaced.",
)
@click.option(
    "--method", "methods", multiple=True, help="Attribution method; may be given again. [default: three usual ones]"
)
@click.option("--section", "sections", multiple=True, help="Section to write; may be given again. [default: all]")
@shared.target
@shared.method_options("n_steps")
@cli.cut
@cli.weights
@cli.device
@cli.dtype
@cli.seed
@cli.as_json
def compare(
    models: tuple[str, ...],
    clip: str | None,
    out: Path,
    methods: tuple[str, ...],
    sections: tuple[str, ...],
    target: str | None,
    options: dict[str, Any],
    start: float,
    end: float | None,
    weights: str,
    device: str,
    dtype: str | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Compare two or more models: their measured metrics and, with --clip, their explanations of CLIP.

    MODEL is a name of the zoo, or a FILE.json written by `zoo evaluate NAME --out FILE.json` or by a training run.
    """
    import explain
    from explain.progress import Line

    with Line() as line:
        written = explain.compare(
            models,
            out,
            clip=clip,
            start=start,
            end=end,
            methods=methods or None,
            sections=sections or None,
            target=target,
            device=device,
            dtype=dtype,
            weights=cli.resolve_weights(weights),
            **options,
            seed=seed,
            progress=line.show,
        )
    shared.warn(written)
    data = {
        "page": str(written.page),
        "models": written.data["models"],
        "clip": written.data["clip"],
        "seconds": written.data["run"]["total_seconds"],
        "warnings": written.warnings,
        "problems": written.problems,
    }
    output.emit(data, [f"wrote {written.page}: {written.data['summary']}".rstrip(": ")], as_json=as_json)
