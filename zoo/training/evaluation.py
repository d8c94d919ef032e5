"""Evaluation of weights by their recipe, and access to stored evaluations. Reading imports no torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from zoo.errors import NoEvaluationError, PluginError, UsageError, WeightsError, ZooError, nearest
from zoo.models.records import Evaluation
from zoo.registry import catalog, resolving
from zoo.registry.plugins import resolve
from zoo.weights.describing import describe_file
from zoo.weights.obtaining import locate

if TYPE_CHECKING:
    import torch
    from torch import nn

    from zoo.entries import ModelEntry, WeightsEntry
    from zoo.entries.recipes import Recipe


#: Breakdown table of answers that do not depend on the clip, a row for each: its description under
#: "constant answer", and the metrics by name.
CONSTANT: Final = "constant answers"


def evaluate(
    model: str | nn.Module,
    *,
    recipe: str | None = None,
    weights: str | None = "default",
    device: str = "cpu",
    clips: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measure a model on the fixed test set of a recipe.

    Args:
        model: `architecture` or `architecture.tag`, which `zoo.load` gives; or a model that it gave, which is measured
            where it is, in eval mode, and left as it was.
        recipe: Whose evaluation to use; None is the recipe of the weights and, for random ones, the only recipe that
            the architecture has.
        weights: As in `zoo.load`; for a name only, as `device` and `seed`.
        device: As in `zoo.load`.
        clips: Measure the first so many clips of the set, which every device and run has in the same order; None
            measures all.
        seed: As in `zoo.load`.

    Raises:
        UsageError: if the model did not come from `zoo.load`, no recipe is known and none was given, the recipe
            given is for other networks, or the set has fewer clips.
        DataError: if the data is missing.
    """
    from zoo import devices
    from zoo.models import loading

    found = None
    if isinstance(model, str):
        entry, chosen = resolving.resolve(model, weights)
        if recipe is None and (chosen is None or chosen in entry.weights):
            recipe = recipe_of(entry.name, chosen)
        if recipe:  # what cannot be need not wait for the model, nor for a download
            found = catalog.recipe(recipe)
        network = loading.load(model, weights=weights, device=device, seed=seed)
    else:
        if not hasattr(model, "zoo_entry"):
            raise UsageError("this module did not come from zoo.load, so no recipe evaluates it")
        network, entry = model, cast("ModelEntry", model.zoo_entry)
        chosen = entry.weights[0] if entry.weights else None
    found = found or catalog.recipe(recipe or recipe_of(entry.name, chosen))
    report: Any = network.zoo_load_report
    modes = [(part, part.training) for part in network.modules()]
    network.eval()
    try:
        place = devices.like(network).device
        return Evaluation.from_record(measure(found, network, place, report.name, report.sha256, clips=clips))
    except Exception as error:
        foreign = found.name.partition(".")[0] != entry.name
        if isinstance(error, ZooError) or not foreign or devices.is_out_of_memory(error):
            raise
        # A recipe given by the user is not checked; only running it shows whether it can read the network's output.
        raise UsageError(
            f"{report.name} cannot be evaluated as {found.name} is: {type(error).__name__}: {error}; "
            "name a recipe for networks of the same input and outputs"
        ) from error
    finally:
        for part, training in modes:
            part.training = training


def measure(
    recipe: Recipe, network: nn.Module, device: torch.device, name: str, sha256: str | None, *, clips: int | None = None
) -> dict[str, Any]:
    """Evaluate a network that is on `device` and in eval mode; `name` and `sha256` identify it.

    Returns:
        JSON-ready: `model`, `sha256` of the weights file (None for random weights), `measured_as` (name of the
        recipe), `clips_measured`, `metrics` (a list of dataset, split, name, value), `breakdown` (the same metrics in
        tables by name, each a list of rows), `torch` and `device`; where the recipe's evaluation gives it, `per_clip`
        (for a metric by name, the result of `per_clip` for each clip, in the order of the fixed set).

    Raises:
        PluginError: if the recipe's evaluation returns an invalid value.
    """
    import torch

    measured = resolve(recipe.evaluate)(network, device, clips, **recipe.evaluate_arguments)
    problem = _problem(measured)
    if problem:
        raise PluginError(f"{recipe.evaluate}, the evaluation of {recipe.name}, gave {problem}")
    return {
        "model": name,
        "sha256": sha256,
        "measured_as": recipe.name,
        "clips_measured": None,
        **measured,
        "torch": torch.__version__,
        "device": str(device),
    }


def per_clip(values: torch.Tensor) -> str | list[float]:
    """Format one metric of every clip for the evaluation, so that models can be compared clip by clip.

    Args:
        values: N booleans (right or wrong), or N numbers (errors).

    Returns:
        Booleans as a text of N digits 1 and 0; numbers as a list, with six significant digits.
    """
    if not values.is_floating_point():
        return "".join("1" if one else "0" for one in values.tolist())
    return [float(f"{value:.6g}") for value in values.tolist()]


def stored(name: str) -> dict[str, Any]:
    """Return the evaluation that was stored with weights, read without torch.

    Args:
        name: `architecture` or `architecture.tag`, the path of a weights file (`x.safetensors`, its record `x.json`
            beside it), or the path of a JSON file: a record, or the output of `zoo evaluate NAME --out FILE.json`.

    Returns:
        As `measure` does; the record that training writes holds `recipe`, `steps`, `clips_seen` and `log` as well.

    Raises:
        UnknownNameError: for an unknown model or tag.
        UsageError: if there is no such JSON file.
        NoEvaluationError: if none was stored.
        WeightsError: if it is damaged, or of other weights.
    """
    model, sha256 = "", None
    if name.endswith(".json"):
        path = Path(name).expanduser()
        if not path.is_file():
            near = nearest(path.name, [other.name for other in path.parent.glob("*.json") if other.is_file()])
            meant = [repr(str(Path(name).with_name(other))) for other in near]
            offered = f"did you mean {' or '.join(meant)}? " if meant else ""
            raise UsageError(f"{name}: no such file; {offered}`zoo evaluate --out` writes one")
    else:
        if name.endswith(".safetensors"):
            weights: WeightsEntry | None = describe_file(name)
            model = name
        else:
            listing, weights, _ = catalog.find(name)
            model = listing.entry.name + (f".{weights.tag}" if weights else "")
        if weights is None or weights.record is None:
            raise NoEvaluationError(
                f"no evaluation of {model} is stored; `zoo evaluate --out FILE.json` measures it and writes one"
            )
        path, sha256 = locate(weights.record), weights.sha256
    record = _read(path)
    of = record.get("sha256")
    if sha256 and of and of != sha256:
        raise WeightsError(f"{path} is an evaluation of other weights (sha256 {of}) than {model} ({sha256})")
    wrong = _wrong_value(record)
    if wrong:
        raise WeightsError(f"{path}, {wrong}; measure again with `zoo evaluate`")
    recipe = _trained_by(record)
    return {
        "model": model or recipe or path.stem,
        "sha256": sha256,
        "measured_as": recipe,
        "clips_measured": None,
        **record,
    }


def clips_measured(weights: WeightsEntry) -> int | None:
    """Return the number of clips on which weights were measured, by their stored record; None if unknown.

    Raises:
        WeightsError: if that record is damaged.
    """
    record = _read(locate(weights.record)) if weights.record else {}
    count: int | None = record.get("clips_measured") if record.get("sha256") in (None, weights.sha256) else None
    return count


def check_replaceable(path: Path) -> None:
    """Raise UsageError where a file is the record of a training run, whose recipe and log an evaluation lacks."""
    try:
        held = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    if isinstance(held, dict) and not {"recipe", "log"}.isdisjoint(held):
        raise UsageError(
            f"{path} is the record of a training run, with its recipe and log; give the evaluation another name"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
        raise WeightsError(f"{path} is no whole JSON file: {error}; measure again with `zoo evaluate`") from error
    problem = _problem(record)
    if problem:
        raise WeightsError(f"{path} holds {problem}; expected a record of training or of `zoo evaluate --out`")
    return dict(record)


def _trained_by(record: dict[str, Any]) -> str | None:
    """Return the name of the recipe whose training wrote a record."""
    recipe = record.get("recipe")
    return str(recipe["name"]) if isinstance(recipe, dict) and "name" in recipe else None


def _problem(evaluation: Any) -> str:
    """Describe why a value is not a valid evaluation; empty if it is."""
    if not isinstance(evaluation, dict) or not {"metrics", "breakdown"} <= set(evaluation):
        return "no evaluation (no `metrics` and `breakdown`)"
    metrics, breakdown = evaluation["metrics"], evaluation["breakdown"]
    if not _is_table(metrics) or not all(
        all(isinstance(row.get(key), str) for key in ("dataset", "split", "name"))
        and isinstance(row.get("value"), float | int | None)
        for row in metrics
    ):
        return "`metrics` that are no list of dataset, split, name and value"
    if not isinstance(breakdown, dict) or not all(map(_is_table, breakdown.values())):
        return "a `breakdown` that is no mapping of names to lists of rows"
    clips = evaluation.get("clips_measured")
    if clips is not None and not (isinstance(clips, int) and clips > 0):
        return f"`clips_measured` {clips!r}, which is no number of clips"
    if not _is_per_clip(evaluation.get("per_clip", {}), {row["name"] for row in metrics}):
        return "a `per_clip` that is no mapping of metrics to a text of 1 and 0, or to a list of finite numbers"
    if not isinstance(evaluation.get("model", ""), str) or not isinstance(evaluation.get("sha256"), str | None):
        return "a `model` or `sha256` that is no text"
    return ""


def _is_per_clip(given: Any, metrics: set[str]) -> bool:
    """Check whether a value maps names of metrics to results of `per_clip`."""
    return isinstance(given, dict) and all(
        name in metrics
        and (
            (isinstance(values, str) and not values.strip("01"))
            or (
                isinstance(values, list)
                and all(type(value) in (int, float) and math.isfinite(value) for value in values)
            )
        )
        for name, values in given.items()
    )


def _wrong_value(record: dict[str, Any]) -> str:
    """Describe non-finite numbers, and impossible accuracies or errors, in an evaluation; empty if there are none."""
    places = [("metrics", row["name"], row["value"]) for row in record["metrics"]]
    for title, rows in record["breakdown"].items():
        for at, row in enumerate(rows, start=1):
            places += [(f"table {title!r}, row {at}", column, value) for column, value in row.items()]
    for where, name, value in places:
        accuracy = "accuracy" in name.casefold()
        if value is None or (isinstance(value, str) and not accuracy):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{where}: {name} {value!r} is no number"
        if isinstance(value, float) and not math.isfinite(value):
            return f"{where}: {name} {value!r} is no finite number"
        if accuracy and not 0 <= value <= 1:
            return f"{where}: {name} {value!r} is not within 0 and 1"
        if value < 0 and "absolute error" in name.casefold():
            return f"{where}: {name} {value!r} is negative"
    return ""


def _is_table(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) for row in rows)


def recipe_of(architecture: str, weights: WeightsEntry | None) -> str:
    """Return the recipe that evaluates these weights: the one that made them, else that of their last measurement.

    Random weights use the architecture's only recipe. Weights of unknown origin are not measured by guess: they may
    have been trained on something else.
    """
    if weights is not None:
        if weights.recipe:
            return weights.recipe
        record = _read(locate(weights.record)) if weights.record else {}
        of = record.get("sha256")  # older records of training name none
        made = _trained_by(record) if of in (None, weights.sha256) else None
        measured = record.get("measured_as") if of == weights.sha256 else None
        if made or measured:
            return str(made or measured)
    own = [name for name in catalog.recipes() if name.partition(".")[0] == architecture]
    if weights is None and len(own) == 1:
        return own[0]
    what = f"random weights of {architecture}"
    if weights is not None:
        elsewhere = weights.is_foreign or weights.is_hub
        what = f"{f'{architecture}.{weights.tag}' if elsewhere else weights.source} names no recipe"
    known = f"recipes of {architecture}: {', '.join(own)}" if own else f"no plugin gives a recipe of {architecture}"
    raise UsageError(f"{what}; say with `--recipe NAME` which one's evaluation to use ({known})")
