"""What is maximised: one number for each clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Maps of a layer, U x units x T' x H' x W', to one number for each clip, U.
Objective = Callable[["Tensor"], "Tensor"]


def mean_of_units(units: Sequence[int]) -> Objective:
    """Clip u is for unit `units[u]`: the mean of that unit's map over time, rows and columns."""

    def objective(maps: Tensor) -> Tensor:
        own = torch.tensor(units, device=maps.device)
        return maps[torch.arange(len(maps), device=maps.device), own].mean(dim=(1, 2, 3))

    return objective
