"""Random numbers of their own for everything that is drawn, so that no draw moves another."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import nn


def generator(seed: int, what: int) -> torch.Generator:
    """The random numbers of one purpose or sample: on the CPU, so that every device gets the same."""
    return torch.Generator().manual_seed((seed * 1_000_003 + what) % 2**63)


def generators_of(model: nn.Module) -> list[Any]:
    """The generators of random numbers that modules keep as attributes: of torch, numpy and Python."""
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    return [value for module in model.modules() for value in vars(module).values() if isinstance(value, kinds)]


def state_of(generator: Any) -> Any:
    """The state of such a generator."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def restore_state(generator: Any, state: Any) -> None:
    """Give a generator its state back."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


def states(model: nn.Module) -> str:
    """All states that a model may draw from, the process' and its own, as text that tells whether it did."""
    found: list[Any] = [torch.get_rng_state(), np.random.get_state(), random.getstate()]  # noqa: NPY002 - models use it
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it untyped
        found += torch.cuda.get_rng_state_all()
    found += [state_of(one) for one in generators_of(model)]
    return repr([_text(one) for one in found])


def _text(state: Any) -> Any:
    """A state as what prints in full."""
    if isinstance(state, torch.Tensor):
        return state.cpu().numpy().tobytes()
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, dict):
        return {key: _text(value) for key, value in state.items()}
    return [_text(one) for one in state] if isinstance(state, tuple | list) else state
