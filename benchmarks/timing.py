"""Timing of calls, beside each other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, slots=True)
class Row:
    """One measured call: its title, median milliseconds, and floating-point operations as torch counts them."""

    title: str
    milliseconds: float
    flops: int


#: Rows of all calls measured so far, where somebody set a list here; counting takes one more run of each call.
rows: list[Row] | None = None


def flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of a call: convolutions, products and attention, a multiply-add as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def note(title: str, milliseconds: float, flops: int) -> None:
    """Add a row to those wanted, for a call that was measured otherwise."""
    if rows is not None:
        rows.append(Row(title, milliseconds, flops))


def milliseconds(calls: dict[str, Callable[[], Any]], device: str, repeats: int, title: str = "") -> dict[str, float]:
    """Measure the median time of each call, in turns so that a busy machine is unfair to all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 2):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if device.startswith("cuda"):
                torch.cuda.synchronize(device)
            if turn >= 2:
                times[name].append(1000 * (time.perf_counter() - started))
    found = {name: statistics.median(taken) for name, taken in times.items()}
    if rows is not None:
        for name, call in calls.items():
            note(f"{title}: {name}", found[name], flops(call))
    return found
