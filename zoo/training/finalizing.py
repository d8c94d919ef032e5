"""The end of a training run: the weights file, its golden tensors, its metrics and log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo import devices
from zoo.clips.preparing import preprocess
from zoo.entries import ModelEntry, WeightsEntry
from zoo.entries.overrides import overrides_of
from zoo.entries.recipes import Recipe
from zoo.errors import PluginError, UnknownNameError
from zoo.models import verification
from zoo.plain import plain
from zoo.registry import catalog
from zoo.registry.plugins import resolve
from zoo.training.evaluation import measure
from zoo.weights.digests import sha256_of
from zoo.weights.obtaining import locate
from zoo.writing import write, write_tensors


def finalize(
    recipe: Recipe,
    module: nn.Module,
    out: Path,
    *,
    log: list[dict[str, Any]],
    device: str | torch.device = "cpu",
    clips: int | None = None,
    start: str | dict[str, str] | None = None,
) -> Path:
    """Write NAME.safetensors, NAME.golden.safetensors and NAME.json into `out`; return the first.

    The weights file's header carries, as JSON under the key `zoo`, what differs from the architecture's entry. The
    golden file holds `input` and one tensor for each output, computed in float32 on the CPU in eval mode. The JSON
    file is written last, because measuring takes long (`write_record`).

    Raises:
        ModelError: if the recipe's architecture is in the catalog and could not be loaded with these weights, or
            gives other outputs with them; nothing is written then.
    """
    network = exported(recipe, module)
    network.eval().to("cpu", torch.float32)
    example = example_of(recipe)
    with torch.no_grad():
        outputs = network(example)
    if isinstance(outputs, Tensor):
        described = _described(recipe)
        outputs = {"output" if described is None else described.outputs[0].name: outputs}
    check_loads(recipe, network, [(example, outputs)])
    path = out / f"{recipe.name}.safetensors"
    write_tensors(path, network.state_dict(), {"zoo": json.dumps(dict(recipe.header))})
    write_tensors(out / f"{recipe.name}.golden.safetensors", {"input": example, **outputs}, {})
    write_record(recipe, network, path, log=log, device=device, clips=clips, start=start)
    return path


def exported(recipe: Recipe, module: nn.Module) -> nn.Module:
    """Return the network that a recipe keeps of what was trained."""
    network: nn.Module = resolve(recipe.export)(module) if recipe.export else module
    return network


def measured_in_training(recipe: Recipe, module: nn.Module, *, clips: int | None = None) -> dict[str, float | None]:
    """Measure what is being trained, and leave it as it is found; the recipe's metrics by name."""
    modes = {part: part.training for part in module.modules()}
    network = exported(recipe, module).eval()
    place = devices.like(module).device
    try:
        with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
            found = measure(recipe, network, place, recipe.name, None, clips=clips)
    finally:
        for part, training in modes.items():
            part.training = training
    return {metric["name"]: metric["value"] for metric in found["metrics"]}


def example_of(recipe: Recipe) -> Tensor:
    """Return the batch of a recipe's golden tensors: what it names, else the first sample of its architecture.

    Raises:
        PluginError: if it names none, and no sample comes with the architecture.
    """
    if recipe.example:
        example: Tensor = resolve(recipe.example)(**recipe.example_arguments)
        return example
    entry = _described(recipe)
    if entry is None or not entry.samples:
        raise PluginError(
            f"recipe {recipe.name} names no `example`, and no sample comes with {recipe.name.partition('.')[0]}: name "
            "a function that returns a batch, or give the model's entry samples"
        )
    clip = load_file(locate(entry.samples[0].resource))["clips"][0]
    return preprocess(clip, entry.input)


def check_loads(recipe: Recipe, network: nn.Module, cases: Sequence[tuple[Tensor, Mapping[str, Tensor]]] = ()) -> None:
    """Raise ModelError unless `zoo.load` can take the weights of a recipe's network and gives these outputs.

    A recipe of an architecture that no plugin registers makes a file for its author's own code, and is left alone.
    """
    described = _described(recipe)
    if described is not None:
        tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        verification.check_rebuilt(described, tensors, cases)


def _described(recipe: Recipe) -> ModelEntry | None:
    """Return the entry that `zoo.load` builds for a recipe's weights; None if no plugin registers the architecture."""
    try:
        listing, _, _ = catalog.find(recipe.name.partition(".")[0])
    except UnknownNameError:
        return None
    header = json.loads(json.dumps(plain(recipe.header)))
    return listing.entry.resolve(WeightsEntry(tag="new", source="", bytes=0, sha256="", **overrides_of(header)))


def write_record(
    recipe: Recipe,
    network: nn.Module,
    path: Path,
    *,
    log: list[dict[str, Any]],
    device: str | torch.device = "cpu",
    clips: int | None = None,
    start: str | dict[str, str] | None = None,
) -> None:
    """Measure the network of the weights file `path`, in eval mode, and write NAME.json beside it.

    It holds the recipe, the log, what `evaluation.measure` gives on `device`, `bytes` of the file and `parameters` of
    the network; `start`, the sha256 of the weights that training was given to begin with, or names and sha256 of those
    that `build` began with, else None; and `clips_asked`: on how many clips of the test set, the first ones, it was to
    be measured (None: all). `zoo.bundled_weights` reads the file's entry from it.
    """
    network.to(device)
    measured = measure(recipe, network, torch.device(device), recipe.name, sha256_of(path), clips=clips)
    record = {
        "recipe": recipe.to_dict(),
        "steps": recipe.steps,
        "clips_seen": recipe.clips,
        "start": start,
        "clips_asked": clips,
        "bytes": path.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **measured,
        "log": log,
    }
    write(path.with_suffix(".json"), json.dumps(plain(record), indent=1, allow_nan=False) + "\n")
