"""`zoo search`: Optuna over the settings that a recipe names; trials in a folder, each a training run of its own.

Settings come from Optuna's TPE sampler; its median pruner ends a trial whose metric, measured after a quarter and half
of the steps, is worse than the median of the trials before. The folder holds `trials.db` (Optuna's storage), a run's
folder for each trial, `search.json` with all results, and `figure.svg`. A search that was killed continues in the
middle of a trial, from that trial's checkpoint.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from zoo.entries.recipes import Recipe, Search, Stage
from zoo.errors import DivergedError, OutputError, TrainingError, UnknownNameError, UsageError
from zoo.training import checkpoints
from zoo.training.evaluation import CONSTANT
from zoo.writing import write

if TYPE_CHECKING:  # optional, or imported only where a trial is trained
    import optuna
    from torch import nn

STORAGE: Final = "trials.db"
RESULTS: Final = "search.json"
FIGURE: Final = "figure.svg"
#: Parts of a trial's steps after which the pruner compares it with the others.
RUNGS: Final = (0.25, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run with its own settings."""

    number: int
    #: "finished", "pruned" (behind the other trials on the way), "failed" (training diverged, or memory ran out), or
    #: "stopped" on the way.
    status: str
    #: Drawn settings, by place.
    settings: Mapping[str, Any]
    #: The metrics of the search, by name.
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    #: Whether the first metric is no better than that of the best constant answer.
    collapsed: bool = False
    #: Of training.
    seconds: float | None = None
    #: The message of a failed trial.
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The trials with one value of the setting compared."""

    value: Any
    #: Finished ones; of these, those that collapsed; those that failed; and those that were pruned.
    finished: int
    collapsed: int
    failed: int
    pruned: int = 0
    #: By metric, of finished trials that did not collapse: best, lower quartile, median, upper quartile, worst.
    spread: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Current results of a search."""

    recipe: str
    seed: int
    #: Name of the metric that ranks, and whether more of all metrics is better.
    metric: str
    maximize: bool
    space: Mapping[str, Mapping[str, Any]]
    trials: Sequence[Trial]
    #: Number of the best trial; None if none is finished.
    best: int | None
    #: Of the setting compared: its place, and a group for each of its values.
    compared: str
    groups: Sequence[Group]


def search(
    recipe: Recipe,
    folder: Path,
    *,
    trials: int,
    seed: int = 0,
    device: str = "cpu",
    minutes: float | None = None,
    evaluate_clips: int | None = None,
    report: Callable[[str], None] | None = None,
) -> Found:
    """Train variants of a recipe until there are `trials` of them in the folder, and return all results.

    The same seed gives the same trials, however often the search is stopped on the way.

    Args:
        recipe: One that names what a search may vary.
        folder: Of this search alone.
        trials: How many there are to be in the end.
        seed: Of what is drawn.
        device: As in `zoo.load`.
        minutes: For this call; at least one step is made.
        evaluate_clips: Measure trials on the first so many clips of the test set; None is all.
        report: Takes a line for each trial that ends.

    Raises:
        UsageError: if the recipe names nothing to vary, or Optuna is not installed.
        TrainingError: if the folder belongs to another search, another one is on there, or its storage or the record
            of a trial is damaged.
        OSError, OutputError: if it cannot be written.
    """
    of = recipe.search
    if of is None:
        raise UsageError(f"recipe {recipe.name} does not say what a search may vary (its field `search`)")
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if folder.is_file():
        raise UsageError(f"{folder} is a file; expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.held(folder), _opened(recipe, folder, seed, evaluate_clips) as study:
        begun = False
        for number in range(trials):
            own = folder / name_of(number)
            if number < len(study.trials) and study.trials[number].state.is_finished():
                (own / checkpoints.CHECKPOINT).unlink(missing_ok=True)  # a killed search may have left it
                continue
            if begun and time.monotonic() >= ends:
                break
            begun = True
            trial = _drawn(study, of, seed, number)
            left = None if minutes is None else max(0.0, (ends - time.monotonic()) / 60)
            ended = _run(study, trial, applied(recipe, trial.params, number), own, device, left, evaluate_clips)
            found = _write(recipe.name, of, study, folder, seed)
            if not ended:
                break
            (own / checkpoints.CHECKPOINT).unlink(missing_ok=True)  # several times the size of the weights
            if report is not None:
                report(_line(found.trials[number], of))
        found = _write(recipe.name, of, study, folder, seed)
    write(folder / FIGURE, draw(found))
    return found


def name_of(number: int) -> str:
    """Return the folder of a trial."""
    return f"trial-{number:04d}"


def applied(recipe: Recipe, settings: Mapping[str, Any], number: int = 0) -> Recipe:
    """Return the recipe with settings, by place, applied; each number has another seed.

    Raises:
        UnknownNameError: if a place does not exist.
    """
    arguments, header = dict(recipe.arguments), dict(recipe.header)
    stages = {stage.name: stage for stage in recipe.stages}
    for place, value in settings.items():
        name, _, setting = place.partition(".")
        if name == "arguments" and setting:
            arguments[setting] = value
            header["arguments"] = {**header.get("arguments", {}), setting: value}
        elif name in stages and setting:
            stages[name] = _varied(stages[name], setting, value)
        else:
            raise UnknownNameError("place of a setting", place, [f"{one}.{setting}" for one in ("arguments", *stages)])
    return replace(
        recipe,
        arguments=arguments,
        header=header,
        stages=tuple(stages.values()),
        seed=recipe.seed + 1_000_000 * number,
    )


def _varied(stage: Stage, setting: str, value: Any) -> Stage:
    group, _, name = setting.partition(".")
    if group == "arguments" and name:
        return replace(stage, arguments={**stage.arguments, name: value})
    if setting not in asdict(stage):
        raise UnknownNameError(f"setting of stage {stage.name!r}", setting, asdict(stage))
    if setting == "batch_size":
        return replace(stage, batch_size=value, steps=max(1, round(stage.steps * stage.batch_size / value)))
    fields: dict[str, Any] = {setting: value}
    return replace(stage, **fields)


@contextmanager
def _opened(recipe: Recipe, folder: Path, seed: int, clips: int | None) -> Iterator[optuna.Study]:
    """Load the folder's study, of this very search."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            "a search needs Optuna, which is not installed; run `pip install 'motion-zoo[search]'`"
        ) from error
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = folder / STORAGE
    damaged = f"{path} is not the storage of a search, or damaged; choose another folder, or delete it"
    of = asdict(recipe.search) if recipe.search else {}
    own = json.loads(json.dumps({**recipe.to_dict(), "search": of, "seed": seed, "clips": clips}))
    del own["summary"]
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
    except OperationalError as error:  # the disk is full, or takes no files
        raise OutputError(f"cannot write {path}: {error.orig}") from error
    except Exception as error:  # database drivers can raise anything on a file that is not a database
        raise TrainingError(damaged) from error
    try:
        known = optuna.get_all_study_names(storage)
        if known and known != [recipe.name]:
            raise TrainingError(
                f"{folder} holds a search of {', '.join(known)}, not of {recipe.name}; {checkpoints.ANEW}"
            )
        study = optuna.create_study(
            storage=storage,
            study_name=recipe.name,
            direction="maximize" if of.get("maximize") else "minimize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )
        before = study.user_attrs.get("search", own)
        study.set_user_attr("search", before)
        if changed := [_changed(name, before.get(name), own[name]) for name in own if before.get(name) != own[name]]:
            raise TrainingError(
                f"{folder} holds a search of another {recipe.name} ({', '.join(changed)}); {checkpoints.ANEW}"
            )
        yield study
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if isinstance(cause, OperationalError):
            raise OutputError(f"cannot write {path}: {cause.orig}") from error
        raise TrainingError(damaged) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _changed(name: str, before: Any, now: Any) -> str:
    """Describe a difference between two searches; for requested numbers, with both values."""
    asked = {"seed": "--seed", "clips": "--evaluate-clips"}
    if name not in asked:
        return name
    return f"{asked[name]} {'all' if before is None else before}, now {'all' if now is None else now}"


def _drawn(study: optuna.Study, of: Search, seed: int, number: int) -> optuna.Trial:
    """Return the trial of a number, with all its settings.

    Each setting has a seed of its own, so that a search killed between two of them draws the others as it would have.
    """
    import optuna

    if number == len(study.trials):
        study.ask()
    trial = optuna.Trial(study, study.trials[number]._trial_id)  # noqa: SLF001 (Optuna gives a trial no other way back)
    for place, span in of.space.items():
        digest = sha256(f"{seed}/{number}/{place}".encode()).digest()
        study.sampler = optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4], "big"))
        if span.low is None or span.high is None:
            trial.suggest_categorical(place, span.choices)
        elif isinstance(span.low, int) and isinstance(span.high, int):
            trial.suggest_int(place, span.low, span.high, log=span.log)
        else:
            trial.suggest_float(place, span.low, span.high, log=span.log)
    return trial


def _run(
    study: optuna.Study,
    trial: optuna.Trial,
    recipe: Recipe,
    folder: Path,
    device: str,
    minutes: float | None,
    clips: int | None,
) -> bool:
    """Train and measure one trial, and store how it ended; False where time was over before."""
    from optuna import TrialPruned
    from optuna.trial import TrialState

    from zoo import devices
    from zoo.training import finalizing, loop

    wanted = recipe.search.metrics[0] if recipe.search else ""
    rungs = {max(1, round(part * recipe.steps)): rung for rung, part in enumerate(RUNGS)}

    def watch(module: nn.Module, step: int) -> None:
        rung = rungs.get(step)
        if rung is None:
            return
        value = finalizing.measured_in_training(recipe, module, clips=clips).get(wanted)
        if value is None or not math.isfinite(value):
            return  # the training loop reports where training diverged
        if rung not in study.trials[trial.number].intermediate_values:  # a killed search has reported it already
            trial.report(value, rung)
        if trial.should_prune():
            raise TrialPruned

    try:
        path = checkpoints.finished(recipe, folder, clips=clips) or loop.train(
            recipe, folder, device=device, minutes=minutes, evaluate_clips=clips, progress=False, watch=watch
        )
        if path is None:
            return False
        metrics, _, _ = _read(path.with_suffix(".json"))
        if wanted not in metrics:
            raise UsageError(
                f"the evaluation of {recipe.name} gives no metric {wanted!r}, by which its search ranks trials; "
                f"it gives {', '.join(metrics)}"
            )
        if metrics[wanted] is not None:
            study.tell(trial, metrics[wanted])
            return True
        reason = f"{wanted} is no finite number"
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
        return True
    except DivergedError as error:
        reason = str(error)
    except (RuntimeError, MemoryError) as error:
        if not devices.is_out_of_memory(error):
            raise
        reason = f"memory ran out: {error}"
    trial.set_user_attr("error", reason)
    study.tell(trial, state=TrialState.FAIL)
    return True


def _read(path: Path) -> tuple[dict[str, float | None], list[dict[str, Any]], float | None]:
    """Return metrics by name, rows of constant answers and training seconds from the record of a finished trial.

    Raises:
        TrainingError: if it is missing or damaged.
    """
    try:
        record = json.loads(path.read_text())
        return (
            {metric["name"]: metric["value"] for metric in record["metrics"]},
            record["breakdown"].get(CONSTANT, []),
            record["log"][-1]["seconds"] if record["log"] else None,
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}, the record of a trial that finished, is missing or damaged; "
            "put it back, or search in another folder"
        ) from error


def _trial(name: str, of: Search, study: optuna.Study, frozen: optuna.trial.FrozenTrial, folder: Path) -> Trial:
    number, value = frozen.number, frozen.value
    given: dict[str, Any] = {"number": number, "settings": {place: frozen.params.get(place) for place in of.space}}
    if frozen.state.name != "COMPLETE" or value is None:
        status = {"FAIL": "failed", "PRUNED": "pruned"}.get(frozen.state.name, "stopped")
        error = frozen.user_attrs.get("error", study.user_attrs.get(f"error {number}"))  # the second by version 0.1
        return Trial(**given, status=status, error=error)
    metrics, constant, seconds = _read(folder / name_of(number) / f"{name}.json")
    known = [row[of.metrics[0]] for row in constant if row.get(of.metrics[0]) is not None]
    best = (max if of.maximize else min)(known, default=value)
    return Trial(
        **given,
        status="finished",
        metrics={name: metrics.get(name) for name in of.metrics},
        collapsed=bool(known) and (value <= best if of.maximize else value >= best),
        seconds=seconds,
    )


def _write(name: str, of: Search, study: optuna.Study, folder: Path, seed: int) -> Found:
    """Collect what is there, and write it."""
    trials = [_trial(name, of, study, frozen, folder) for frozen in study.trials]
    good = [one for one in trials if one.status == "finished" and not one.collapsed]
    better = max if of.maximize else min
    best = better(good, key=lambda one: one.metrics[of.metrics[0]] or 0.0, default=None)
    found = Found(
        recipe=name,
        seed=seed,
        metric=of.metrics[0],
        maximize=of.maximize,
        space={place: asdict(span) for place, span in of.space.items()},
        trials=trials,
        best=None if best is None else best.number,
        compared=of.compared,
        groups=[_group(trials, of, value) for value in of.space[of.compared].choices],
    )
    write(folder / RESULTS, json.dumps(asdict(found), indent=1) + "\n")
    return found


def _group(trials: Sequence[Trial], of: Search, value: Any) -> Group:
    own = [one for one in trials if one.settings[of.compared] == value]
    statuses = [one.status for one in own]
    return Group(
        value=value,
        finished=statuses.count("finished"),
        collapsed=sum(one.collapsed for one in own),
        failed=statuses.count("failed"),
        pruned=statuses.count("pruned"),
        spread={name: _spread(values, maximize=of.maximize) for name in of.metrics if (values := values_of(own, name))},
    )


def values_of(trials: Sequence[Trial], metric: str) -> list[float]:
    """Return a metric of the trials that finished and did not collapse."""
    found = [one.metrics.get(metric) for one in trials if one.status == "finished" and not one.collapsed]
    return [value for value in found if value is not None]


def _spread(values: Sequence[float], *, maximize: bool) -> dict[str, float]:
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    best, worst = sorted((min(values), max(values)), reverse=maximize)
    return {"best": best, "lower quartile": low, "median": middle, "upper quartile": high, "worst": worst}


def _line(trial: Trial, of: Search) -> str:
    """Format a line for a trial that ended."""
    settings = ", ".join(
        f"{place.rpartition('.')[2]} {f'{value:.4g}' if isinstance(value, float) else value}"
        for place, value in trial.settings.items()
    )
    if trial.status != "finished":
        return f"trial {trial.number} {trial.status} ({settings})" + (f": {trial.error}" if trial.error else "")
    collapsed = ", no better than a constant answer" if trial.collapsed else ""
    return f"trial {trial.number}: {of.metrics[0]} {trial.metrics[of.metrics[0]]:.4g}{collapsed} ({settings})"


def draw(found: Found) -> bytes:
    """Draw an SVG with a chart for each metric: quartiles, median and every trial; deterministic to the byte."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys([found.metric, *(name for group in found.groups for name in group.spread)]))
    setting = found.compared.rpartition(".")[2].replace("_", " ")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "motion-zoo", "font.size": 9}):
        drawn = Figure(figsize=(5.4 * len(metrics), 3.8), layout="constrained")
        for axes, metric in zip(drawn.subplots(1, len(metrics), squeeze=False).flat, metrics, strict=True):
            values: list[float] = []
            labels = []
            for at, group in enumerate(found.groups, start=1):
                own = values_of([one for one in found.trials if one.settings[found.compared] == group.value], metric)
                values += own
                if own:
                    axes.boxplot([own], positions=[at], widths=0.55, showfliers=False)
                    axes.plot([at] * len(own), own, ".", color="tab:blue", alpha=0.5, markersize=4)
                counts = {"collapsed": group.collapsed, "failed": group.failed, "pruned": group.pruned}
                lines = [str(group.value).replace("_", " "), f"{len(own)} trial{'s' * (len(own) != 1)}"]
                labels.append("\n".join([*lines, *(f"{count} {what}" for what, count in counts.items() if count)]))
            axes.set_xticks(range(1, len(labels) + 1), labels)
            axes.set_xlim(0.4, len(labels) + 0.6)
            if values and min(values) > 0:
                axes.set_yscale("log")
            axes.set_title(metric, loc="left")
            axes.set_xlabel(setting)
            axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        page = io.BytesIO()
        drawn.savefig(page, format="svg", metadata={"Date": None})
    return page.getvalue()
