"""All GPU benchmarks and tests, in one command and a set time: `python benchmarks/gpu.py --out FOLDER`.

First the tests marked `gpu`; then the benchmarks that take `--device`, as one table with each call's share of the peak
that products of large matrices reach; then, until the time is up, a recipe is trained in bfloat16, its clips made on
the device, with as many steps as fit. Results of each part are saved when it ends:

FOLDER/tests.txt         output of pytest
FOLDER/benchmarks.md     the table; FOLDER/benchmarks/NAME.txt, the output of each benchmark
FOLDER/training          checkpoint, log, weights, golden tensors and record with the recipe as it was run
FOLDER/summary.json      outcome and seconds of each part, and the trained weights' metrics beside the bundled ones'

`--device cpu --minutes 2 --evaluate-clips 20` is a rehearsal.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timing
import torch

from zoo import devices
from zoo.entries.recipes import Recipe, Stage
from zoo.errors import ZooError
from zoo.registry import catalog
from zoo.registry.plugins import resolve
from zoo.training import checkpoints, evaluation
from zoo.training.loop import train

HERE = Path(__file__).parent
#: Scripts of this folder, with what they are given besides `--device`.
BENCHMARKS = (
    ("blinking",),
    ("convlstm",),
    ("tconv3",),
    ("stdcf",),
    ("stft", "layer", "network", "--batch", "4"),
    ("attribution", "shared", "grad_cam", "integrated"),
    ("maximization", "--repeats", "2"),
    ("temporal_fit",),
)
#: Shares of the whole time after which a part is stopped; training has the rest.
TESTS, MEASURING = 0.25, 0.3
#: Share of the training's time that its steps are planned for: the rest is left for loading, measuring and slow steps.
PLANNED = 0.75


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what runs within, once the time is over."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(command: list[str], log: Path, seconds: float) -> str:
    """Run a command, its output into a file; gives its outcome in words."""
    with log.open("w") as file:
        try:
            status = subprocess.run(  # noqa: S603 - this interpreter, with arguments of this file
                command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {seconds:.0f} s"
    return "done" if status.returncode == 0 else f"exit status {status.returncode}"


def peak(kind: torch.dtype, device: str) -> float:
    """Measure the FLOPs per second of a product of two large square matrices."""
    size = 8192 if device.startswith("cuda") else 1024
    one = torch.randn(size, size, device=device).to(kind)
    found = timing.milliseconds({"product": lambda: one @ one}, device, 5)["product"]
    return 2 * size**3 / found * 1000


def measure(out: Path, device: str, seconds: float) -> None:
    """Run every benchmark, its output into a file, and write the table after each."""
    ends = time.monotonic() + seconds
    kinds = [torch.float32, *([torch.bfloat16] if devices.has_bfloat16(torch.device(device)) else [])]
    peaks = {str(kind).removeprefix("torch."): peak(kind, device) for kind in kinds}
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    lines = [
        f"{name}, torch {torch.__version__}; peaks, by products of square matrices: "
        + ", ".join(f"{kind} {found / 1e12:.3g} TFLOP/s" for kind, found in peaks.items()),
        "",
        "| benchmark | call | ms | GFLOP | TFLOP/s | share of the float32 peak |",
        "|---|---|---|---|---|---|",
    ]
    (out / "benchmarks").mkdir(exist_ok=True)
    for k, (script, *given) in enumerate(BENCHMARKS):
        timing.rows, sys.argv = [], [script, *given, "--device", device]
        problem = ""
        with (out / "benchmarks" / f"{script}.txt").open("w", buffering=1) as file, contextlib.redirect_stdout(file):
            try:
                with limited((ends - time.monotonic()) / (len(BENCHMARKS) - k)):
                    runpy.run_path(str(HERE / f"{script}.py"), run_name="__main__")
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are measured all the same
                problem = f"{type(error).__name__}: {error}"
                print(problem)
        for row in timing.rows:
            rate = row.flops / row.milliseconds * 1000
            counted = f"{row.flops / 1e9:.3g} | {rate / 1e12:.3g} | {100 * rate / peaks['float32']:.3g} %"
            lines.append(f"| {script} | {row.title} | {row.milliseconds:.3g} | {counted if row.flops else '| |'} |")
        if problem:
            lines.append(f"| {script} | {problem.splitlines()[0].replace('|', '/')} | | | | |")
        (out / "benchmarks.md").write_text("\n".join(lines) + "\n")
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


def seconds_of_a_step(recipe: Recipe, stage: Stage, device: str) -> float:
    """Measure a stage, on a network that is discarded."""
    place = torch.device(device)
    module = resolve(recipe.build)(**recipe.arguments).to(place).train()
    batch_at, loss = resolve(stage.data)(module, stage, 0, place), resolve(stage.loss)
    steps = iter(range(10**6))

    def step() -> None:
        with torch.autocast(place.type, torch.bfloat16, enabled=stage.autocast):
            value, _ = loss(module, batch_at(next(steps)), stage)
        value.backward()
        module.zero_grad()

    return timing.milliseconds({"step": step}, device, 3)["step"] / 1000


def planned(recipe: Recipe, device: str, batches: int, seconds: float) -> Recipe:
    """Return the recipe with batches so many times as large, bfloat16 on a GPU, and as many steps as fit into the time.

    Its stages keep their proportions; learning rates are unchanged.
    """
    on_gpu = device.startswith("cuda")
    stages = [
        replace(stage, batch_size=batches * stage.batch_size, autocast=on_gpu or stage.autocast)
        for stage in recipe.stages
    ]
    started = time.monotonic()
    found: dict[str, float] = {}  # stages that differ in their learning rates alone take as long
    for stage in stages:
        if _kind(stage) not in found:
            found[_kind(stage)] = seconds_of_a_step(recipe, stage, device)
    whole = sum(stage.steps * found[_kind(stage)] for stage in stages)
    share = max(0.0, PLANNED * seconds - (time.monotonic() - started)) / whole
    steps = [max(1, round(share * stage.steps)) for stage in stages]
    return replace(
        recipe,
        stages=tuple(
            replace(stage, steps=count, warmup=min(stage.warmup, count // 4))
            for stage, count in zip(stages, steps, strict=True)
        ),
    )


def _kind(stage: Stage) -> str:
    return repr((stage.data, stage.loss, stage.batch_size, stage.autocast, sorted(stage.arguments.items())))


def cut(recipe: Recipe, folder: Path) -> Recipe:
    """Truncate the recipe to the steps made, with the checkpoint to match: the current stage ends at its position."""
    found = checkpoints.read(folder, recipe)
    if found is None:
        return recipe
    state, tensors = found
    done, step = state["stage_index"], state["step"]
    begun = tuple(replace(stage, steps=step) for stage in recipe.stages[done : done + 1] if step)
    shorter = replace(recipe, stages=recipe.stages[:done] + begun)
    checkpoints.save(folder, shorter, state, tensors)
    return shorter


def trained(recipe: Recipe, out: Path, device: str, batches: int, seconds: float, clips: int | None) -> dict[str, Any]:
    """Train until the time is up, measure, and give the metrics beside those of the bundled weights."""
    ends = time.monotonic() + seconds
    plan = planned(recipe, device, batches, seconds)
    print(
        "training", ", ".join(f"{stage.name} {stage.steps} x {stage.batch_size}" for stage in plan.stages), flush=True
    )
    left = max(0.0, (ends - time.monotonic()) - (1 - PLANNED) / 2 * seconds)
    path = train(plan, out, device=device, minutes=left / 60, checkpoint_every=30, evaluate_clips=clips)
    if path is None:
        path = train(cut(plan, out), out, device=device, evaluate_clips=clips)
    record = json.loads(path.with_suffix(".json").read_text()) if path else {}
    found = {"clips seen": record.get("clips_seen"), "metrics": _metrics(record)}
    with contextlib.suppress(ZooError):
        found["bundled weights"] = _metrics(evaluation.stored(recipe.name))
    return found


def _metrics(record: dict[str, Any]) -> dict[str, Any]:
    return {row["name"]: row["value"] for row in record.get("metrics", [])}


def main() -> None:
    """Run the parts one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder for everything that is written.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8, help="For everything together.")
    parser.add_argument("--recipe", default="ts_conv3d_xl.blinking_mnist")
    parser.add_argument("--batches", type=int, default=4, help="How many times as large as the recipe's.")
    parser.add_argument("--evaluate-clips", type=int, help="Measure on the first so many test clips; all as a rule.")
    parser.add_argument("--measure-only", type=float, metavar="SECONDS", help=argparse.SUPPRESS)
    given = parser.parse_args()
    devices.resolve(given.device)
    devices.keep_freed_memory()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.measure_only:
        measure(given.out, given.device, given.measure_only)
        return
    recipe = catalog.recipe(given.recipe)
    started = time.monotonic()
    whole = 60 * given.minutes
    summary: dict[str, Any] = {}

    def part(name: str, call: Callable[[], Any]) -> None:
        began = time.monotonic()
        try:
            outcome = call()
        except Exception as error:  # noqa: BLE001 - the other parts are run all the same
            outcome = f"{type(error).__name__}: {error}"
        summary[name] = {"outcome": outcome, "seconds": round(time.monotonic() - began)}
        (given.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        print(f"{name}: {json.dumps(summary[name])}", flush=True)

    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        str(HERE.parent / "tests"),
    ]
    part("tests", lambda: run(tests, given.out / "tests.txt", TESTS * whole))
    # in a process of its own: a fault of a kernel leaves no device to what follows in the same process
    share = MEASURING * whole
    again = [sys.executable, __file__, "--out", str(given.out), "--device", given.device, "--measure-only", str(share)]
    part("benchmarks", lambda: run(again, given.out / "benchmarks.txt", share + 20))
    left = whole - (time.monotonic() - started)
    part(
        "training",
        lambda: trained(recipe, given.out / "training", given.device, given.batches, left, given.evaluate_clips),
    )


if __name__ == "__main__":
    main()
