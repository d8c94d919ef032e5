"""The command `zoo`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo import options, output
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.adaptation import Adapt
    from zoo.entries import ModelEntry, WeightsEntry


commands = options.program("zoo", "A zoo of video models: list them, load them, ask them about a clip.")


@commands.command("list", epilog="zoo list 'conv*'")
@click.argument("pattern", default="*")
@click.option("--pretrained", is_flag=True, help="Only models with trained weights.")
@click.option("--plugin", help="Only models of this plugin or distribution.")
@options.as_json
def list_(pattern: str, plugin: str | None, *, pretrained: bool, as_json: bool) -> None:
    """List models; PATTERN may hold wildcards."""
    from zoo import catalog

    rows: list[dict[str, Any]] = []
    for listing in catalog.select(pattern, plugin=plugin):
        entry = listing.entry
        tags = [weights.tag for weights in entry.weights]
        if tags or not pretrained:
            rows.append(
                {
                    "name": entry.name,
                    "tags": tags,
                    "default_tag": tags[0] if tags else None,
                    "plugin": listing.plugin.name,
                    "distribution": listing.plugin.distribution,
                    "summary": entry.summary,
                    "parameters": entry.parameters,
                    **_missing(entry),
                }
            )
    names = [row["name"] for row in rows]
    text = output.table(
        ["name", "weights", "parameters", "summary"],
        [
            [
                f"{row['distribution']}:{row['name']}" if names.count(row["name"]) > 1 else row["name"],
                ", ".join(tag + _to_download(row.get("to_download", {}).get(tag)) for tag in row["tags"]) or "-",
                row["parameters"],
                row["summary"],
            ]
            for row in rows
        ],
    )
    if not rows:
        everything = catalog.list_models()
        text = (
            f"no model matches {pattern!r}; `zoo list` shows all {len(everything)}"
            if everything
            else "no models: no plugin is installed and switched on (`zoo plugins` shows their state)"
        )
    output.emit(rows, text, as_json=as_json)


@commands.command(epilog="zoo info conv3d.blinking_mnist")
@click.argument("name")
@options.as_json
def info(name: str, *, as_json: bool) -> None:
    """Show everything the catalogue knows of one model."""
    from zoo import catalog
    from zoo.training import evaluation

    entry = catalog.info(name)
    data = _describe(entry)
    lines = [
        f"{entry.name}: {entry.summary}",
        f"parameters  {entry.parameters:,}",
        f"licence     {entry.licence}",
        f"paper       {entry.paper or '-'}",
        f"input       {entry.input.layout}, {entry.input.channels}, {entry.input.frames} frames of "
        f"{entry.input.size[1]} x {entry.input.size[0]} pixels, {entry.input.sampling} sampling",
    ]
    for head in entry.outputs:
        what = f"{len(head.labels)} classes: {_shortened(head.labels)}" if head.kind == "classes" else head.unit
        lines.append(f"output      {head.name}, {head.kind} {what}".rstrip())
    for weights in entry.weights:
        lines += [
            "",
            f"weights     {weights.tag}: {weights.bytes:,} bytes, {weights.licence}, recipe {weights.recipe or '-'}",
        ]
        lines += [f"sha256      {weights.sha256}{'...' if weights.is_foreign else ''}"]
        lines += [f"            not on this machine; downloaded on first use from {weights.source}"] * _is_missing(
            weights
        )
        count = None
        with suppress(ZooError):  # a damaged record is told by those who need it
            count = evaluation.clips_measured(weights)
        shown = "" if count is None else f" on {count:,} clip{'s' * (count != 1)}"
        lines += [f"metric      {m.dataset} {m.split}: {m.name} {m.value:g}{shown}" for m in weights.metrics]
    if not entry.weights:
        lines += ["", "weights     none trained; `--weights none` gives random ones"]
    for sample in entry.samples:
        lines += [
            "",
            f"samples     sample:{sample.name}, {len(sample.labels)} clips, {sample.licence}, {sample.source}",
        ]
        lines += [f"            sample:{sample.name}/{index}  {label}" for index, label in enumerate(sample.labels)]
    output.emit(data, "\n".join(lines), as_json=as_json)


@commands.command(epilog="zoo predict conv3d sample:blinking_mnist/3")
@click.argument("model")
@click.argument("clip")
@click.option("--top", default=5, show_default=True, type=options.Count(min=1), help="Classes to show for each head.")
@click.option("--start", default=0.0, help="Seconds into the video at which to begin.")
@click.option("--end", type=float, help="Seconds into the video at which to stop.")
@options.weights
@options.device
@options.seed
@options.as_json
def predict(
    model: str,
    clip: str,
    top: int,
    start: float,
    end: float | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Say what MODEL sees in CLIP: a video, an image, a folder of images, or sample:NAME."""
    from zoo import clips, loading, prediction

    loaded = loading.load(model, weights=options.resolve_weights(weights), device=device, seed=seed)
    decoded = clips.decode(clip, start=start, end=end, spec=clips.spec_of(loaded))
    predicted = prediction.predict(loaded, clips.preprocess(decoded, loaded), top=top)[0]
    report: Any = loaded.zoo_load_report
    data = {
        "model": report.name,
        "clip": decoded.source,
        "label": decoded.label,
        "conversion": clips.describe(decoded, clips.spec_of(loaded)),
        "warnings": list(decoded.warnings),
        "prediction": predicted,
    }
    lines = [f"{report.name} on {decoded.source}" + (f" ({decoded.label})" if decoded.label else "")]
    for name, head in predicted.items():
        if head["kind"] == "classes":
            best = ", ".join(f"{one['label']} {one['probability']:.1%}" for one in head["top"])
            lines.append(f"{name:<8}{best}")
        elif head["kind"] == "value":
            lines.append(f"{name:<8}{head['value']:.3f} {head['unit']}")
    for warning in decoded.warnings:
        output.note(f"warning: {warning}")
    output.emit(data, "\n".join(lines), as_json=as_json)


@commands.command(
    epilog="zoo load conv3d --device cpu\nzoo load 3t_resnet18 --weights resnet18.safetensors --adapt inflate"
)
@click.argument("model")
@click.option("--dtype", help="Floating-point type, such as bfloat16; as built by default.")
@click.option(
    "--adapt",
    type=click.Choice(["inflate"]),
    help="Take the convolutions of a 2D network's weights, with the same names, into the 3D ones of MODEL.",
)
@options.weights
@options.device
@options.seed
@options.as_json
def load(
    model: str,
    dtype: str | None,
    adapt: Adapt | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Load MODEL and print the load report: what was taken, changed, left and initialised."""
    from zoo import loading

    loaded = loading.load(
        model, weights=options.resolve_weights(weights), device=device, dtype=dtype, adapt=adapt, seed=seed
    )
    report: Any = loaded.zoo_load_report
    data = dataclasses.asdict(report)
    lines = [
        f"{name:<13}{'-' if value in (None, '') else value}" for name, value in data.items() if "_names" not in name
    ]
    if report.taken:  # where nothing was taken, everything is random
        lines += _grouped("left in the file", report.left_names)
        lines += _grouped("initialised", report.initialised_names)
    output.emit(data, "\n".join(lines), as_json=as_json)


def _grouped(title: str, names: tuple[str, ...]) -> list[str]:
    """Names of tensors under a title, those of modules that are alike together; nothing for no names."""
    tensors: dict[str, list[str]] = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        tensors.setdefault(module, []).append(tensor)
    modules: dict[str, list[str]] = {}
    for module, found in tensors.items():
        modules.setdefault(", ".join(found), []).append(module or "the model itself")
    lines = [f"{found} of {', '.join(alike)}" for found, alike in modules.items()]
    wrapped = [textwrap.wrap(line, 100, initial_indent="  ", subsequent_indent="    ") for line in lines]
    return ["", f"{title}:", *itertools.chain(*wrapped)] if names else []


@commands.command(epilog="zoo verify conv3d.blinking_mnist")
@click.argument("pattern", default="*")
@options.as_json
@click.pass_context
def verify(context: click.Context, pattern: str, *, as_json: bool) -> None:
    """Hash weights again and recompute their golden outputs: one model, or all that match PATTERN."""
    from zoo import catalog, verification

    done = verification.verify_all(pattern) if catalog.is_pattern(pattern) else [verification.verify(pattern)]
    rows = [
        [result.model, check.name, "ok" if check.passed else "FAILED", check.detail]
        for result in done
        for check in result.checks
    ]
    data = [{**dataclasses.asdict(result), "passed": result.passed} for result in done]
    output.emit(data, output.table(["weights", "check", "result", "detail"], rows), as_json=as_json)
    context.exit(0 if all(result.passed for result in done) else 1)


@commands.command(epilog="ZOO_DATA=~/data zoo evaluate conv3d\nzoo evaluate conv3d --clips 500 --out conv3d.json")
@click.argument("model")
@click.option("--clips", type=options.Count(min=1), help="Measure the first N clips of the test set.  [default: all]")
@click.option("--recipe", help="Evaluate as this recipe does; by default the one that made the weights.")
@click.option("--out", type=click.Path(path_type=Path), help="Store the evaluation in this JSON file as well.")
@options.weights
@options.device
@options.seed
@options.as_json
def evaluate(
    model: str,
    clips: int | None,
    recipe: str | None,
    out: Path | None,
    weights: str,
    device: str,
    seed: int,
    *,
    as_json: bool,
) -> None:
    """Measure MODEL on its recipe's fixed test set, as the metrics in its entry were measured."""
    from zoo import devices
    from zoo.training import evaluation
    from zoo.writing import check_writable, write

    if out is not None:
        if out.suffix != ".json":  # nor may a slip of the pen replace a weights file
            raise UsageError(f"--out {out}: an evaluation is stored as JSON; give a name that ends in .json")
        evaluation.check_replaceable(out)
        check_writable(out)
    devices.keep_freed_memory()
    measured = evaluation.evaluate(
        model, recipe=recipe, weights=options.resolve_weights(weights), device=device, clips=clips, seed=seed
    )
    output.emit(measured, _evaluation_text(measured), as_json=as_json)
    if out is not None:
        write(out, json.dumps(output.plain(measured), indent=1) + "\n")
        output.note(f"wrote {out}")


def _evaluation_text(measured: dict[str, Any]) -> str:
    """The metrics of an evaluation, and every table of its breakdown."""
    count = measured["clips_measured"]
    shown = "" if count is None else f" on {count:,} clip{'s' * (count != 1)}"
    rows = [
        [metric["dataset"], metric["split"], metric["name"], _figure(metric["value"])] for metric in measured["metrics"]
    ]
    parts = [
        f"{measured['model']}, measured{shown} as recipe {measured['measured_as']} says",
        output.table(["dataset", "split", "metric", "value"], rows),
    ]
    for name, table in measured["breakdown"].items():
        columns = list(dict.fromkeys(column for row in table for column in row))
        parts += [f"by {name}", output.table(columns, [[_figure(row.get(one)) for one in columns] for row in table])]
    return "\n\n".join(parts)


def _figure(value: object) -> object:
    """A cell: figures to four digits, so that columns align."""
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else value


@commands.command(epilog="zoo plugins --json")
@options.as_json
def plugins(*, as_json: bool) -> None:
    """List plugins, their state, and the hooks they implement."""
    from zoo import catalog
    from zoo.plugins import registry

    models = catalog.listings()  # a broken entry shows only when its hook is called
    rows = [
        {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": plugin.status,
            "reason": plugin.reason,
            "hooks": plugin.hooks,
            "models": [listing.entry.name for listing in models if listing.plugin is plugin],
        }
        for plugin in registry().plugins
    ]
    text = output.table(
        ["plugin", "distribution", "version", "status", "models", "reason"],
        [
            [row["name"], row["distribution"], row["version"], row["status"], len(row["models"]), row["reason"]]
            for row in rows
        ],
    )
    output.emit(rows, text if rows else "no plugins are installed", as_json=as_json)


@commands.command(
    epilog="zoo train conv3d.blinking_mnist --out runs/conv3d\n"
    "zoo train 'conv3d*' convlstm.blinking_mnist --minutes 10    # say it again until all are finished\n"
    "torchrun --nproc-per-node 2 -m zoo train conv3d.blinking_mnist"
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

    A run goes on where it was stopped or killed, and a finished one is left alone (or measured again where more clips
    are asked for than before), so that the same command can be repeated until all is done. Under torchrun, its
    processes share every batch (gloo on the CPU, nccl on GPUs, a GPU each) with the gradients of one; on the CPU,
    BatchNorm takes each process's own clips. All read the same folder.
    """
    from zoo import catalog, devices
    from zoo.training import parallel, runs

    several = len(recipes) > 1 or any(map(catalog.is_pattern, recipes))
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
        if any(outcome.status in ("stopped", "waiting") for outcome in outcomes):
            beyond = "" if until is None else ", and without --until beyond its stage"
            output.note(f"run the same command again to go on{beyond}")
    context.exit(1 if any(outcome.status == "failed" for outcome in outcomes) else 0)


@commands.command(epilog="ZOO_DATA=~/data zoo data mnist")
@click.argument("dataset", type=click.Choice(["mnist"]))
@options.as_json
def data(dataset: str, *, as_json: bool) -> None:
    """Download a training data set into $ZOO_DATA, or the user's data folder, and check it."""
    from zoo.datasets import digits

    folder = digits.download(report=output.note)
    output.emit({"dataset": dataset, "folder": str(folder)}, f"{folder} holds {dataset}, checked", as_json=as_json)


def _is_missing(weights: WeightsEntry) -> bool:
    """Whether the file would have to be downloaded."""
    from zoo import foreign

    return weights.is_foreign and foreign.find(weights) is None


def _missing(entry: ModelEntry) -> dict[str, dict[str, int]]:
    """Bytes to download by tag, where an entry has weights from elsewhere."""
    if not any(weights.is_foreign for weights in entry.weights):
        return {}
    return {"to_download": {weights.tag: weights.bytes for weights in entry.weights if _is_missing(weights)}}


def _to_download(size: int | None) -> str:
    return "" if size is None else f" (download, {size / 2**20:.3g} MiB)"


def _describe(entry: ModelEntry) -> dict[str, Any]:
    """An entry as JSON; weights say `license`, the term of the Hub."""
    data = dataclasses.asdict(entry)
    data["license"] = data.pop("licence")
    data["weights"] = [_describe_weights(weights) for weights in entry.weights]
    data["samples"] = [
        {
            "name": f"sample:{sample.name}",
            "labels": list(sample.labels),
            "license": sample.licence,
            "source": sample.source,
        }
        for sample in entry.samples
    ]
    return data


def _describe_weights(weights: WeightsEntry) -> dict[str, Any]:
    return {
        "tag": weights.tag,
        "source": weights.source,
        "bytes": weights.bytes,
        "sha256": weights.sha256,
        "license": weights.licence,
        "recipe": weights.recipe,
        "record": weights.record,
        "metrics": [dataclasses.asdict(metric) for metric in weights.metrics],
        **({"to_download": _is_missing(weights)} if weights.is_foreign else {}),
    }


def _shortened(labels: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(labels[:most]) + (", ..." if len(labels) > most else "")


def main() -> None:
    """Run the command line."""
    output.run(commands)
