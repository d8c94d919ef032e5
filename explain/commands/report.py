"""`explain report`."""

from __future__ import annotations

from pathlib import Path

import click

from explain.commands import shared
from zoo import options, output


@click.command(cls=options.Examples, epilog="explain report conv3d sample:blinking_mnist/3 --out report")
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
@shared.steps
@click.option(
    "--unit-layer",
    "unit_layers",
    multiple=True,
    help="Layer whose units are maximised; may be given again. [default: 3]",
)
@click.option("--units", default=2, show_default=True, type=options.Count(min=1), help="Units maximised in each layer.")
@click.option(
    "--unit-steps", default=64, show_default=True, type=options.Count(min=1), help="Steps of each maximisation."
)
@click.option("--thorough", is_flag=True, help="Test at length whether maps can be trusted; takes many times as long.")
@options.weights
@options.device
@options.dtype
@options.seed
@options.as_json
def report(
    model: str,
    clip: str,
    out: Path,
    methods: tuple[str, ...],
    sections: tuple[str, ...],
    target: str | None,
    layer: str | None,
    steps: int,
    unit_layers: tuple[str, ...],
    units: int,
    unit_steps: int,
    weights: str,
    device: str,
    dtype: str | None,
    seed: int,
    *,
    thorough: bool,
    as_json: bool,
) -> None:
    """Write a report on what MODEL looks at in CLIP: a video, an image, a folder of images, or sample:NAME."""
    import explain
    from explain.progress import Line

    with Line() as line:
        written = explain.report(
            model,
            clip,
            out,
            methods=methods or None,
            sections=sections or None,
            target=target,
            device=device,
            dtype=dtype,
            weights=options.resolve_weights(weights),
            layer=layer,
            steps=steps,
            unit_layers=unit_layers or 3,
            units=units,
            unit_steps=unit_steps,
            thorough=thorough,
            seed=seed,
            progress=line.show,
        )
    for problem in written.problems:
        output.note(f"warning: {problem['plugin']}: {problem['reason']}")
    for warning in written.warnings:
        output.note(f"warning: {warning}")
    data = {
        "page": str(written.page),
        "model": written.data["model"],
        "clip": written.data["clip"],
        "target": written.data["target"],
        "seconds": written.data["run"]["total_seconds"],
        "warnings": written.warnings,
        "problems": written.problems,
    }
    output.emit(data, f"wrote {written.page}: {written.data['summary']}".strip(), as_json=as_json)
