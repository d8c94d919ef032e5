"""Random numbers of their own for everything that is drawn, so that no test moves another's."""

from __future__ import annotations

from typing import Final

import torch

#: What is drawn, in no order; parameters of the model come after these.
ORDERS: Final = 0
BOXES: Final = 3
NOISE: Final = 4
PARAMETERS: Final = 5


def generator(seed: int, what: int) -> torch.Generator:
    """The random numbers of one purpose: on the CPU, so that every device gets the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + what) % 2**63)
