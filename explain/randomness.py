"""Random numbers of their own for everything that is drawn, so that no draw moves another."""

from __future__ import annotations

import torch


def generator(seed: int, what: int) -> torch.Generator:
    """The random numbers of one purpose or sample: on the CPU, so that every device gets the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + what) % 2**63)
