"""`explain robustness`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explain.commands import shared
from zoo.commands.shared import options, output
from zoo.plain import unbroken

if TYPE_CHECKING:
    from explain.robustness.results import Measure, Robustness


@click.command(
    cls=options.Examples,
    epilog="explain robustness conv3d sample:blinking_mnist/3 --out out\n"
    "explain robustness conv3d 'sample:blinking_mnist/*' --draws 1 --out out\n"
    "explain robustness conv3d clip.mp4 --perturbation gaussian_noise=0.05,0.1,0.2 --perturbation blur\n"
    "ZOO_DATA=~/data explain robustness conv3d --data --clips 200 --levels 4",
)
@click.argument("model")
@click.argument("clip", required=False)
@click.option(
    "--data", is_flag=True, help="Perturb the test clips of the model's recipe, as `zoo evaluate` reads them."
)
@click.option("--recipe", help="With --data: evaluate as this recipe does; by default the one that made the weights.")
@click.option("--clips", type=options.Count(min=1), help="With --data: the first N clips.  [default: all]")
@click.option(
    "--perturbation",
    "perturbations",
    multiple=True,
    metavar="NAME[=LEVEL,...]",
    help="What to do to clips, at which levels; may be given again.  [default: all]",
)
@click.option("--levels", default=8, show_default=True, type=options.Count(min=1), help="Levels, where none are named.")
@click.option("--draws", default=4, show_default=True, type=options.Count(min=1), help="Draws of all that is random.")
@click.option(
    "--fill",
    default="grey",
    show_default=True,
    metavar="black|grey|white|mean|NUMBER",
    help="What stands where something is missing; a number from 0 (black) to 1 (white).",
)
@click.option(
    "--each", is_flag=True, help="Where CLIP is a folder: take every image file as a clip of its own, not as a frame."
)
@shared.target
@shared.out
@options.cut
@options.weights
@options.num_classes
@options.in_channels
@options.device
@options.seed
@options.as_json
def robustness(
    model: str,
    clip: str | None,
    recipe: str | None,
    clips: int | None,
    perturbations: tuple[str, ...],
    levels: int,
    draws: int,
    fill: str,
    target: str | None,
    out: Path | None,
    start: float,
    end: float | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    seed: int,
    *,
    data: bool,
    each: bool,
    as_json: bool,
) -> None:
    """Show how noise, missing pixels and wrong frames change MODEL's prediction for CLIP.

    CLIP is a video, an image, a folder of images, or sample:NAME; or many clips: a folder of videos or of sub-folders
    named by class, a list FILE.txt or FILE.csv of `path` or `path,label` per line, or 'sample:NAME/*'. If labels are
    known, accuracy is measured, too. Each perturbation runs at increasing levels; --out saves a page with images and
    curves, and every number.
    """
    from explain.reporting import writing
    from zoo.errors import UsageError

    if data == (clip is not None):
        raise UsageError("give either a CLIP or --data, which takes the test clips of the model's recipe")
    if data and each:
        raise UsageError("--each goes with a folder as CLIP")
    if not data and (recipe is not None or clips is not None):
        raise UsageError("--recipe and --clips go with --data")
    if data and (start or end is not None):
        raise UsageError("--start and --end cut a CLIP; with --data the recipe's own clips are measured")
    if data and target is not None:
        raise UsageError("--target goes with a CLIP; with --data the recipe's own metrics are measured")
    asked = _asked(perturbations)
    if data and asked and any(asked.values()):
        raise UsageError("with --data, levels cannot be named; say how many with --levels")
    if out is not None:
        writing.check(out, "robustness")

    import explain
    import zoo
    from explain import sources
    from explain.drawing.robustness import summary
    from explain.progress import Line
    from explain.reporting.topics.robustness import write_page
    from explain.robustness.perturbations import check_fill, find

    if clip is not None:
        sources.find(clip, each=each)  # fail on an invalid clip before loading the model
    find(list(asked) if asked else None)
    check_fill(fill)
    loaded: Any = zoo.load(
        model,
        weights=options.resolve_weights(weights),
        num_classes=num_classes,
        in_channels=in_channels,
        device=device,
        seed=seed,
    )
    given: dict[str, Any] = {"levels": levels, "fill": fill, "seed": seed}
    with Line() as line:
        if clip is None:
            checked = explain.check_robustness_on_recipe(
                loaded,
                recipe,
                clips=clips,
                perturbations=list(asked) if asked else None,
                progress=line.step("evaluating"),
                **given,
            )
        else:
            checked = explain.check_robustness_on_clips(
                loaded,
                clip,
                each=each,
                start=start,
                end=end,
                perturbations=asked,
                draws=draws,
                target=target,
                progress=line.step("perturbing"),
                **given,
            )
    for note in checked.notes:
        output.note(note)
    about = {
        "model": loaded.zoo_load_report.name,
        "clips": checked.source,
        "sha256": loaded.zoo_load_report.sha256,
        "left_out": [{"clip": path, "reason": reason} for path, reason in checked.left_out.items()],
    }
    result, sentence = checked.result, summary(checked.result)
    if out is not None:
        page = write_page(out, loaded, result, checked.first, about, sentence)
        output.note(f"wrote {page}")
    text = "\n\n".join(filter(None, [unbroken(f"{about['model']} on {checked.source}"), _table(result), sentence]))
    output.emit({**about, "seed": seed, **result.record()}, text, as_json=as_json)


def _asked(perturbations: tuple[str, ...]) -> dict[str, tuple[float, ...]] | None:
    """Return names, each with its levels if there are any."""
    from zoo.errors import UsageError

    asked: dict[str, tuple[float, ...]] = {}
    for one in perturbations:
        name, equals, listed = one.partition("=")
        try:
            asked[name] = tuple(float(level) for level in listed.split(",")) if equals else ()
        except ValueError:
            raise UsageError(
                f"--perturbation {one}: expected NAME or NAME=LEVEL,LEVEL,..., for example gaussian_noise=0.05,0.1"
            ) from None
    return asked or None


def _table(result: Robustness) -> str:
    """Return a row per perturbation: the levels of change and loss, and all measures at the strongest level."""
    from explain.drawing.robustness import level_text

    header = ["perturbation", "up to"]
    header += [f"{one.name}: first lost, half lost at" for one in result.shares]
    header += [_titled(one) for one in result.measures.values()]
    rows = [
        [
            name,
            f"{float(curve.levels[-1]):.3g}",
            *(
                f"{level_text(curve.first_change(one.name))}, {level_text(curve.half_lost(one.name))}"
                for one in result.shares
            ),
            *(f"{float(curve.mean[one][-1]):.3g}" for one in result.measures),
        ]
        for name, curve in result.curves.items()
    ]
    rows.insert(0, ["unchanged", "", *("" for _ in result.shares), *(_first(result, one) for one in result.measures)])
    return output.table(header, rows)


def _first(result: Robustness, measure: str) -> str:
    return f"{float(next(iter(result.curves.values())).mean[measure][0]):.3g}"


def _titled(measure: Measure) -> str:
    return f"{measure.name} ({measure.unit})" if measure.unit else measure.name
