"""From a name to an entry and its chosen weights."""

from __future__ import annotations

import dataclasses
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from zoo.entries import ModelEntry, WeightsEntry
from zoo.errors import (
    UnknownNameError,
    UsageError,
)
from zoo.registry import catalog, repositories
from zoo.registry.catalog import find
from zoo.weights import describing, identification

if TYPE_CHECKING:
    from zoo.entries import ModelEntry, WeightsEntry


def info(name: str, *, offline: bool = False, token: str | None = None) -> ModelEntry:
    """Return the resolved entry of `architecture`, `architecture.tag` or `distribution:architecture`.

    `hub:ORG/REPO@REVISION` names a repository made by `zoo.push`; its config is fetched, its weights are not.

    With a tag, the entry's arguments, input and outputs are those of that weights file and `weights` holds
    it alone; without one they are those of the default weights, and `weights` holds all.

    Args:
        name: Name of the model.
        offline: Raise instead of fetching a repository's config.
        token: Hub token; by default that of the environment.

    Raises:
        UnknownNameError: for an unknown name or tag; near names are offered.
        UsageError: if two plugins provide the name, or it is not text.
    """
    _check_name(name)
    if name.startswith("hub:"):
        entry, known = repositories.describe(name, offline=offline, token=token)
        return entry.resolve(known)
    listing, weights, tagged = find(name)
    resolved = listing.entry.resolve(weights)
    if tagged:
        return resolved
    import dataclasses

    return dataclasses.replace(resolved, weights=listing.entry.weights)


def resolve(
    name: str, weights: str | None, *, adapt: str | None = None, offline: bool = False, token: str | None = None
) -> tuple[ModelEntry, WeightsEntry | None]:
    """Return the architecture's entry and the weights that `load(name, weights=weights, adapt=adapt)` would use."""
    _check_name(name)
    if name.startswith("hub:"):
        entry, found = repositories.describe(name, offline=offline, token=token)
        return _chosen(entry, found, True, weights, adapt)  # noqa: FBT003
    listing, named, tagged = catalog.find(name)
    return _chosen(listing.entry, named, tagged, weights, adapt)


def _check_name(name: object) -> None:
    """Refuse what names no model.

    Raises:
        UsageError: A path, or no text.
    """
    if isinstance(name, os.PathLike):
        raise UsageError(
            f"{os.fspath(name)!r} is a path, and a model is asked for by its name; name its architecture, and load the "
            "file with zoo.load(ARCHITECTURE, weights=FILE)"
        )
    if not isinstance(name, str):
        raise UsageError(f"a model is asked for by its name, a text such as 'conv3d', got {name!r:.80}")


def _chosen(
    entry: ModelEntry,
    named: WeightsEntry | None,
    tagged: bool,  # noqa: FBT001
    weights: str | None,
    adapt: str | None,
) -> tuple[ModelEntry, WeightsEntry | None]:
    """Return the entry and its weights: those of the name, or those requested."""
    if weights is None:
        return entry, None
    if weights == "default":
        if named is None:
            raise UsageError(
                f"{entry.name} has no trained weights (`zoo list --pretrained` shows models that have some); where it "
                "is loaded, `--weights FILE` takes a safetensors file, `--weights none` random ones (weights=None in "
                "Python)"
            )
        return entry, named
    if tagged and named is not None and weights != named.tag:
        raise UsageError(f"the name says the weights {named.tag!r} already; leave out one of the two")
    if any(weights == known.tag for known in entry.weights):
        return entry, catalog.weights_of(entry, weights)
    if adapt is not None and not os.path.exists(weights):  # noqa: PTH110 - a name, not yet a path
        with suppress(UnknownNameError):
            other, found, _ = catalog.find(weights)
            if found is None:
                raise UsageError(f"{other.entry.name} has no trained weights to adapt")
            return entry, dataclasses.replace(found, tag=f"{other.entry.name}.{found.tag}")
    if identification.is_file_name(weights) or os.path.exists(weights):  # noqa: PTH110 - a name, not yet a path
        return entry, describing.describe_file(weights, entry.known)
    return entry, catalog.weights_of(entry, weights)
