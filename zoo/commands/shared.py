"""What several commands of `zoo` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.entries import WeightsEntry


def is_missing(weights: WeightsEntry) -> bool:
    """Whether the file would have to be downloaded."""
    from zoo import foreign

    return weights.is_foreign and foreign.find(weights) is None
