"""Find a model and what was measured of it: by name, evaluation file, weights file or module. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import NoEvaluationError, UnknownNameError, UsageError
from zoo.registry import catalog
from zoo.training.evaluation import stored

if TYPE_CHECKING:
    from torch import nn

    from zoo.entries import ModelEntry, WeightsEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One model as it was asked for, with its stored evaluation."""

    name: str
    entry: ModelEntry | None
    #: As `zoo.training.evaluation.stored` gives it, with the `file` that was named; None if none is stored.
    evaluation: dict[str, Any] | None
    #: Arguments for `zoo.load`: a name, and weights; None if nothing can be loaded, with the reason.
    load: tuple[str, str | None] | None
    reason: str = ""


def find_evaluated(model: str | os.PathLike[str] | nn.Module, weights: str | None = "default") -> Evaluated:
    """Look up a model and its stored evaluation.

    Args:
        model: A name of the zoo; a file of an evaluation; a weights file with such a record beside it; a module.
        weights: As in `zoo.load`, for a name without a tag.

    Raises:
        UnknownNameError, UsageError, WeightsError: There is no such model, or its evaluation cannot be read.
    """
    from os import PathLike, fspath

    if not isinstance(model, str | PathLike):
        return _of_module(model)
    asked = fspath(model)
    if asked.endswith((".json", ".safetensors")):
        return _of_file(asked, {**stored(asked), "file": asked})
    listing, chosen, tagged = catalog.find(asked)
    entry = listing.entry
    if not tagged and weights != "default":
        chosen = None if weights is None else catalog.weights_of(entry, weights)
    name = f"{entry.name}.{chosen.tag}" if chosen else entry.name
    if chosen is None and weights is not None:
        reason = f"{name} has no trained weights; `--weights none` gives random ones (weights=None in Python)"
        return Evaluated(name=name, entry=entry.resolve(None), evaluation=None, load=None, reason=reason)
    return Evaluated(
        name=name,
        entry=entry.resolve(chosen),
        evaluation=_evaluation(listing.full_name, chosen),
        load=(listing.full_name, chosen.tag if chosen else None),
    )


def _evaluation(full_name: str, weights: WeightsEntry | None) -> dict[str, Any] | None:
    """Give the stored evaluation of registered weights, or else the metrics of their entry."""
    if weights is None:
        return None
    try:
        return stored(f"{full_name}.{weights.tag}")
    except NoEvaluationError:
        if not weights.metrics:
            return None
    metrics = [asdict(metric) for metric in weights.metrics]
    return {"sha256": weights.sha256, "clips_measured": None, "metrics": metrics, "breakdown": {}}


def _of_module(model: nn.Module) -> Evaluated:
    from zoo.models.provenance import entry_of

    entry = entry_of(model)
    loaded = getattr(model, "zoo_load_report", None)
    evaluation = None
    if entry is not None and entry.weights and loaded is not None and loaded.tag is not None:
        try:
            listing, chosen, _ = catalog.find(loaded.name)
        except UnknownNameError:  # loaded from a file
            chosen = None
        if chosen is not None and chosen.sha256 == loaded.sha256:
            evaluation = _evaluation(listing.full_name, chosen)
    name = loaded.name if loaded else entry.name if entry else type(model).__name__
    return Evaluated(name=name, entry=entry, evaluation=evaluation, load=None)


def _of_file(asked: str, evaluation: dict[str, Any]) -> Evaluated:
    """Find the model of a stored evaluation: weights beside the file, or registered ones of the same checksum."""
    model = str(evaluation["model"])
    name = Path(model).stem if model.endswith(".safetensors") else model
    architecture = model.rpartition("/")[2].partition(".")[0]
    try:
        listing, _, _ = catalog.find(architecture)
    except UsageError:
        reason = f"{asked} is an evaluation of {model}, and no installed plugin gives this model"
        return Evaluated(name=name, entry=None, evaluation=evaluation, load=None, reason=reason)
    weights = _weights_beside(Path(asked).expanduser(), evaluation)
    load: tuple[str, str | None] | None = None
    if weights is not None:
        load = (listing.full_name, weights.source)
    elif checksum := evaluation.get("sha256"):
        weights = next((one for one in listing.entry.weights if one.sha256 == checksum), None)
        load = (listing.full_name, weights.tag) if weights else None
    return Evaluated(
        name=name,
        entry=listing.entry.resolve(weights),
        evaluation=evaluation,
        load=load,
        reason=f"the weights that {asked} is an evaluation of are neither beside it nor registered",
    )


def _weights_beside(path: Path, evaluation: dict[str, Any]) -> WeightsEntry | None:
    """Read the weights file of the same name, unless the evaluation is of other weights, or of random ones."""
    from zoo.weights.describing import describe_file

    path = path.with_suffix(".safetensors")
    if not path.is_file():
        return None
    weights, checksum = describe_file(str(path)), evaluation.get("sha256")
    # Only files written by training are beside its weights by design; older records have no checksum.
    return weights if checksum == weights.sha256 or (checksum is None and "recipe" in evaluation) else None
