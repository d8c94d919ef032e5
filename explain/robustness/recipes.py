"""A recipe's own evaluation on its fixed test clips, with each clip perturbed before it enters the network."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explain.model.layouts import entry_of
from explain.model.memory import Progress
from explain.model.preservation import preserved
from explain.progress import Followed, following
from explain.robustness.clips import ClipsRobustness
from explain.robustness.perturbations import Perturbation, check_counts, check_fill, find
from explain.robustness.perturbed_clips import Spoiled
from explain.robustness.results import Curve, Kind, Measure, Robustness
from zoo import devices
from zoo.entries.recipes import Recipe
from zoo.errors import UsageError
from zoo.registry import catalog
from zoo.training.evaluation import CONSTANT, measure, recipe_of

#: Words in a metric's name that mark it as an error.
_ERRORS = ("error", "loss", "distance")


def check_robustness_on_recipe(
    model: nn.Module,
    recipe: Recipe | str | None = None,
    *,
    perturbations: str | Sequence[str] | None = None,
    levels: int = 8,
    fill: str | float = "grey",
    clips: int | None = None,
    seed: int = 0,
    progress: Followed = None,
) -> ClipsRobustness:
    """Measure the metrics of a recipe's evaluation on clips perturbed as in `explain.check_robustness`.

    The evaluation runs unchanged; clips are perturbed at the model's input, with random numbers that depend on their
    index.

    Args:
        model: A model of the zoo.
        recipe: Recipe, or its name; None is the recipe that produced the weights.
        perturbations: As in `explain.check_robustness`.
        levels: As there.
        fill: As there.
        clips: Number of clips from the start; None uses all.
        seed: As there.
        progress: As there, in whole evaluations.

    Raises:
        UsageError, DataError, PluginError: as raised by `zoo.training.evaluation.measure`.
    """
    entry = entry_of(model)
    if entry is None:
        raise UsageError("this module did not come from zoo.load, so no recipe evaluates it; give clips")
    if not isinstance(recipe, Recipe):
        recipe = catalog.recipe(recipe or recipe_of(entry.name, entry.weights[0] if entry.weights else None))
    check_counts(levels=levels)
    check_fill(fill)
    extent = (entry.input.frames, *entry.input.size)
    chosen = find(perturbations)
    grids = {one.name: grid for one in chosen if (grid := one.levels(levels, extent))}
    total, done = 1 + sum(map(len, grids.values())), 0
    entered: list[Spoiled] = []

    def evaluated(one: Perturbation | None, level: float, show: Progress | None) -> dict[str, Any]:
        nonlocal done
        with _perturbed(model, one, level, fill, seed, entered), contextlib.redirect_stderr(io.StringIO()):
            found = measure(recipe, model, devices.like(model).device, entry.name, None, clips=clips)
        done += 1
        if show is not None:
            show(done, total)
        return found

    with following(progress) as told:
        show = told("evaluating")
        clean = evaluated(None, 0.0, show)
        # with few clips, a metric may have no clip to apply to
        places = [place for place, metric in enumerate(clean["metrics"]) if metric["value"] is not None]
        measures = {one.name: one for one in (_measure_of(clean["metrics"][place], clean) for place in places)}
        if not measures:
            raise UsageError(f"the evaluation of {recipe.name} measures nothing on so few clips; give it more")
        measured = {
            one.name: [evaluated(one, level, show) for level in grids[one.name]] for one in chosen if one.name in grids
        }
    curves = {}
    for one in chosen:
        if one.name not in grids:
            continue
        rows = [clean, *measured[one.name]]
        means = {name: _column(rows, place) for place, name in zip(places, measures, strict=True)}
        curves[one.name] = Curve(
            perturbation=one.name,
            title=one.title,
            level=one.level,
            levels=torch.tensor([one.none, *grids[one.name]], dtype=torch.float64),
            mean=means,
            error={name: _error_of(measures[name], mean, clean["clips_measured"]) for name, mean in means.items()},
        )
    result = Robustness(
        measures=measures,
        curves=curves,
        samples=clean["clips_measured"] or 0,
        missing={one.name: "there is one frame only" for one in chosen if one.name not in grids},
        settings={"draws": 1, "fill": fill, "seed": seed, "extent": list(extent), "recipe": recipe.name},
    )
    source = f"{result.samples:,} test clip{'s' * (result.samples != 1)} of {recipe.name}"
    return ClipsRobustness(result=result, source=source, first=entered[0], left_out={})


@contextlib.contextmanager
def _perturbed(
    model: nn.Module, one: Perturbation | None, level: float, fill: str | float, seed: int, entered: list[Spoiled]
) -> Iterator[None]:
    """Wrap the model so that its input is perturbed."""
    seen = 0

    def perturb(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal seen
        if one is None:
            if not entered:
                entered.append(Spoiled(model, given[0][:1].clone(), fill=fill, seed=seed))
            return given
        spoiled = Spoiled(model, given[0], fill=fill, seed=seed, first=seen)
        seen += len(given[0])
        return torch.cat([spoiled.sample(at, one, level) for at in range(len(given[0]))]), *given[1:]

    with preserved(model):
        model.register_forward_pre_hook(perturb)
        yield


def _measure_of(metric: dict[str, Any], clean: dict[str, Any]) -> Measure:
    """Convert a metric to a measure: a share if its name contains "accuracy", as in `zoo.training.evaluation`.

    The first of the evaluation's constant predictors, which perturbations do not affect, becomes a reference line.
    """
    name, where = metric["name"], f"{metric['dataset']}, {metric['split']}"
    several = [one["name"] for one in clean["metrics"]].count(name) > 1
    said = name.casefold()
    kind: Kind = "share" if "accuracy" in said else "error" if any(word in said for word in _ERRORS) else "number"
    constant = clean["breakdown"].get(CONSTANT, [])[:1]
    return Measure(
        name=f"{name} ({where})" if several else name,
        kind=kind,
        summary=f"{name} on {where}",
        lines={str(row["constant answer"]): row[name] for row in constant if row.get(name) is not None},
    )


def _column(rows: Sequence[dict[str, Any]], place: int) -> Tensor:
    values = [row["metrics"][place]["value"] for row in rows]
    return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float64)


def _error_of(measure: Measure, mean: Tensor, clips: int | None) -> Tensor:
    """Return the standard error of a share of so many clips; NaN for other measures."""
    if measure.kind != "share" or not clips:
        return torch.full_like(mean, torch.nan)
    return (mean * (1 - mean) / clips).sqrt()
