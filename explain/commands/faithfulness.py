"""`explain faithfulness`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explain.commands import shared
from zoo.commands.shared import options as cli
from zoo.commands.shared import output


@click.command(
    cls=cli.Examples,
    epilog="explain faithfulness conv3d sample:blinking_mnist/3 --method saliency --method grad_cam --steps 16 "
    "--depths 4",
)
@click.argument("model")
@click.argument("clip")
@click.option("--method", "methods", multiple=True, required=True, help="Attribution method; may be given again.")
@shared.out
@shared.target
@shared.layer
@shared.method_options("baseline")
@click.option(
    "--fill",
    default="surroundings",
    show_default=True,
    metavar="surroundings|baseline",
    help="What takes the place of removed parts in deletion and insertion.",
)
@click.option("--steps", default=64, show_default=True, type=cli.Count(min=2), help="Points of each curve.")
@click.option(
    "--draws", default=20, show_default=True, type=cli.Count(min=2), help="Random orders that maps compete with."
)
@click.option(
    "--depths",
    type=cli.Count(min=1),
    help="Depths at which the model is randomised; 1 is the last layer alone. [default: every layer]",
)
@cli.cut
@cli.weights
@cli.num_classes
@cli.in_channels
@cli.device
@cli.dtype
@cli.seed
@cli.as_json
def faithfulness(
    model: str,
    clip: str,
    methods: tuple[str, ...],
    out: Path | None,
    target: str | None,
    layer: str | None,
    options: dict[str, Any],
    fill: str,
    steps: int,
    draws: int,
    depths: int | None,
    start: float,
    end: float | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    dtype: str | None,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Test the faithfulness of maps of MODEL's prediction for CLIP.

    That is, whether they depend on the model at all, and mark what its output depends on better than chance.
    Shares: 1 is the unchanged output, and one unit the change from removing the whole clip. --out saves all curves;
    `explain.Faithfulness.load` reads them.
    """
    from explain.reporting import writing

    methods = tuple(dict.fromkeys(methods))
    if out is not None:
        writing.check(out, "faithfulness")

    from explain.faithfulness.checking import Effort, check_all
    from explain.faithfulness.measures import all_tests
    from explain.progress import Line

    effort = Effort(steps=steps, draws=draws, depths=depths, fill=fill)
    loaded, decoded, batch = shared.opened(
        model,
        clip,
        weights,
        device,
        seed,
        dtype,
        start=start,
        end=end,
        num_classes=num_classes,
        in_channels=in_channels,
    )
    with Line() as line:
        maps = shared.attributed(loaded, batch, methods, line, target=target, options=options, layer=layer, seed=seed)
        results = check_all(loaded, batch, maps, effort, seed=seed, progress=line.show)
    data = [result.record() for result in results]
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    if out is not None:
        from explain.results import packed

        files = {f"{name}.safetensors": packed(result) for name, result in zip(methods, results, strict=True)}
        about = {"model": model, "clip": decoded.source, "seed": seed, "methods": data}
        writing.write(out, "faithfulness", about, files)
        output.note(f"wrote {out}: {', '.join(['faithfulness.json', *files])}")
    rows, sentences, tests = [], [], all_tests()
    for row in data:
        main = list(row["curves"].values())[-1] if row["curves"] else None
        areas = [
            [_share(main[f"{order}{kind}"]["area"]) if main else "-" for order in ("", "random_", "centre_")]
            for kind in ("deletion", "insertion")
        ]
        first = row["randomization"][0]["correlation"] if row["randomization"] else None
        rows.append(
            [
                row["method"],
                row["verdict"],
                *(f"{own} ({random}, {middle})" for own, random, middle in areas),
                *(_share(row[test.name]) for test in tests),
                _share(first),
            ]
        )
        sentences += [f"{row['method']}: {reason['text']}" for reason in row["reasons"].values()]
    header = ["method", "verdict", "deletion (random, centre)", "insertion (random, centre)"]
    text = output.table([*header, *(test.title for test in tests), "rank correlation, last layer random"], rows)
    output.emit(data, "\n\n".join([text, "\n".join(sentences)]), as_json=as_json)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
