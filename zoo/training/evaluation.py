"""Measuring trained weights again, the way their recipe did."""

from __future__ import annotations

from typing import Any

import torch

from zoo import catalog, loading
from zoo.errors import UsageError
from zoo.plugins import resolve


def evaluate(
    name: str, *, recipe: str | None = None, weights: str | None = "default", device: str = "cpu"
) -> dict[str, Any]:
    """The metrics and their breakdown of the model that `zoo.load(name, weights=weights)` gives.

    Args:
        name: `architecture` or `architecture.tag`.
        recipe: Whose evaluation to use; None is the recipe of the weights.
        weights: As in `zoo.load`.
        device: As in `zoo.load`.

    Returns:
        `metrics` (a list of dataset, split, name, value) and `breakdown`, as the recipe's evaluation gives them.

    Raises:
        UsageError: where the weights name no recipe and none was given.
        DataError: where the data is missing.
    """
    model = loading.load(name, weights=weights, device=device)
    chosen: Any = model.zoo_weights
    recipe = recipe or (chosen.recipe if chosen is not None else None)
    if recipe is None:
        raise UsageError(f"{name}: these weights name no recipe; say which recipe's evaluation to use")
    place = next(model.parameters()).device
    measured: dict[str, Any] = resolve(catalog.recipe(recipe).evaluate)(model, torch.device(place))
    return measured
