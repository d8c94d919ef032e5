"""How long calls take, beside each other."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


def milliseconds(calls: dict[str, Callable[[], Any]], device: str, repeats: int) -> dict[str, float]:
    """Median time of each call, taken in turns so that a busy machine is unfair to all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 2):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            if turn >= 2:
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(found) for name, found in times.items()}
