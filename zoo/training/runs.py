"""Several recipes in one command: chosen by name, trained one after the other, each in its own folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import torch

from zoo import devices
from zoo.entries.recipes import Recipe
from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.names import is_pattern, natural
from zoo.registry import catalog
from zoo.registry.plugins import resolve
from zoo.training import checkpoints, finalizing, loop, parallel
from zoo.weights import digests, obtaining
from zoo.weights.digests import sha256_of


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one recipe."""

    recipe: str
    #: "finished" now, "already finished" by an earlier command, "stopped" by `until` or `minutes`, "waiting" for
    #: the next command since the time limit was reached, or "failed".
    status: Literal["finished", "already finished", "stopped", "waiting", "failed"]
    #: The weights file, where there is one.
    weights: str | None = None
    #: Position of a stopped run, as returned by `checkpoints.position`.
    position: dict[str, Any] | None = None
    #: Error message of a failed run.
    error: str | None = None

    @property
    def text(self) -> str:
        """Return the path of the weights, the progress of the run, or the reason of its failure."""
        at = self.position
        if not at:
            return self.weights or self.error or ""
        size = f"checkpoint {at['checkpoint_bytes'] / 1e6:.1f} MB"
        if at["stage"] is None:
            return f"all stages are done, to be measured; {size}"
        return f"step {at['step']:,} of {at['steps']:,} of stage {at['stage']!r}; {size}"


def choose(names: Sequence[str]) -> list[Recipe]:
    """Return the recipes of these names; wildcards are matched against `architecture` and `architecture.tag`.

    Raises:
        UnknownNameError: if a name matches nothing.
    """
    known = catalog.recipes()
    chosen: dict[str, Recipe] = {}
    for name in names:
        found = [name] if name in known else []
        if is_pattern(name):
            found = [one for one in known if fnmatchcase(one, name) or fnmatchcase(one.partition(".")[0], name)]
            found.sort(key=natural)
        if not found:
            raise UnknownNameError("recipe", name, known, catalog.HINT_OF_RECIPES, pattern=is_pattern(name))
        chosen |= {one: known[one] for one in found}
    return list(chosen.values())


def weights_file(name: str) -> Path:
    """Return the weights file of `--from-weights`: a path, or `architecture.tag` of the catalog.

    Raises:
        UnknownNameError, WeightsError: if it does not exist, or does not match its entry.
    """
    from pathlib import Path

    path = Path(name).expanduser()
    if path.is_file() or path.suffix == ".safetensors":  # a run's folder may have the name of its weights
        return path
    _, weights, _ = catalog.find(name)
    if weights is None:
        raise WeightsError(f"{name} has no trained weights to start from")
    weights = obtaining.obtain(weights)
    path = obtaining.locate(weights.source)
    digests.check(path, weights)
    return path


def train_all(
    recipes: Sequence[Recipe],
    folders: Sequence[Path],
    *,
    minutes: float | None = None,
    evaluate_clips: int | None = None,
    report: Callable[[str], None] | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Train each recipe in its folder, by `loop.train` with these `settings`, and return the outcomes.

    A run that is finished already is skipped; one that was measured on fewer clips than requested now is
    only measured again. If one of several recipes fails, the others continue; a single one raises its error.
    So do several processes, which end together.

    Args:
        recipes: In the order of training.
        folders: One for each.
        minutes: Time limit for all of them together; at least one of them advances in any case.
        evaluate_clips: As in `loop.train`.
        report: Called with one line for each recipe that fails, and one if a signal ends the run.
        settings: Further arguments of `loop.train`.
    """
    started = time.monotonic()
    given_weights = settings.get("from_weights")
    start = sha256_of(given_weights) if given_weights is not None and given_weights.is_file() else None
    outcomes: list[Outcome] = []
    for recipe, folder in zip(recipes, folders, strict=True):
        given: dict[str, Any] = {"recipe": recipe.name}
        left = None if minutes is None else max(0.0, minutes - (time.monotonic() - started) / 60)
        trained = checkpoints.finished(recipe, folder, start, clips=1)
        wanted = evaluate_clips if settings.get("until") is None else 1  # that measures nothing
        done = checkpoints.finished(recipe, folder, start, clips=wanted)
        if parallel.highest(done is not None)[0]:  # as the first process sees it
            outcomes.append(Outcome(**given, status="already finished", weights=str(done)))
        elif parallel.highest(left == 0)[0] and any(one.status in ("finished", "stopped") for one in outcomes):
            outcomes.append(Outcome(**given, status="waiting"))
        else:
            try:
                if parallel.highest(trained is not None)[0]:
                    written = _measure_again(recipe, folder, trained, settings.get("device", "cpu"), evaluate_clips)
                else:
                    written = loop.train(recipe, folder, minutes=left, evaluate_clips=evaluate_clips, **settings)
            except Exception as error:  # an untrusted recipe may raise anything
                if len(recipes) == 1 or parallel.size() > 1:
                    raise
                said = str(error) if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
                outcomes.append(Outcome(**given, status="failed", error=said))
                if report:
                    report(f"error: {recipe.name}: {said}")
                continue
            except (KeyboardInterrupt, SystemExit):  # a signal, whose step is saved by now
                if report and parallel.rank() == 0:
                    with suppress(ZooError, KeyError, ValueError):  # there may be no checkpoint yet
                        stopped = Outcome(**given, status="stopped", position=checkpoints.position(recipe, folder))
                        name = f"{recipe.name}: " if len(recipes) > 1 else ""
                        report(f"{name}{stopped.status}: {stopped.text}; run the same command again to go on")
                raise
            if written is None:
                where = checkpoints.position(recipe, folder)
                outcomes.append(Outcome(**given, status="stopped", position=where))
            else:
                outcomes.append(Outcome(**given, status="finished", weights=str(written)))
    return outcomes


def _measure_again(
    recipe: Recipe, folder: Path, path: Path | None, device: str | torch.device, clips: int | None
) -> Path | None:
    """Replace the evaluation in the record of a finished run; the first process does it, the others wait."""
    if path is not None and parallel.rank() == 0:
        with checkpoints.held(folder):
            with torch.random.fork_rng(devices=[]):
                network = finalizing.exported(recipe, resolve(recipe.build)(**recipe.arguments))
            loop.take_weights(path, network.eval().to("cpu", torch.float32), recipe.name)
            before = json.loads(path.with_suffix(".json").read_text())
            place = devices.resolve(str(device))
            finalizing.write_record(
                recipe, network, path, log=before["log"], device=place, clips=clips, start=before.get("start")
            )
    parallel.wait(long=True)
    return path
