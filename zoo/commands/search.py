"""`zoo search`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.commands.shared import options, output

if TYPE_CHECKING:
    from zoo.training.search import Found


@click.command(
    cls=options.Examples,
    epilog="zoo search sequence_convlstm_k16.denoised --trials 20\n"
    "zoo search sequence_convlstm.denoised --trials 200 --minutes 60 --out search    # say it again until all are done",
)
@click.argument("recipe")
@click.option("--trials", required=True, type=options.Count(min=1, max=100_000), help="Trials there are to be in all.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the trials and results.  [default: runs/RECIPE-search]"
)
@click.option(
    "--minutes", type=options.Amount(min=0), help="Stop with a checkpoint after so long; at least one step is made."
)
@click.option(
    "--evaluate-clips",
    type=options.Count(min=1),
    help="Measure trials on the first N clips of the test set.  [default: all]",
)
@options.device
@options.seed
@options.as_json
def search(
    recipe: str,
    trials: int,
    out: Path | None,
    minutes: float | None,
    evaluate_clips: int | None,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Train variants of RECIPE, with settings that Optuna's TPE sampler draws from what may vary, and compare them.

    A trial worse than the median of earlier trials after a quarter or half of its steps is pruned.

    An interrupted search resumes when the same command is run again; more --trials are added to the
    existing ones. The folder keeps each trial's weights, search.json, and a figure of the results.
    """
    from zoo import devices
    from zoo.registry import catalog
    from zoo.training import search as searching

    devices.keep_freed_memory()
    folder = out or Path("runs") / f"{recipe}-search"
    found = searching.search(
        catalog.recipe(recipe),
        folder,
        trials=trials,
        seed=seed,
        device=devices.resolve(device),
        minutes=minutes,
        evaluate_clips=evaluate_clips,
        report=output.note,
    )
    output.emit({**asdict(found), "folder": str(folder)}, _text(found, folder), as_json=as_json)
    if sum(one.status != "stopped" for one in found.trials) < trials:
        output.note("run the same command again to go on")


def _text(found: Found, folder: Path) -> str:
    """Format groups of trials, and the best one."""
    metrics = list(dict.fromkeys([found.metric, *(name for group in found.groups for name in group.spread)]))
    header = [found.compared.rpartition(".")[2], "trials", "collapsed", "failed"]
    header += [f"{metric}: {what}" for metric in metrics for what in ("best", "median")]
    rows = [
        [
            str(group.value),
            group.finished,
            group.collapsed,
            group.failed,
            *(
                f"{group.spread[metric][what]:.4g}" if metric in group.spread else "-"
                for metric in metrics
                for what in ("best", "median")
            ),
        ]
        for group in found.groups
    ]
    parts = [output.table(header, rows)]
    if found.best is not None:
        best = found.trials[found.best]
        settings = "\n".join(f"  {place}: {value}" for place, value in best.settings.items())
        parts.append(f"best: trial {best.number}, {found.metric} {best.metrics[found.metric]:.4g}\n{settings}")
    parts.append(f"results in {folder}")
    return "\n\n".join(parts)
