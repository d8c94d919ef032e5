"""Activation maximization of r3d_18 on 1 x 3 x 16 x 112 x 112, beside a loop that runs the whole network.

python benchmarks/maximization.py [--device cuda] [--repeats 5]

Prints the ratio of FLOPs and of time for one step (limit: at least 1.4), and the time for each channel when several are
made at once.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from timing import note
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import explain
import zoo
from explain.maximization.parametrizations import fourier3d
from explain.model import memory
from zoo import devices

if TYPE_CHECKING:
    Run = Callable[[Callable[[int, int], None]], object]

SHAPE = (3, 16, 112, 112)
LAYERS = ("layer2", "layer4")
#: Steps of a run; the first is left out of the time.
STEPS = 3
AT_ONCE = (1, 2, 4, 8)


def whole(model: nn.Module, layer: str, unit: int, steps: int, progress: Callable[[int, int], None]) -> None:
    """Maximize in the usual way: a hook on the layer, full forward pass, backward pass from the layer."""
    kept: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    parametrization = fourier3d(SHAPE, [0], devices.like(model), colour=True)
    optimizer = torch.optim.Adam([parametrization.values], lr=0.05)
    for step in range(steps):
        kept.clear()
        optimizer.zero_grad()
        model(parametrization.clips())
        (-kept[0][:, unit].mean()).backward()
        optimizer.step()
        model.zero_grad()
        progress(step + 1, steps)
    handle.remove()


def ours(model: nn.Module, layer: str, units: list[int], steps: int, progress: Callable[[int, int], None]) -> None:
    """Maximize by `explain.maximize`."""
    explain.maximize(model, layer, units, shape=SHAPE, steps=steps, transforms="none", progress=progress)


def flops(run: Callable[[int], object]) -> int:
    """Measure one step: the difference that a second one makes."""
    counted = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter:
            run(steps)
        counted.append(counter.get_total_flops())
    return counted[1] - counted[0]


def seconds(runs: dict[str, Run], device: str, repeats: int) -> dict[str, float]:
    """Measure the median time of one step of each run, in turns."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            moments: list[float] = []

            def tick(*_: int, moments: list[float] = moments) -> None:
                if device != "cpu":
                    torch.cuda.synchronize()
                moments.append(time.perf_counter())

            run(tick)
            found[name] += [after - before for before, after in itertools.pairwise(moments)]
    return {name: statistics.median(times) for name, times in found.items()}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    devices.keep_freed_memory()
    model = zoo.load("r3d_18", weights=None, device=asked.device)
    for layer in LAYERS:
        full = flops(lambda steps, layer=layer: whole(model, layer, 0, steps, lambda *_: None))
        own = flops(lambda steps, layer=layer: ours(model, layer, [0], steps, lambda *_: None))
        times = seconds(
            {
                "whole": lambda note, layer=layer: whole(model, layer, 0, STEPS, note),
                "ours": lambda note, layer=layer: ours(model, layer, [0], STEPS, note),
            },
            asked.device,
            asked.repeats,
        )
        note(f"{layer}, a step: whole passes", 1000 * times["whole"], full)
        note(f"{layer}, a step: explain.maximize", 1000 * times["ours"], own)
        print(
            f"{layer}: whole passes {full / 1e9:.0f} GFLOP and {1000 * times['whole']:.0f} ms a step, "
            f"explain.maximize {own / 1e9:.0f} GFLOP and {1000 * times['ours']:.0f} ms: {full / own:.2f} times "
            f"cheaper in FLOPs, {times['whole'] / times['ours']:.2f} in time (limit 1.4)",
            flush=True,
        )
    memory.CPU_BLOCK = 2**62  # else a CPU takes as few channels at once as it is fast with
    times = seconds(
        {
            str(count): lambda note, count=count: ours(model, LAYERS[0], list(range(count)), STEPS, note)
            for count in AT_ONCE
        },
        asked.device,
        asked.repeats,
    )
    for count in AT_ONCE:
        each = times[str(count)] / count
        print(
            f"{LAYERS[0]}, {count} channels at once: {1000 * each:.0f} ms a channel and step, "
            f"{times['1'] / each:.2f} times as fast as alone",
            flush=True,
        )


if __name__ == "__main__":
    main()
