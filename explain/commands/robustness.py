"""`explain robustness`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from explain.commands import shared
from zoo.commands.shared import options, output
from zoo.plain import unbroken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from explain.model.memory import Progress
    from explain.robustness.results import Measure, Robustness
    from explain.sources import Source

#: Said where no clip goes on for as long as the model predicts.
_ENDING = (
    "note: no frames follow those that the model reads, so its answers are compared with that for the unchanged clip, "
    "not with the truth"
)


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
    """Show what noise, missing pixels and wrong frames do to what MODEL says about CLIP.

    CLIP is a video, an image, a folder of images, or sample:NAME; or many clips: a folder of videos or of sub-folders
    named by class, a list FILE.txt or FILE.csv of `path` or `path,label` a line, or 'sample:NAME/*'. Where labels are
    known, accuracy is measured, too. Each perturbation grows until it is strong; --out keeps a page with pictures and
    curves, and every number.
    """
    from zoo import folders
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
    if data and isinstance(asked, dict) and any(asked.values()):
        raise UsageError("with --data, levels cannot be named; say how many with --levels")
    if out is not None:
        folders.check(out, "robustness")

    from explain import sources

    many = None if clip is None else sources.find(clip, each=each)

    import zoo
    from explain.robustness.perturbations import check_fill, find

    find(list(asked) if asked else None)
    check_fill(fill)
    given_up: list[dict[str, str]] = []
    loaded: Any = zoo.load(
        model,
        weights=options.resolve_weights(weights),
        num_classes=num_classes,
        in_channels=in_channels,
        device=device,
        seed=seed,
    )
    given: dict[str, Any] = {"levels": levels, "fill": fill, "seed": seed, "perturbations": asked}
    if data:
        result, spoiled, source = _on_recipe(loaded, recipe, clips, given)
    elif many is not None:
        result, spoiled, failed = _on_clips(
            loaded, many, target, {**given, "draws": draws}, {"start": start, "end": end}
        )
        source = f"{result.samples} clip{'s' * (result.samples != 1)} of {clip}"
        given_up = [{"clip": name, "reason": reason} for name, reason in failed.items()]
    else:
        result, spoiled, source = _on_clip(
            loaded, str(clip), target, {**given, "draws": draws}, {"start": start, "end": end}
        )
    from explain.drawing.robustness import summary
    from explain.reporting.topics.robustness import write_page

    about = {
        "model": loaded.zoo_load_report.name,
        "clips": source,
        "sha256": loaded.zoo_load_report.sha256,
        "left_out": given_up,
    }
    sentence = summary(result)
    if out is not None:
        page = write_page(out, loaded, result, spoiled, about, sentence)
        output.note(f"wrote {page}")
    text = "\n\n".join(filter(None, [unbroken(f"{about['model']} on {source}"), _table(result), sentence]))
    output.emit({**about, "seed": seed, **result.record()}, text, as_json=as_json)


def _asked(perturbations: tuple[str, ...]) -> dict[str, tuple[float, ...]] | None:
    """Names, each with its levels if there are any."""
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


def _on_recipe(loaded: Any, recipe: str | None, clips: int | None, given: dict[str, Any]) -> tuple[Any, Any, str]:
    from explain.progress import Line
    from explain.robustness.recipes import check_on_recipe
    from zoo.registry import catalog
    from zoo.training.evaluation import recipe_of

    entry = loaded.zoo_entry
    found = catalog.recipe(recipe or recipe_of(entry.name, entry.weights[0] if entry.weights else None))
    with Line() as line:
        result, spoiled = check_on_recipe(loaded, found, clips=clips, progress=line.step("evaluating"), **given)
    return result, spoiled, f"{result.samples:,} test clip{'s' * (result.samples != 1)} of {found.name}"


def _on_clip(
    loaded: Any, clip: str, target: str | None, given: dict[str, Any], part: dict[str, Any]
) -> tuple[Any, Any, str]:
    import zoo
    from explain.progress import Line
    from explain.robustness import check_robustness
    from explain.robustness.perturbed_clips import Spoiled
    from zoo import clips

    decoded = clips.decode(clip, spec=loaded.zoo_entry.input, **part)
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    batch = zoo.preprocess(decoded, loaded)
    truth = _following(loaded, batch, clip, part) or None
    if _predicts(loaded) and truth is None:
        output.note(_ENDING)
    with Line() as line:
        result = check_robustness(loaded, batch, target=target, truth=truth, progress=line.step("perturbing"), **given)
    return result, Spoiled(loaded, batch, fill=given["fill"], seed=given["seed"]), decoded.source


def _on_clips(
    loaded: Any, many: Sequence[Source], target: str | None, given: dict[str, Any], part: dict[str, Any]
) -> tuple[Any, Any, dict[str, str]]:
    """One clip after the other; gives also those that cannot be used, and why."""
    import torch

    import zoo
    from explain.progress import Line
    from explain.robustness.checking import Check
    from explain.robustness.perturbed_clips import Spoiled
    from explain.sources import truths
    from zoo import clips
    from zoo.errors import ClipError, UnknownNameError

    spec = loaded.zoo_entry
    classes = {one.name: one.labels for one in spec.outputs if one.kind == "classes"}
    decoded = dict.fromkeys(source.path for source in many)
    known = {
        source.path: truths(source.label, classes) if source.label else _of_sample(source.path, classes)
        for source in many
    }
    heads = [name for name in classes if all(name in truth for truth in known.values())]
    if classes and not heads and any(source.label for source in many):
        output.note("note: not every clip has a label that names a class, so no accuracy is measured")
    check, first, failed = Check(loaded, target=target, **given), None, dict[str, str]()
    ending: list[str] = []  # before the frames that the model predicts: taken only where all do, since one truth holds

    def perturb(source: str, batch: Any, after: dict[str, Any], done: int) -> None:
        nonlocal first
        truth = {name: torch.tensor([known[source][name]]) for name in heads}
        check.add(batch, truth | after, _part(line.step("perturbing"), done, len(decoded)))
        first = first or Spoiled(loaded, batch, fill=given["fill"], seed=given["seed"])

    with Line() as line:
        for done, source in enumerate(decoded):
            try:
                batch = zoo.preprocess(clips.decode(source, spec=spec.input, **part), loaded)
            except (ClipError, UnknownNameError) as error:
                failed[source] = str(error)
                output.note(f"warning: {source} is left out: {error}")
                continue
            after = _following(loaded, batch, source, part)
            if _predicts(loaded) and not after:
                ending.append(source)
            else:
                perturb(source, batch, after, done)
        if ending and first is None:
            output.note(_ENDING)
            for done, source in enumerate(ending):
                perturb(source, zoo.preprocess(clips.decode(source, spec=spec.input, **part), loaded), {}, done)
            ending = []
    for source in ending:
        failed[source] = "it ends before the frames that the model predicts"
        output.note(f"warning: {source} is left out: {failed[source]}")
    if first is None:
        raise ClipError(f"none of the {len(decoded)} clips can be used; {next(iter(failed.values()))}")
    return check.result(), first, failed


def _following(loaded: Any, batch: Any, clip: str, part: dict[str, Any]) -> dict[str, Any]:
    """What the outputs should be that predict the clip's next frames, by name, where the clip goes on for so long."""
    from zoo.models import prediction

    if not _predicts(loaded):
        return {}
    return prediction.following(loaded, prediction.outputs(loaded, batch), clip, **part)


def _predicts(loaded: Any) -> bool:
    """Whether an output predicts the frames that follow."""
    return any(one.follows for one in loaded.zoo_entry.outputs)


def _part(show: Progress, done: int, clips: int) -> Progress:
    """Progress through one clip as part of that through all."""
    return lambda part, whole: show(done * whole + part, clips * whole)


def _of_sample(path: str, classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The true class of each output that a bundled sample says; none of any other clip."""
    from explain.sources import shown, truths
    from zoo import clips

    if not path.startswith("sample:") or path not in clips.samples():
        return {}
    sample, index = clips.samples()[path]
    return truths(sample.labels[index], classes) | shown(sample.classes[index] if sample.classes else {}, classes)


def _table(result: Robustness) -> str:
    """A row a perturbation: where answers are lost, and what is left of everything at the strongest level."""
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
