"""Checkpoint of a training run, from which it resumes, and its log.

A checkpoint holds parameters, buffers, the optimizer's moments and the running average, all as trained
(float32), and the run's position as JSON in its header: 12 to 16 bytes a parameter. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zoo.entries.recipes import Recipe, Stage
from zoo.errors import TrainingError
from zoo.writing import TEMPORARY, write, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT: Final = "checkpoint.safetensors"
LOG: Final = "log.json"


def save(folder: Path, recipe: Recipe, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Replace the checkpoint and the log; a killed run leaves the previous ones.

    Args:
        folder: Of the run.
        recipe: Being trained.
        state: `stage_index`, `step`, `seconds`, `log`, and `start` (see `finalizing.write_record`).
        tensors: All tensors that the run needs to resume.

    Raises:
        OutputError: if they cannot be written.
    """
    begun = recipe.stages[: state["stage_index"] + (state["step"] > 0)]
    whole = {**_identity(recipe), "stages": [asdict(stage) for stage in begun], **state}
    write_tensors(folder / CHECKPOINT, tensors, {"training": json.dumps(whole)})
    write(folder / LOG, json.dumps(state["log"], indent=1) + "\n")


def read(folder: Path, recipe: Recipe, device: str = "cpu") -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return state and tensors of the folder's checkpoint; None if it has none.

    Raises:
        TrainingError: if the file is damaged, or belongs to another recipe.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt", device=device) as file:
            state = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        differences = _differences(recipe, state)
        state = {"start": None, **{name: state[name] for name in ("stage_index", "step", "seconds", "log")}, **state}
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is no checkpoint; delete it to start anew") from error
    if differences:
        raise TrainingError(f"{path} belongs to another recipe ({'; '.join(differences)}); {ANEW}")
    return state, tensors


#: Advice for a checkpoint that does not fit.
ANEW: Final = "choose another folder, or delete it to start anew"


def _identity(recipe: Recipe) -> dict[str, Any]:
    return {"recipe": recipe.name, "seed": recipe.seed, "arguments": dict(recipe.arguments)}


def _differences(recipe: Recipe, state: dict[str, Any]) -> list[str]:
    """Describe how a checkpoint's recipe differs; fields that an older checkpoint lacks have their defaults."""
    own = _identity(recipe)
    found = _unlike({name: state[name] for name in own if name in state}, own)
    for k, stage in enumerate(state["stages"]):
        now = asdict(recipe.stages[k]) if k < len(recipe.stages) else {}
        found += [f"stage {stage['name']!r}: {line}" for line in _unlike(_whole(stage), now)]
    return found


def _whole(stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage with defaults for the settings that it omits."""
    with suppress(TypeError):  # a later version's file may have settings unknown here: they differ
        return asdict(Stage(**stage))
    return stage


def _unlike(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    plain = json.loads(json.dumps(now))  # tuples are lists in the checkpoint
    return [f"{name} {value!r}, now {plain.get(name)!r}" for name, value in before.items() if plain.get(name) != value]


def finished(recipe: Recipe, folder: Path, start: str | None = None, *, clips: int | None = None) -> Path | None:
    """Return the weights file, if the folder holds a complete one with the record of this very recipe; else None.

    Args:
        recipe: To compare with.
        folder: Of the run.
        start: sha256 of the weights that it must have begun with; None is any.
        clips: It must have been measured on at least so many of the test set; None is all.
    """
    path = folder / f"{recipe.name}.safetensors"
    try:
        record = json.loads((folder / f"{recipe.name}.json").read_text())
        made = record["recipe"]
        stages = [_whole(stage) for stage in made.pop("stages")]
        own = asdict(recipe)
        whole = asdict(Recipe(**{**made, "stages": stages}))
        asked = record.get("clips_asked")  # older records lack this, and are assumed complete
        enough = asked is None or (clips is not None and clips <= asked)
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None
    for one in (own, whole):
        del one["summary"], one["search"]  # words, and what else could have been
    same = start in (None, record.get("start")) and not _unlike(whole, own)
    return path if same and enough and path.is_file() else None


def position(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Return the position of a stopped run: `stage` and its `step` of `steps` (None if done), `checkpoint_bytes`."""
    from zoo.weights.files import read_header

    path = folder / CHECKPOINT
    state = json.loads(read_header(path).metadata["training"])
    stage = recipe.stages[state["stage_index"]] if state["stage_index"] < len(recipe.stages) else None
    return {
        "stage": stage and stage.name,
        "step": state["step"],
        "steps": stage.steps if stage else 0,
        "checkpoint_bytes": path.stat().st_size,
    }


def clear_remains(folder: Path) -> None:
    """Delete partial files of a killed run; no other process may be writing there (`held`)."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs out of the folder, for as long as this process lives or the context lasts.

    Raises:
        TrainingError: if another run is on there.
    """
    try:
        import fcntl
    except ImportError:  # Windows: nothing of the kind
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"another run is training in {folder}; wait for it, or choose another folder") from None
        except OSError:  # some network disks lock nothing
            pass
        yield
    finally:
        os.close(handle)
