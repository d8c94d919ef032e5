"""A random search over the settings that a recipe names: trials in a folder, each a training run of its own.

The folder holds `trials.db` (Optuna's storage: what was drawn, and how each trial ended), a run's folder for each
trial, `search.json` with all results, and `figure.svg`. A search that was killed continues in the middle of a trial,
from that trial's checkpoint.
"""

from __future__ import annotations

import io
import json
import math
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

from zoo.errors import DivergedError, OutputError, TrainingError, UnknownNameError, UsageError
from zoo.training import checkpoints
from zoo.training.evaluation import CONSTANT
from zoo.writing import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import optuna

    from zoo.entries.recipes import Recipe, Search, Span, Stage

#: Inches: of a chart, its width and height.
_WIDTH, _HEIGHT = 5.4, 3.8


def draw(found: Found) -> bytes:
    """An SVG with a chart for each metric: quartiles, median and every trial; the same results give the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys([found.metric, *(name for group in found.groups for name in group.spread)]))
    setting = found.compared.rpartition(".")[2].replace("_", " ")
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "motion-zoo", "font.size": 9}):
        drawn = Figure(figsize=(_WIDTH * len(metrics), _HEIGHT), layout="constrained")
        for place, metric in enumerate(metrics):
            axes = drawn.add_subplot(1, len(metrics), place + 1)
            labels, every = [], []
            for at, group in enumerate(found.groups, start=1):
                own = [one for one in found.trials if one.settings[found.compared] == group.value]
                values = values_of(own, metric)
                every += values
                if values:
                    axes.boxplot([values], positions=[at], widths=0.55, showfliers=False)
                    axes.plot([at] * len(values), values, ".", color="tab:blue", alpha=0.5, markersize=4)
                said = [f"{len(values)} trial{'s' * (len(values) != 1)}"]
                counts = {"collapsed": group.collapsed, "failed": group.failed}
                said += [f"{count} {what}" for what, count in counts.items() if count]
                labels.append("\n".join([str(group.value).replace("_", " "), *said]))
            axes.set_xticks(range(1, len(labels) + 1), labels)
            axes.set_xlim(0.4, len(labels) + 0.6)
            if every and min(every) > 0:
                axes.set_yscale("log")
            axes.set_title(metric, loc="left")
            axes.set_xlabel(setting)
            axes.grid(axis="y", linewidth=0.5, alpha=0.5)
        page = io.BytesIO()
        drawn.savefig(page, format="svg", metadata={"Date": None})
    return page.getvalue()


STORAGE: Final = "trials.db"

RESULTS: Final = "search.json"

FIGURE: Final = "figure.svg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run with settings drawn at random."""

    number: int
    #: "finished", "failed" (training went astray, or memory ran out), or "stopped" on the way.
    status: str
    #: What was drawn, by place.
    settings: Mapping[str, Any]
    #: The metrics of the search, by name.
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    #: Whether the first metric is no better than that of the best constant answer.
    collapsed: bool = False
    #: Of training.
    seconds: float | None = None
    #: What a failed trial said.
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The trials with one value of the setting compared."""

    value: Any
    #: Finished ones; of these, those that collapsed; and those that failed.
    finished: int
    collapsed: int
    failed: int
    #: By metric, of finished trials that did not collapse: best, lower quartile, median, upper quartile, worst.
    spread: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search has found so far."""

    recipe: str
    seed: int
    #: Name of the metric that ranks, and whether more of all metrics is better.
    metric: str
    maximize: bool
    space: Mapping[str, Mapping[str, Any]]
    trials: Sequence[Trial]
    #: Number of the best trial; None where none is finished.
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
    """Train `trials` variants of a recipe, those in the folder already counted in, and say what came out.

    What is drawn for a trial depends on the seed and its number alone.

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
        UsageError: where the recipe names nothing to vary, or Optuna is not installed.
        TrainingError: where the folder belongs to another search, another one is on there, or its storage or the record
            of a trial is damaged.
        OSError, OutputError: where it cannot be written.
    """
    of = recipe.search
    if of is None:
        raise UsageError(f"recipe {recipe.name} does not say what a search may vary (its field `search`)")
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    told = report or (lambda _: None)
    if folder.is_file():
        raise UsageError(f"{folder} is a file; expected a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with checkpoints.held(folder), _opened(recipe, folder, seed, evaluate_clips) as study:
        begun = False
        drawn = _whole(study, of)
        for number in range(trials):
            if number == len(drawn):
                drawn = _draw(study, of, seed, number)
            frozen = drawn[number]
            if frozen.state.is_finished():
                _drop_checkpoint(folder / name_of(number))  # a killed search may have left it
                continue
            if begun and time.monotonic() >= ends:
                break
            begun = True
            left = None if minutes is None else max(0.0, (ends - time.monotonic()) / 60)
            variant = applied(recipe, frozen.params, number)
            ended = _run(study, frozen.number, variant, folder / name_of(number), device, left, evaluate_clips)
            found = _write(recipe.name, of, study, folder, seed)
            if not ended:
                break
            told(_line(found.trials[number], of))
        found = _write(recipe.name, of, study, folder, seed)
    write(folder / FIGURE, draw(found))
    return found


def name_of(number: int) -> str:
    """The folder of a trial."""
    return f"trial-{number:04d}"


def applied(recipe: Recipe, settings: Mapping[str, Any], number: int = 0) -> Recipe:
    """The recipe with settings, by place, in place; each number has another seed.

    Raises:
        UnknownNameError: where a place does not exist.
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
    """The folder's study, of this very search."""
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
    no_storage = f"{path} is no storage of a search, or damaged; choose another folder, or delete it"
    own = json.loads(json.dumps({**recipe.to_dict(), "search": _space(recipe), "seed": seed, "clips": clips}))
    del own["summary"]
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
    except OperationalError as error:  # the disk is full, or takes no files
        raise OutputError(f"cannot write {path}: {error.orig}") from error
    except Exception as error:  # whatever its drivers say of a file that is no database
        raise TrainingError(no_storage) from error
    try:
        maximize = recipe.search is not None and recipe.search.maximize
        known = optuna.get_all_study_names(storage)
        if known and known != [recipe.name]:
            raise TrainingError(
                f"{folder} holds a search of {', '.join(known)}, not of {recipe.name}; {checkpoints.ANEW}"
            )
        study = optuna.create_study(
            storage=storage,
            study_name=recipe.name,
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
        )
        before = study.user_attrs.get("search")
        if before is None:
            study.set_user_attr("search", own)
        elif before != own:
            changed = ", ".join(
                _changed(name, before.get(name), own[name]) for name in own if before.get(name) != own[name]
            )
            raise TrainingError(f"{folder} holds a search of another {recipe.name} ({changed}); {checkpoints.ANEW}")
        yield study
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        if isinstance(cause, OperationalError):
            raise OutputError(f"cannot write {path}: {cause.orig}") from error
        raise TrainingError(no_storage) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _space(recipe: Recipe) -> dict[str, Any]:
    return asdict(recipe.search) if recipe.search else {}


def _draw(study: optuna.Study, of: Search, seed: int, number: int) -> list[optuna.trial.FrozenTrial]:
    """Draw the trial of a number; gives all there are then."""
    import optuna

    drawn = sha256(f"{seed}/{number}".encode()).digest()[:4]
    study.sampler = optuna.samplers.RandomSampler(seed=int.from_bytes(drawn, "big"))
    study.ask({place: _distribution(span) for place, span in of.space.items()})
    return _whole(study, of)


def _changed(name: str, before: Any, now: Any) -> str:
    """What is not as it was; numbers that were asked for with both values."""
    asked = {"seed": "--seed", "clips": "--evaluate-clips"}
    if name not in asked:
        return name
    return f"{asked[name]} {'all' if before is None else before}, now {'all' if now is None else now}"


def _whole(study: optuna.Study, of: Search) -> list[optuna.trial.FrozenTrial]:
    """The trials, less those that a killed search had drawn by half."""
    return [one for one in study.trials if one.params.keys() == of.space.keys()]


def _distribution(span: Span) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if span.low is None or span.high is None:
        return distributions.CategoricalDistribution(span.choices)
    if isinstance(span.low, int) and isinstance(span.high, int):
        return distributions.IntDistribution(span.low, span.high, log=span.log)
    return distributions.FloatDistribution(span.low, span.high, log=span.log)


def _run(
    study: optuna.Study,
    number: int,
    recipe: Recipe,
    folder: Path,
    device: str,
    minutes: float | None,
    clips: int | None,
) -> bool:
    """Train and measure one trial, and write down what came of it; False where time was over before."""
    from zoo import devices
    from zoo.training import loop

    try:
        written = checkpoints.finished(recipe, folder, clips=clips) or loop.train(
            recipe, folder, device=device, minutes=minutes, evaluate_clips=clips, progress=False
        )
    except DivergedError as error:
        _fail(study, number, folder, str(error))
        return True
    except (RuntimeError, MemoryError) as error:
        if not devices.is_out_of_memory(error):
            raise
        _fail(study, number, folder, f"memory ran out: {error}")
        return True
    if written is None:
        return False
    metrics = _read(written.with_suffix(".json")).metrics
    wanted = recipe.search.metrics[0] if recipe.search else ""
    if wanted not in metrics:
        raise UsageError(
            f"the evaluation of {recipe.name} gives no metric {wanted!r}, by which its search ranks trials; "
            f"it gives {', '.join(metrics)}"
        )
    value = metrics[wanted]
    if value is None:
        _fail(study, number, folder, f"{wanted} is no finite number")
    else:
        study.tell(number, value)
        _drop_checkpoint(folder)
    return True


def _fail(study: optuna.Study, number: int, folder: Path, reason: str) -> None:
    from optuna.trial import TrialState

    study.set_user_attr(f"error {number}", reason)
    study.tell(number, state=TrialState.FAIL)
    _drop_checkpoint(folder)


def _drop_checkpoint(folder: Path) -> None:
    """Delete what nobody goes on from: several times the size of the weights."""
    (folder / checkpoints.CHECKPOINT).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Record:
    """Of the record of a trial that finished: metrics by name, the rows of constant answers, seconds of training."""

    metrics: dict[str, float | None]
    constant: list[dict[str, Any]]
    seconds: float | None


def _read(path: Path) -> _Record:
    """The record of a trial that finished.

    Raises:
        TrainingError: where it is missing or damaged.
    """
    try:
        record = json.loads(path.read_text())
        return _Record(
            {metric["name"]: metric["value"] for metric in record["metrics"]},
            record["breakdown"].get(CONSTANT, []),
            record["log"][-1]["seconds"] if record["log"] else None,
        )
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path}, the record of a trial that finished, is missing or damaged; "
            "put it back, or search in another folder"
        ) from error


def _trial(
    name: str, of: Search, study: optuna.Study, number: int, frozen: optuna.trial.FrozenTrial, folder: Path
) -> Trial:
    from optuna.trial import TrialState

    given: dict[str, Any] = {"number": number, "settings": {place: frozen.params[place] for place in of.space}}
    if frozen.state == TrialState.FAIL:
        return Trial(**given, status="failed", error=study.user_attrs.get(f"error {frozen.number}"))
    if frozen.state != TrialState.COMPLETE:
        return Trial(**given, status="stopped")
    record = _read(folder / name_of(number) / f"{name}.json")
    known = [value for row in record.constant if (value := row.get(of.metrics[0])) is not None]
    better = max if of.maximize else min
    value = frozen.value
    collapsed = bool(known) and value is not None and better(value, better(known)) == better(known)
    return Trial(
        **given,
        status="finished",
        metrics={name: record.metrics.get(name) for name in of.metrics},
        collapsed=collapsed,
        seconds=record.seconds,
    )


def _write(name: str, of: Search, study: optuna.Study, folder: Path, seed: int) -> Found:
    """Collect what is there, and write it."""
    trials = [_trial(name, of, study, number, frozen, folder) for number, frozen in enumerate(_whole(study, of))]
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
    finished = [one for one in own if one.status == "finished"]
    return Group(
        value=value,
        finished=len(finished),
        collapsed=sum(one.collapsed for one in finished),
        failed=sum(one.status == "failed" for one in own),
        spread={
            name: _spread(values, maximize=of.maximize) for name in of.metrics if (values := values_of(finished, name))
        },
    )


def values_of(trials: Sequence[Trial], metric: str) -> list[float]:
    """A metric of the trials that finished and did not collapse."""
    found = [one.metrics.get(metric) for one in trials if one.status == "finished" and not one.collapsed]
    return [value for value in found if value is not None]


def _spread(values: Sequence[float], *, maximize: bool) -> dict[str, float]:
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    ends = sorted((min(values), max(values)), reverse=maximize)
    return {
        "best": ends[0],
        "lower quartile": low,
        "median": middle,
        "upper quartile": high,
        "worst": ends[1],
    }


def _line(trial: Trial, of: Search) -> str:
    """A trial that ended, in words."""
    settings = ", ".join(f"{place.rpartition('.')[2]} {_short(value)}" for place, value in trial.settings.items())
    if trial.status == "failed":
        return f"trial {trial.number} failed ({settings}): {trial.error}"
    value = trial.metrics[of.metrics[0]]
    collapsed = ", no better than a constant answer" if trial.collapsed else ""
    return f"trial {trial.number}: {of.metrics[0]} {value:.4g}{collapsed} ({settings})"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
