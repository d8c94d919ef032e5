"""The loop that trains a recipe: resumable, on CPU or GPU, in bfloat16 where that is safe.

Output folder: `checkpoint.safetensors` (everything needed to go on, nothing pickled), `log.json` and, at the end, the
weights file with its golden tensors and its metrics (`finalizing.py`).
"""

from __future__ import annotations

import hashlib
import json
import math
import signal
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # the base of all BatchNorms, in torch's own documentation

from zoo import devices
from zoo.errors import OutputError, TrainingError, UnknownNameError, WeightsError
from zoo.plugins import resolve
from zoo.training.finalizing import finalize
from zoo.training.recipes import Stage
from zoo.writing import write, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zoo.training.recipes import Recipe

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.json"


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    device: str | torch.device = "cpu",
    from_weights: Path | str | None = None,
    checkpoint_every: float = 120.0,
    log_every: int = 100,
    until: str | None = None,
    progress: bool = True,
) -> Path | None:
    """Train `recipe` into the folder `out` and return the weights file written there.

    A folder that holds a checkpoint of this recipe is resumed; the stages that are already done must be the recipe's
    own. `from_weights` starts the exported network from a weights file instead of from the seed. `until` stops after
    the stage of that name, at once where it is done, and returns None. The checkpoint is replaced every
    `checkpoint_every` seconds, after each stage and, on Ctrl-C, after the step that is on.

    Raises `TrainingError` where the checkpoint belongs to another recipe or stands against `from_weights`,
    `OutputError` where `out` cannot be written, `DeviceError` where there is no such device, `WeightsError` where
    `from_weights` does not fit, `UnknownNameError` where `until` is no stage.
    """
    stages = [stage.name for stage in recipe.stages]
    if until is not None and until not in stages:
        raise UnknownNameError("stage", until, stages)
    end = len(stages) if until is None else stages.index(until) + 1
    out = Path(out)
    place = torch.device(devices.resolve(str(device)))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {out}: {error.strerror}") from error
    if from_weights is not None and (out / CHECKPOINT).exists():
        raise TrainingError(
            f"{out / CHECKPOINT} is there: leave {from_weights} out to go on from it, or choose another folder to start"
        )
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.default_generator.manual_seed(recipe.seed)
        module: nn.Module = resolve(recipe.build)(**recipe.arguments)
        if from_weights is not None:
            _start_from(Path(from_weights), resolve(recipe.export)(module))
        module.to(place)
        run = _Run(recipe, module, out, place, checkpoint_every, log_every, progress)
        run.resume()
        while run.stage_index < end:
            run.train_stage(recipe.stages[run.stage_index])
    if until is not None:
        return None
    return finalize(recipe, module, out, log=run.log, device=place)


def _start_from(path: Path, network: nn.Module) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        raise WeightsError(f"{path} holds the weights of another architecture: {error}") from error


def learning_rate(stage: Stage, step: int) -> float:
    """The learning rate of a step of the stage, counted from 0."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.learning_rate * (stage.final_rate + (1 - stage.final_rate) * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def recalibrate(module: nn.Module, stage: Stage, loss: Callable[..., Any], batches: Iterable[Any]) -> None:
    """Replace every BatchNorm's running statistics by their plain mean over `batches`, in float32."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    module.train()
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        for batch in batches:
            loss(module, batch, stage)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def _held_interrupt() -> Iterator[list[int]]:
    """Ctrl-C fills the list, so that a step can be ended and saved, and is raised at the end; a second one at once."""
    pressed: list[int] = []

    def hold(number: int, _frame: object) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    held = usual and threading.current_thread() is threading.main_thread()  # other threads may set no handler
    if held:
        signal.signal(signal.SIGINT, hold)
    try:
        yield pressed
    finally:
        if held:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


class _Run:
    """The state of one run: where it is, the optimiser and averages of the current stage, and the log."""

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        out: Path,
        device: torch.device,
        checkpoint_every: float,
        log_every: int,
        progress: bool,  # noqa: FBT001 (private, passed once)
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.out = out
        self.device = device
        self.checkpoint_every = checkpoint_every
        self.log_every = log_every
        self.progress = progress
        self.stage_index = 0
        self.step = 0
        self.seconds = 0.0
        self.log: list[dict[str, Any]] = []
        self.average: dict[str, Tensor] = {}
        self.moments: dict[str, Tensor] = {}

    def train_stage(self, stage: Stage) -> None:
        """Train the rest of the current stage, then step on to the next one."""
        batch_at = resolve(stage.data)(self.module, stage, self.recipe.seed + 1000 * self.stage_index, self.device)
        loss_of = resolve(stage.loss)
        self.module.train()
        learning = {name: value for name, value in self.module.named_parameters() if value.requires_grad}
        optimizer = torch.optim.AdamW(learning.values(), lr=stage.learning_rate, weight_decay=stage.weight_decay)
        self._restore_moments(optimizer, learning)
        if stage.averaging and not self.average:
            self.average = {name: value.detach().clone() for name, value in learning.items()}
        sums: dict[str, Tensor] = {}
        counted = 0
        started = saved = time.monotonic()
        before = self.seconds
        with _held_interrupt() as pressed, _bar(stage, self.step, shown=self.progress) as bar:
            while self.step < stage.steps:
                self._seed()
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(stage, self.step)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=stage.autocast):
                    loss, terms = loss_of(self.module, batch_at(self.step), stage)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(learning.values(), stage.clip_norm)
                optimizer.step()
                if stage.averaging:
                    decay = min(stage.averaging, (self.step + 1) / (self.step + 10))
                    with torch.no_grad():
                        for name, value in learning.items():
                            self.average[name].lerp_(value, 1 - decay)
                self.step += 1
                counted += 1
                for name, value in {"loss": loss, **terms}.items():
                    sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach().float()
                self.seconds = before + time.monotonic() - started
                bar.update(1)
                logs = self.step % self.log_every == 0 or self.step == stage.steps
                saves = bool(pressed) or time.monotonic() - saved > self.checkpoint_every
                if (logs or saves) and not sums["loss"].isfinite():
                    raise TrainingError(self._no_number("the loss", stage))
                if logs:
                    means = {name: round(float(value) / counted, 4) for name, value in sums.items()}
                    self.log.append({"stage": stage.name, "step": self.step, "seconds": round(self.seconds), **means})
                    bar.set_postfix_str(" ".join(f"{name}={value:.3f}" for name, value in means.items()))
                    sums, counted = {}, 0
                if saves:
                    self.save(stage, optimizer, learning)
                    saved = time.monotonic()
                if pressed:
                    break
        if stage.recalibration:
            self.save(stage, optimizer, learning)  # it takes a while, and may be interrupted too
        if stage.averaging:
            with torch.no_grad():
                for name, value in learning.items():
                    value.copy_(self.average[name])
        if stage.recalibration:
            self._seed()
            recalibrate(self.module, stage, loss_of, (batch_at(stage.steps + k) for k in range(stage.recalibration)))
        self.average, self.moments = {}, {}
        self.stage_index += 1
        self.step = 0
        self.save(stage, None, {})

    def _seed(self) -> None:
        """Seed what dropout draws from for this step, so that a resumed run draws the same."""
        drawn = hashlib.sha256(f"{self.recipe.seed} {self.stage_index} {self.step}".encode()).digest()
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
                raise TrainingError(self._no_number(name, stage))
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        if optimizer is not None:
            for name, value in learning.items():
                for key, moment in optimizer.state[value].items():
                    tensors[f"moment.{key}.{name}"] = moment
        state = {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "arguments": dict(self.recipe.arguments),
            "stages": [asdict(stage) for stage in self.recipe.stages[: self.stage_index + (self.step > 0)]],
            "stage_index": self.stage_index,
            "step": self.step,
            "seconds": self.seconds,
            "log": self.log,
        }
        write_tensors(self.out / CHECKPOINT, tensors, {"training": json.dumps(state)})
        write(self.out / LOG, json.dumps(self.log, indent=1) + "\n")

    def resume(self) -> None:
        """Go on from the folder's checkpoint, where it has one."""
        from safetensors import SafetensorError, safe_open

        path = self.out / CHECKPOINT
        if not path.exists():
            return
        try:
            with safe_open(path, "pt", device=str(self.device)) as file:
                state = json.loads(file.metadata()["training"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            differences = self._differences(state)
            self.stage_index, self.step = state["stage_index"], state["step"]
            self.seconds, self.log = state["seconds"], state["log"]
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{path} is no checkpoint; delete it to start anew") from error
        anew = "choose another folder, or delete it to start anew"
        if differences:
            raise TrainingError(f"{path} belongs to another recipe ({'; '.join(differences)}); {anew}")
        try:
            self.module.load_state_dict(_part(tensors, "module."))
        except RuntimeError as error:
            raise TrainingError(f"{path} holds another network than {self.recipe.build}: {error}; {anew}") from error
        self.average = _part(tensors, "average.")
        self.moments = _part(tensors, "moment.")

    def _differences(self, state: dict[str, Any]) -> list[str]:
        """What the recipe of a checkpoint has otherwise; what an older checkpoint leaves out is at its default."""
        own = {"recipe": self.recipe.name, "seed": self.recipe.seed, "arguments": dict(self.recipe.arguments)}
        found = _unlike({name: state[name] for name in own if name in state}, own)
        for k, stage in enumerate(state["stages"]):
            with suppress(TypeError):  # a later version's checkpoint may have settings unknown here: they differ
                stage = asdict(Stage(**stage))
            now = asdict(self.recipe.stages[k]) if k < len(self.recipe.stages) else {}
            found += [f"stage {stage['name']!r}: {line}" for line in _unlike(stage, now)]
        return found

    def _restore_moments(self, optimizer: torch.optim.Optimizer, learning: dict[str, nn.Parameter]) -> None:
        for name, value in learning.items():
            for key in ("step", "exp_avg", "exp_avg_sq"):
                moment = self.moments.get(f"{key}.{name}")
                if moment is not None:
                    optimizer.state[value][key] = moment.cpu() if key == "step" else moment
        self.moments = {}


def _unlike(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    plain = json.loads(json.dumps(now))  # tuples are lists in the checkpoint
    return [f"{name} {value!r}, now {plain.get(name)!r}" for name, value in before.items() if plain.get(name) != value]


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
