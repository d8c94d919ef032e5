"""Every hook that a plugin may implement, one function each. Mark implementations with `zoo.hookimpl`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from zoo.entries import ModelEntry
    from zoo.entries.recipes import Recipe

#: Project name of the markers.
PROJECT = "zoo"

#: Versions of this interface that plugins may ask for (`zoo_interface = 1` in their module; without it, the first).
#: A hook or an argument that is added keeps the version: plugins implement, and name, what they need.
INTERFACES = (1,)

hookspec = pluggy.HookspecMarker(PROJECT)

hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def zoo_models() -> list[ModelEntry]:  # type: ignore[empty-body]  # specifications have no body
    """Give the architectures of this plugin, with their weights and samples, as data."""


@hookspec
def zoo_recipes() -> list[Recipe]:  # type: ignore[empty-body]
    """Give the recipes that trained this plugin's weights files."""


@hookspec
def explain_methods() -> list[Any]:  # type: ignore[empty-body]
    """Give further attribution methods (`explain.Method`), for any model."""


@hookspec
def explain_measures() -> list[Any]:  # type: ignore[empty-body]
    """Give further measures of how far a map can be trusted (`explain.authoring.Test`), for any method and model."""


@hookspec
def explain_perturbations() -> list[Any]:  # type: ignore[empty-body]
    """Give further perturbations (`explain.authoring.Perturbation`), for any model."""


@hookspec
def explain_sections(context: Any) -> list[Any]:  # type: ignore[empty-body]
    """Give further sections (`explain.Section`) of a report on the model and clip of `context`.

    `context` is an `explain.reporting.context.Context`; types of explain are named here and not imported, because
    zoo knows nothing of explain.
    """


@hookspec
def explain_comparisons(contexts: list[Any]) -> list[Any]:  # type: ignore[empty-body]
    """Give further sections (`explain.Section`) where several models are compared.

    `contexts` holds one `explain.reporting.context.Subject` for each model, its `evaluation` as
    `zoo.training.evaluation.stored` gives it, or None; with a clip each is a `Context`. A section's `build` gets them
    all. Raise `zoo.errors.WeightsError` for an evaluation that is damaged: nothing is then written.
    """
