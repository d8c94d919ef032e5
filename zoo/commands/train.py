"""`zoo train`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from zoo.commands.shared import options, output
from zoo.errors import UsageError
from zoo.names import is_pattern
from zoo.weights import digests


@click.command(
    cls=options.Examples,
    epilog="zoo train conv3d.blinking_mnist --out runs/conv3d\n"
    "zoo train 'conv3d*' convlstm.blinking_mnist --minutes 10    # say it again until all are finished\n"
    "torchrun --nproc-per-node 2 -m zoo train conv3d.blinking_mnist",
)
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the checkpoint, log and weights; of several recipes, the folder of their folders. "
    "[default: runs/RECIPE]",
)
@click.option("--from-weights", metavar="FILE|NAME", help="Start from this safetensors file or these trained weights.")
@click.option("--until", help="Stop after the stage of this name.")
@click.option(
    "--minutes",
    type=options.Amount(min=0),
    help="Stop with a checkpoint after so long, all recipes together; at least one step is made.",
)
@click.option(
    "--checkpoint-every",
    type=options.Amount(min=0),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="How often to replace the checkpoint.",
)
@click.option(
    "--evaluate-clips", type=options.Count(min=1), help="Measure on the first N clips of the test set.  [default: all]"
)
@click.option("--seed", type=int, help="Seed instead of the recipe's own.")
@options.device
@options.as_json
@click.pass_context
def train(
    context: click.Context,
    recipes: tuple[str, ...],
    out: Path | None,
    from_weights: str | None,
    until: str | None,
    minutes: float | None,
    checkpoint_every: float,
    evaluate_clips: int | None,
    seed: int | None,
    device: str,
    *,
    as_json: bool,
) -> None:
    """Train the weights that each RECIPE (architecture.tag, wildcards allowed) describes, one after the other.

    An interrupted run resumes and a finished one is skipped (or measured again if more clips
    are requested than before), so that the same command can be repeated until all is done. Under torchrun, the
    processes share every batch (gloo on the CPU, nccl on GPUs, a GPU each) with the gradients of one; on the CPU,
    BatchNorm takes each process's own clips. All read the same folder.
    """
    from zoo import devices
    from zoo.registry import catalog
    from zoo.training import parallel, runs

    several = len(recipes) > 1 or any(map(is_pattern, recipes))
    devices.keep_freed_memory()
    with parallel.joined(device) as place:
        if several and from_weights is not None:
            raise UsageError("--from-weights starts one recipe; name that one alone")
        chosen = runs.choose(recipes)
        if seed is not None:
            chosen = [dataclasses.replace(recipe, seed=seed) for recipe in chosen]
        parent = out or Path("runs")
        folders = [out if out is not None and not several else parent / recipe.name for recipe in chosen]
        outcomes = runs.train_all(
            chosen,
            folders,
            report=output.note,
            device=place,
            from_weights=runs.weights_file(from_weights) if from_weights else None,
            until=until,
            minutes=minutes,
            checkpoint_every=checkpoint_every,
            evaluate_clips=evaluate_clips,
        )
        first = parallel.rank() == 0
    if first:
        data = [dataclasses.asdict(outcome) for outcome in outcomes]
        lines = [[outcome.recipe, outcome.status, outcome.text] for outcome in outcomes]
        text = output.table(["recipe", "status", ""], lines) if several else ": ".join(map(str, lines[0][1:]))
        output.emit(data if several else data[0], text, as_json=as_json)
        known = {one.sha256 for listing in catalog.listings() for one in listing.entry.weights}
        for recipe, outcome in zip(chosen, outcomes, strict=True):
            if outcome.weights and digests.sha256_of(Path(outcome.weights)) not in known:
                package = recipe.build.partition(":")[0].partition(".")[0]
                output.note(
                    f"to list them: copy {recipe.name}.safetensors, .golden.safetensors and .json from "
                    f"{Path(outcome.weights).parent} into the folder weights of {package}, whose entries take "
                    f'zoo.bundled_weights("{package}")'
                )
        if any(outcome.status in ("stopped", "waiting") for outcome in outcomes):
            beyond = "" if until is None else ", and without --until beyond its stage"
            output.note(f"run the same command again to go on{beyond}")
    context.exit(1 if any(outcome.status == "failed" for outcome in outcomes) else 0)
