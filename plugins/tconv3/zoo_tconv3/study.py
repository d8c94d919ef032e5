"""Study of temporal parameters after training: their deviations from the identity, over three seeds.

`python -m zoo_tconv3.study RUNS` trains what is missing in the folder RUNS, every recipe below with every seed, and
writes its tables to `study.json` there and to the screen: for each kind of motion, the deviation of each temporal
parameter over that for static digits; and the networks of nine motions from scratch and from 2D weights (the
paper's tables 3 and 4). `--only PATTERN` trains a part, so that several processes can share the work.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import zoo
from zoo.devices import keep_freed_memory
from zoo.errors import ZooError
from zoo.training.loop import train
from zoo.writing import write
from zoo_tconv3.layer import IDENTITY, TConv3d
from zoo_tconv3.recipes import RECIPES

SEEDS = (1, 2, 3)
KINDS = ("zoom", "rotation", "translation", "static")
STARTS = ("motion_mnist", "motion_mnist_pretrained")
_ARCHITECTURE = "3t_resnet18_w16"


def deviations(network: torch.nn.Module, *, first: bool = False) -> dict[str, torch.Tensor]:
    """Return the signed deviations of every temporal parameter from the identity, over layers, filters and steps.

    `first` selects the first layer alone, whose filters read the pixels themselves.
    """
    layers = [part.temporal_parameters() for part in network.modules() if isinstance(part, TConv3d)]
    layers = layers[:1] if first else layers
    return {
        name: torch.cat([layer[name].detach().flatten() for layer in layers]).double() - value
        for name, value in IDENTITY.items()
    }


def measure(path: Path) -> dict[str, Any]:
    """Return the accuracy of a weights file by its record, and mean and spread of each parameter's |deviation|."""
    network = zoo.load(_ARCHITECTURE, weights=path)
    record = json.loads(path.with_suffix(".json").read_text())
    found = {name: value.abs() for name, value in deviations(network).items()}
    in_first = deviations(network, first=True)
    return {
        "accuracy": record["metrics"][0]["value"],
        "mean": {name: float(value.mean()) for name, value in found.items()},
        "std": {name: float(value.std()) for name, value in found.items()},
        "mean_in_first_layer": {name: float(value.abs().mean()) for name, value in in_first.items()},
    }


def tables(runs: Path) -> dict[str, Any]:
    """Compute all tables from the finished runs; each figure with one value for each seed."""
    found = {tag: [measure(_weights(runs, tag, seed)) for seed in SEEDS] for tag in (*KINDS, *STARTS)}
    return {
        "seeds": list(SEEDS),
        "torch": torch.__version__,
        "runs": found,
        "ratio_to_static": _ratios(found, "mean"),
        "ratio_to_static_in_first_layer": _ratios(found, "mean_in_first_layer"),
    }


def _ratios(found: dict[str, list[dict[str, Any]]], figure: str) -> dict[str, dict[str, list[float]]]:
    """Return the ratio of each kind of motion to static digits, parameter by parameter, seed by seed."""
    return {
        kind: {
            name: [
                moved[figure][name] / rest[figure][name]
                for moved, rest in zip(found[kind], found["static"], strict=True)
            ]
            for name in IDENTITY
        }
        for kind in KINDS
        if kind != "static"
    }


def _weights(runs: Path, tag: str, seed: int) -> Path:
    return runs / f"{_ARCHITECTURE}.{tag}-{seed}" / f"{_ARCHITECTURE}.{tag}.safetensors"


def _spread(values: list[float], scale: float = 1.0) -> str:
    return f"{scale * mean(values):.2f} ± {scale * stdev(values):.2f}"


def text(found: dict[str, Any]) -> str:
    """Format the tables in Markdown: mean and standard deviation over the seeds."""
    names = list(IDENTITY)
    lines = []
    for title, figure in (("all layers", "ratio_to_static"), ("first layer", "ratio_to_static_in_first_layer")):
        lines += [f"| {title} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [
            f"| {kind} | {' | '.join(_spread(row[name]) for name in names)} |" for kind, row in found[figure].items()
        ]
        lines.append("")
    lines += [f"| weights | accuracy % | {' | '.join(f'{name} ×10⁻³' for name in names)} |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for tag, runs in found["runs"].items():
        accuracy = _spread([run["accuracy"] for run in runs], 100)
        cells = [_spread([run["mean"][name] for run in runs], 1000) for name in names]
        lines.append(f"| {tag} | {accuracy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, then write the tables once everything is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", default="*", help="pattern of TAG-SEED")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    keep_freed_memory()
    recipes = {recipe.name: recipe for recipe in RECIPES}
    runs = [(tag, seed) for seed in SEEDS for tag in (*STARTS, *KINDS)]
    chosen = [(tag, seed) for tag, seed in runs if fnmatch(f"{tag}-{seed}", given.only)]
    if not chosen:
        known = ", ".join(f"{tag}-{seed}" for tag, seed in runs)
        parser.error(f"--only {given.only} matches none of {known}")
    try:
        for tag, seed in chosen:
            path = _weights(given.runs, tag, seed)
            if not path.with_suffix(".json").is_file():
                train(replace(recipes[f"{_ARCHITECTURE}.{tag}"], seed=seed), path.parent, device=given.device)
        if all(_weights(given.runs, tag, seed).with_suffix(".json").is_file() for tag, seed in runs):
            found = tables(given.runs)
            write(given.runs / "study.json", json.dumps(found, indent=1) + "\n")
            print(text(found))  # noqa: T201 - a command of its own
    except ZooError as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
