"""`explain maximize`."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import click

from explain.commands import shared
from zoo.commands.shared import options, output

#: Names of regularizers (`explain.maximization.objectives`), which imports torch.
PENALTIES = ("total_variation", "flicker", "contrast")


class Units(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on alone
    """Units of a layer: one, a range, or all."""

    name = "units"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int] | str:
        """Parse unit numbers, or "all"."""
        if value == "all":
            return "all"
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(value), re.ASCII)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if last < first or last - first > 100_000:
            self.fail(f"{value!r} is no unit; expected a number (3), a range (0-15) or all.", param, ctx)
        return list(range(first, last + 1))


class Penalty(click.ParamType):  # type: ignore[type-arg]  # as above
    """A regularizer and its weight."""

    name = "penalty"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Parse a name and a number."""
        name, _, weight = str(value).partition("=")
        if name not in PENALTIES:
            self.fail(f"unknown penalty {name!r}; known: {', '.join(PENALTIES)}", param, ctx)
        try:
            number = float(weight or "1")
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{weight!r} is no weight; expected a number, such as {name}=0.5", param, ctx)
        return name, number


@click.command(
    cls=options.Examples,
    epilog="explain maximize conv3d --layer body.res4_4 --unit 3 --unit 7 --out units\n"
    "explain maximize conv3d --layer body.res4_4 --unit 0-7 --clips 'sample:blinking_mnist/*' --out units\n"
    "explain maximize conv3d --target digit:7 --copies 3 --out seven",
)
@click.argument("model")
@click.option("--layer", help="Layer of the units (see `explain fields MODEL`).")
@click.option(
    "--unit",
    "--units",
    "units",
    multiple=True,
    type=Units(),
    metavar="N|N-M|all",
    help="Unit of the layer, or several; may be given again.",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS|HEAD:CLASS|VALUE|HEAD[T,Y,X]",
    help="Class, value or region of an output clip to raise instead of a layer's units; may be given again.",
)
@click.option("--steps", default=256, show_default=True, type=options.Count(min=1), help="Steps of the optimisation.")
@click.option(
    "--parametrization",
    default="fourier3d",
    show_default=True,
    metavar="fourier3d|fourier2d|pixel",
    help="What is optimised: a clip's spectrum, that of one image shown in every frame, or a clip's pixels.",
)
@click.option(
    "--transform",
    "transforms",
    multiple=True,
    metavar="jitter|scale|rotation|none",
    help="Random change of the clip at every step; may be given again.  [default: all three]",
)
@click.option(
    "--penalty",
    "penalties",
    multiple=True,
    type=Penalty(),
    metavar="|".join(PENALTIES) + "=WEIGHT",
    help="Subtract differences of neighbouring pixels, of neighbouring frames, or from grey; may be given again.",
)
@click.option(
    "--copies", default=1, show_default=True, type=options.Count(min=1), help="Clips for each unit or target."
)
@click.option(
    "--decorrelate/--no-decorrelate",
    default=True,
    help="Whether red, green and blue vary together as in real pictures.  [default: they do]",
)
@click.option("--clips", help="Folder or list file: find the clips in it that activate the units most, too.")
@click.option("--top", default=4, show_default=True, type=options.Count(min=1), help="Clips to find for each unit.")
@shared.out
@options.cut
@options.weights
@options.num_classes
@options.in_channels
@options.device
@options.seed
@options.as_json
def maximize(
    model: str,
    layer: str | None,
    units: tuple[list[int] | str, ...],
    targets: tuple[str, ...],
    steps: int,
    parametrization: str,
    transforms: tuple[str, ...],
    penalties: tuple[tuple[str, float], ...],
    copies: int,
    clips: str | None,
    top: int,
    out: Path | None,
    start: float,
    end: float | None,
    weights: str,
    num_classes: int | dict[str, int] | None,
    in_channels: int | None,
    device: str,
    seed: int,
    *,
    decorrelate: bool,
    as_json: bool,
) -> None:
    """Synthesize clips that maximize units of MODEL, or an output; --clips finds top-activating clips as well.

    --out saves a page, animations, and results that `.load` reads.
    """
    from explain.reporting import writing

    wanted = _wanted(layer, units, targets, clips)
    if out is not None:
        writing.check(out, "maximization")

    import explain
    import zoo
    from explain.maximization.objectives import REGULARISERS, logit
    from explain.maximization.parametrizations import find_parametrization
    from explain.maximization.top_activating import named
    from explain.maximization.transforms import find_transform
    from explain.progress import Line

    find_parametrization(parametrization)
    find_transform(transforms)
    if clips is None and (start or end is not None):
        raise click.UsageError("--start and --end cut the clips of --clips; name a folder or a list")
    if clips is not None:
        named(clips)  # fail before clips are synthesized
    loaded = zoo.load(
        model,
        weights=options.resolve_weights(weights),
        num_classes=num_classes,
        in_channels=in_channels,
        device=device,
        seed=seed,
    )
    extra = [-weight * REGULARISERS[name]() for name, weight in penalties]
    raised = [logit(int(target) if target.isdecimal() else target) for target in targets]
    real = None
    with Line() as line:
        result = explain.maximize(
            loaded,
            layer,
            wanted,
            steps=steps,
            parametrization=parametrization,
            transforms=list(transforms) or "default",
            seed=seed,
            objective=[sum(extra, start=one) for one in raised] or (sum(extra[1:], start=extra[0]) if extra else None),
            copies=copies,
            decorrelate=decorrelate,
            progress=line.step(f"maximising {layer or ', '.join(targets)}"),
        )
        if clips is not None and layer is not None:
            numbers = [unit for unit in dict.fromkeys(result.units) if isinstance(unit, int)]
            real = explain.top_clips(
                loaded,
                layer,
                numbers,
                clips,
                count=top,
                start=start,
                end=end,
                progress=line.step("looking at clips"),
            )
    from explain.reporting.topics import maximization

    told = maximization.rows(result, real)
    if out is not None:
        written = maximization.write(out, loaded, result, name=model, top=real)
        output.note(f"wrote {written.page}")
    for clip, reason in real.problems if real else ():
        output.note(f"warning: left out {clip}: {reason}")
    table = output.table(
        ["what", "at the start", "at the end"],
        [[row["name"], f"{row['initial']:.3g}", f"{row['activation']:.3g}"] for row in told],
    )
    found = [
        [row["name"], clip["clip"], f"{clip['mean']:.3g}", f"{clip['highest']:.3g}", clip["moment"]]
        for row in told[::copies]
        for clip in row.get("clips", [])
    ]
    if found:
        table += "\n\n" + output.table(["what", "clip", "mean", "highest", "at"], found)
    output.emit(told, table, as_json=as_json)


def _wanted(layer: str | None, units: tuple[list[int] | str, ...], targets: tuple[str, ...], clips: str | None) -> Any:
    """Return units without duplicates, "all", or none if outputs are maximized.

    Raises:
        UsageError: Neither units of a layer nor outputs are specified, or both.
    """
    if targets:
        if layer is not None or units:
            raise click.UsageError("--target raises an output; leave out --layer and --unit, or --target")
        if clips is not None:
            raise click.UsageError("--clips finds clips for units: name them with --layer and --unit")
        return ()
    if layer is None or not units:
        raise click.UsageError("name units with --layer LAYER --unit UNIT, or an output with --target TARGET")
    if "all" in units:
        return "all"
    return list(dict.fromkeys(unit for several in units for unit in several))
