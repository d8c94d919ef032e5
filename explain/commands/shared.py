"""What several commands of `explain` share."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.commands.shared import options, output
from zoo.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from explain.attribution import Attribution
    from explain.progress import Line
    from explain.reporting.pages import Report

out = click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for the results; new, empty, or an earlier result."
)
target = click.option(
    "--target",
    metavar="HEAD|HEAD:CLASS|HEAD[T,Y,X]|LAYER/UNIT|LAYER/UNIT:max|all",
    help="What to explain. Of an output that is a clip, the mean of a region: 'output[3]' is frame 3, "
    "'output[3, 10:18, 4:12]' rows 10 to 17 and columns 4 to 11 of it, 'output[y=5, x=7]' a pixel in all frames. Of a "
    "unit, :max is the highest activation, else the mean. `explain attribute` and `explain report` take `all` for "
    "every output. [default: the first output's predicted class, its value, or the part of a clip that is farthest "
    "from what it should be]",
)
layer = click.option("--layer", help="Layer for the methods that look at one (see `explain fields MODEL`).")
steps = click.option(
    "--steps", default=32, show_default=True, type=options.Count(min=1), help="Steps of integrated gradients."
)

baseline = click.option(
    "--baseline",
    "baselines",
    multiple=True,
    metavar="zero|black|blur|mean_frame|NUMBER",
    help='What stands for "nothing there"; given again, for the methods that take the mean over several. [default: '
    "each method's own]",
)


def chosen_baseline(baselines: Sequence[str]) -> str | float | list[str | float] | None:
    """The baselines as they were given, numbers as such; None where there are none."""
    found = [_number_or_name(one) for one in baselines]
    return found if len(found) > 1 else found[0] if found else None


def _number_or_name(text: str) -> str | float:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text  # refused as no name, then


def opened(
    model: str,
    clip: str,
    weights: str,
    device: str,
    seed: int,
    dtype: str | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
    **numbers: Any,
) -> tuple[Any, Any, Any]:
    """The model, the clip as it was read, and the batch that the model takes of it.

    Args:
        model: A name of the zoo.
        clip: Where the clip is.
        weights: As `--weights` says.
        device: As in `zoo.load`.
        seed: Of everything drawn at random.
        dtype: As in `zoo.load`.
        start: Seconds of the clip at which to begin.
        end: Seconds at which to stop; None goes to the end.
        numbers: `num_classes` and `in_channels`, as in `zoo.load`.
    """
    import zoo
    from zoo import clips

    asked: dict[str, Any] = {"weights": options.resolve_weights(weights), "seed": seed, **numbers}
    loaded = zoo.load(model, device=device, dtype=dtype, **asked)
    decoded = clips.decode(clip, start=start, end=end, spec=clips.spec_of(loaded))
    if dtype is not None:
        from explain.reporting.reading import changed

        told = changed(loaded, decoded, model, **asked)
        decoded = dataclasses.replace(decoded, warnings=(*decoded.warnings, *filter(None, [told])))
    return loaded, decoded, zoo.preprocess(decoded, loaded)


def warn(written: Report) -> None:
    """Tell what a page could not show, and what its reader should know."""
    for problem in written.problems:
        output.note("warning: " + ": ".join(filter(None, (problem[key] for key in ("section", "plugin", "reason")))))
    for warning in written.warnings:
        output.note(f"warning: {warning}")


def targets_of(model: Any, batch: Any, asked: str | None) -> dict[str, Any]:
    """What is explained, by the name of its output; "" stands for a single target, as it was asked for."""
    if asked != "all":
        return {"": asked}
    from explain.model.targets import resolve
    from zoo.models.heads import output_specs
    from zoo.models.prediction import outputs

    heads = output_specs(model, outputs(model, batch))
    return {head if heads.keys() - {head} else "": resolve(model, batch, head=head) for head in heads}


def attributed(
    model: Any, batch: Any, methods: Sequence[str], line: Line, *, target: Any, **options: Any
) -> list[Attribution]:
    """Each method's answer, in their order; those that need no more than one pass share it, and the target is kept."""
    from explain.attribution import attribute
    from explain.attribution.methods import with_layer

    sharing = [name for name in methods if with_layer(name)[0].reads]
    found: dict[str, Attribution] = {}
    for names in ([sharing] if sharing else []) + [[name] for name in methods if name not in sharing]:
        progress = line.step(", ".join(names))
        try:
            results = attribute(model, batch, method=names, target=target, progress=progress, **options)
        except ModelError as error:
            raise ModelError(f"{error}; `explain methods MODEL` says which methods apply") from error
        found |= zip(names, results, strict=True)
        target = results[0].target
    return [found[name] for name in methods]
