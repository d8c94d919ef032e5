"""Training loop of recipes: resumable, on CPU or GPU, in bfloat16 where that is safe, in one process or several.

Output folder: `checkpoint.safetensors` (everything needed to resume, nothing pickled), `log.json` and, at the end, the
weights file with its golden tensors and its metrics (`finalizing.py`).
"""

from __future__ import annotations

import hashlib
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base of all BatchNorms, in torch's own documentation

from zoo import devices
from zoo.entries.recipes import OPTIMIZERS, Recipe, Stage
from zoo.errors import DivergedError, OutputError, TrainingError, UnknownNameError, WeightsError, ZooError
from zoo.registry.plugins import resolve
from zoo.training import checkpoints, parallel
from zoo.training.checkpoints import CHECKPOINT
from zoo.training.finalizing import check_loads, example_of, exported, finalize
from zoo.weights.digests import sha256_of
from zoo.weights.files import read_header


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    device: str | torch.device = "cpu",
    from_weights: Path | str | None = None,
    checkpoint_every: float = 120.0,
    log_every: int = 100,
    until: str | None = None,
    minutes: float | None = None,
    evaluate_clips: int | None = None,
    progress: bool = True,
    watch: Callable[[nn.Module, int], None] | None = None,
) -> Path | None:
    """Train `recipe` into the folder `out` and return the weights file written there.

    A folder that holds a checkpoint of this recipe is resumed, by however many processes; the stages that are already
    done must be the recipe's own. The checkpoint is replaced every `checkpoint_every` seconds, after each stage and, on
    Ctrl-C or SIGTERM, after the current step. Several processes do this together within `parallel.joined`.

    Args:
        recipe: What to train.
        out: Folder of this run alone.
        device: As in `zoo.load`.
        from_weights: Start the exported network from this weights file instead of from the seed.
        checkpoint_every: Seconds.
        log_every: Steps.
        until: Stop after the stage of this name, at once if it is done, and return None.
        minutes: Stop after the step at which they are over, with a checkpoint, and return None. At least one
            step is made; recalibrating and measuring are not interrupted.
        evaluate_clips: Measure the result on this many first clips of the test set; None is all.
        progress: Show a bar on stderr.
        watch: Called after each step with the trained network and the steps made in all stages; an exception ends the
            run, which keeps its last checkpoint.

    Raises:
        TrainingError: if the checkpoint is damaged, belongs to another recipe or began from other weights, another
            run is active in `out`, the loss is NaN or infinite, or another process of this run is lost.
        OutputError: if `out` cannot be written.
        DeviceError: if there is no such device.
        WeightsError: if `from_weights` does not fit.
        ModelError: if the recipe's result could not be loaded as weights of its architecture.
        UnknownNameError: if `until` is not a stage.
    """
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    stages = [stage.name for stage in recipe.stages]
    if until is not None and until not in stages:
        raise UnknownNameError("stage", until, stages)
    end = len(stages) if until is None else stages.index(until) + 1
    out = Path(out)
    first = parallel.rank() == 0
    place = torch.device(devices.resolve(str(device)))
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), ExitStack() as folder:
        torch.default_generator.manual_seed(recipe.seed)
        module: nn.Module = resolve(recipe.build)(**recipe.arguments)
        start = getattr(module, "zoo_start", None) or None
        if from_weights is not None:
            start = take_weights(Path(from_weights), exported(recipe, module), recipe.name)
        if first:  # only now: weights that do not fit leave no folder
            check_loads(recipe, exported(recipe, module))  # rather than at the end of the run
            if not recipe.example:
                example_of(recipe)  # as above
            _make(out)
            folder.enter_context(checkpoints.held(out))
            checkpoints.clear_remains(out)
        parallel.wait()
        module = parallel.synchronized(module.to(place))
        run = _Run(recipe, module, out, place, start, checkpoint_every, log_every, ends, progress and first, watch)
        run.resume()
        parallel.check_agreement(module, run.stage_index, run.step)
        begun = run.stage_index, run.step
        while run.stage_index < end:
            if not run.train_stage(recipe.stages[run.stage_index]):
                return None
        if until is not None or (begun != (run.stage_index, run.step) and run.is_over()):
            return None
        path = out / f"{recipe.name}.safetensors"
        if first:
            path = finalize(recipe, module, out, log=run.log, device=place, clips=evaluate_clips, start=run.start)
        parallel.wait(long=True)
        return path


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if folder.is_file():
            raise OutputError(f"{folder} is a file; expected a folder") from error
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def take_weights(path: Path, network: nn.Module, name: str) -> str:
    """Load the network, which is that of the recipe `name`, from a weights file; gives the file's sha256.

    Raises:
        WeightsError: if the file is damaged or of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        read_header(path)  # identifies files that are not weights
        found = load_file(path)
        digest = sha256_of(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    _load(network, found, f"{path} holds the weights of another network than {name}", WeightsError)
    return digest


def _load(module: nn.Module, tensors: dict[str, Tensor], problem: str, kind: type[ZooError], hint: str = "") -> None:
    """Load tensors; of torch's errors on mismatches, which may name hundreds, report the first."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise kind(f"{problem} ({_first_difference(module.state_dict(), tensors, error)}){hint}") from error


def _first_difference(expected: dict[str, Tensor], found: dict[str, Tensor], error: RuntimeError) -> str:
    for name, tensor in expected.items():
        shape = list(tensor.shape)
        if name not in found:
            return f"first difference: {name} is missing, expected with shape {shape}"
        if list(found[name].shape) != shape:
            return f"first difference: {name} has shape {list(found[name].shape)}, expected {shape}"
    for name in found:
        if name not in expected:
            return f"first difference: {name} is there, expected nothing of that name"
    return shorten(str(error), 200, placeholder=" ...")


def learning_rate(stage: Stage, step: int) -> float:
    """Return the learning rate of a step of the stage, counted from 0."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.learning_rate * (stage.final_rate + (1 - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def recalibrate(module: nn.Module, stage: Stage, loss: Callable[..., Any], batch_at: Callable[[int], Any]) -> None:
    """Replace every BatchNorm's running statistics by their plain mean over the batches after the stage, in float32.

    Several processes take whole batches in turn, so that the mean is the same as that of one process.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    own = range(parallel.rank(), stage.recalibration, parallel.size())
    module.train()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for k in own:
            loss(module, batch_at(stage.steps + k), stage)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    parallel.average_statistics(module, len(own) / stage.recalibration)
    for norm in norms:
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.fill_(stage.recalibration)


@contextmanager
def _held_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM fill the list, so that a step can be ended and saved, and are raised at the end.

    A second one acts at once, except among several processes: torchrun sends its own after the terminal's.
    """
    got: list[int] = []
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    # other threads may set no handler, and a program's own handlers stay
    main = threading.current_thread() is threading.main_thread()
    held = {number: handler for number, handler in usual.items() if main and signal.getsignal(number) is handler}

    def release() -> None:
        for number, handler in held.items():
            signal.signal(number, handler)

    def hold(number: int, _frame: object) -> None:
        got.append(number)
        if parallel.size() == 1:
            release()

    for number in held:
        signal.signal(number, hold)
    try:
        yield got
    finally:
        release()
    if signal.SIGINT in got:
        raise KeyboardInterrupt
    if got:
        raise SystemExit(128 + got[0])


class _Run:
    """State of one run: its position, the optimizer and averages of the current stage, and the log."""

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        out: Path,
        device: torch.device,
        start: str | dict[str, str] | None,
        checkpoint_every: float,
        log_every: int,
        ends: float,
        progress: bool,  # noqa: FBT001 (private, passed once)
        watch: Callable[[nn.Module, int], None] | None,
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.out = out
        self.device = device
        self.start = start
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.ends = ends
        self.progress = progress
        self.watch = watch
        self.stage_index = 0
        self.step = 0
        self.seconds = 0.0
        self.log: list[dict[str, Any]] = []
        self.average: dict[str, Tensor] = {}
        self.moments: dict[str, Tensor] = {}

    def is_over(self) -> bool:
        """Check whether the time limit of this run is over, in any of its processes."""
        return bool(parallel.highest(time.monotonic() >= self.ends)[0])

    def train_stage(self, stage: Stage) -> bool:
        """Train the rest of the current stage, then step on to the next one; False where time was over before."""
        batch_at = resolve(stage.data)(self.module, stage, self.recipe.seed + 1000 * self.stage_index, self.device)
        loss_of = resolve(stage.loss)
        self.module.train()
        lost = parallel.distributed(self.module, loss_of)
        learning = {name: value for name, value in self.module.named_parameters() if value.requires_grad}
        if stage.optimizer not in OPTIMIZERS:
            raise UnknownNameError("optimizer", stage.optimizer, OPTIMIZERS, f"stage {stage.name!r} names it")
        optimizer: torch.optim.Optimizer = getattr(torch.optim, stage.optimizer)(
            learning.values(), lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        self._restore_moments(optimizer, learning)
        if stage.averaging and not self.average:
            self.average = {name: value.detach().clone() for name, value in learning.items()}
        halves = stage.autocast and devices.has_bfloat16(self.device)
        sums: dict[str, Tensor] = {}
        counted = over = 0
        started = saved = time.monotonic()
        before = self.seconds
        made = sum(one.steps for one in self.recipe.stages[: self.stage_index])
        with (
            _held_signals() as got,
            parallel.sharing(self.module, stage.batch_size) as part,
            _bar(stage, self.step, shown=self.progress) as bar,
        ):
            while self.step < stage.steps:
                self._seed()
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(stage, self.step)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=halves):
                    loss, terms = lost(part.of(batch_at(self.step)), stage)
                optimizer.zero_grad(set_to_none=True)
                parallel.backward(loss, part)
                nn.utils.clip_grad_norm_(learning.values(), stage.clip_norm)
                optimizer.step()
                if stage.averaging:
                    decay = min(stage.averaging, (self.step + 1) / (self.step + 10))
                    with torch.no_grad():
                        for name, value in learning.items():
                            self.average[name].lerp_(value, 1 - decay)
                self.step += 1
                if self.watch is not None:
                    self.watch(self.module, made + self.step)
                counted += 1
                for name, term in {"loss": loss, **terms}.items():
                    own = part.weight * term.detach().float()
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + own
                now = time.monotonic()
                self.seconds = before + now - started
                bar.update(1)
                logs = self.step % self.log_every == 0 or self.step == stage.steps
                stop, due, over = parallel.highest(
                    got[0] if got else 0, now - saved > self.checkpoint_every, now >= self.ends
                )
                if stop and not got:
                    got.append(stop)  # another process received the signal
                saves = bool(stop or due or over)
                if logs or saves:
                    whole = parallel.totals(sums)
                    if not whole["loss"].isfinite():
                        raise DivergedError(self._no_number("the loss", stage))
                if logs:
                    means = {name: float(f"{float(value) / counted:.4g}") for name, value in whole.items()}
                    self.log.append({"stage": stage.name, "step": self.step, "seconds": round(self.seconds), **means})
                    bar.set_postfix_str(" ".join(f"{name}={value:.4g}" for name, value in means.items()))
                    sums, counted = {}, 0
                if saves:
                    parallel.average_statistics(self.module, part.weight)
                    self.save(stage, optimizer, learning)
                    saved = time.monotonic()
                if stop or over:
                    break
            parallel.average_statistics(self.module, part.weight)
        if over:
            return False
        if stage.recalibration:
            self.save(stage, optimizer, learning)  # it takes a while, and may be interrupted too
        if stage.averaging:
            with torch.no_grad():
                for name, value in learning.items():
                    value.copy_(self.average[name])
        if stage.recalibration:
            self._seed()
            recalibrate(self.module, stage, loss_of, batch_at)
        self.average, self.moments = {}, {}
        self.stage_index += 1
        self.step = 0
        self.save(stage, None, {})
        return True

    def _seed(self) -> None:
        """Seed dropout for this step, so that a resumed run draws the same numbers, each process its own."""
        words = [self.recipe.seed, self.stage_index, self.step, *filter(None, [parallel.rank()])]
        drawn = hashlib.sha256(" ".join(map(str, words)).encode()).digest()
        seed = int.from_bytes(drawn[:8], "big")
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed GPUs that are not used here
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)

    def _no_number(self, what: str, stage: Stage) -> str:
        name = f"{self.recipe.name}: {what} is no number any more in stage {stage.name!r}"
        return f"{name}; {self.out / CHECKPOINT}, if there is one, is from before; try a lower learning rate"

    def save(self, stage: Stage, optimizer: torch.optim.Optimizer | None, learning: dict[str, nn.Parameter]) -> None:
        """Replace the checkpoint and the log; a killed run leaves the ones before, and so does one that went astray."""
        for name, parameter in self.module.named_parameters():
            if not parameter.isfinite().all():
                raise DivergedError(self._no_number(name, stage))
        if parallel.rank() == 0:
            tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
            tensors |= {f"average.{name}": value for name, value in self.average.items()}
            if optimizer is not None:
                for name, value in learning.items():
                    for key, moment in optimizer.state[value].items():
                        tensors[f"moment.{key}.{name}"] = moment
            names = ("stage_index", "step", "seconds", "log", "start")
            checkpoints.save(self.out, self.recipe, {name: getattr(self, name) for name in names}, tensors)
        parallel.wait()

    def resume(self) -> None:
        """Resume from the folder's checkpoint, if it has one."""
        found = checkpoints.read(self.out, self.recipe, str(self.device))
        if found is None:
            return
        state, tensors = found
        path = self.out / CHECKPOINT
        if isinstance(self.start, str) and self.start != state["start"]:
            raise TrainingError(
                f"{path} is there and began otherwise: leave --from-weights out to go on from it, "
                "or choose another folder to start"
            )
        problem = f"{path} holds another network than {self.recipe.build}"
        _load(self.module, _part(tensors, "module."), problem, TrainingError, f"; {checkpoints.ANEW}")
        self.stage_index, self.step = state["stage_index"], state["step"]
        self.start = state["start"] or self.start  # older checkpoints lack it: the current start is used
        self.seconds, self.log = state["seconds"], state["log"]
        self.average = _part(tensors, "average.")
        self.moments = _part(tensors, "moment.")

    def _restore_moments(self, optimizer: torch.optim.Optimizer, learning: dict[str, nn.Parameter]) -> None:
        for place, moment in self.moments.items():
            key, _, name = place.partition(".")
            # counts are kept on the CPU, as in a fresh optimizer
            optimizer.state[learning[name]][key] = moment.cpu() if key in ("step", "mu_product") else moment
        self.moments = {}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _bar(stage: Stage, step: int, *, shown: bool) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=stage.steps,
        initial=step,
        desc=stage.name,
        unit="step",
        file=sys.stderr,
        disable=not shown,
        mininterval=5.0,
    )
