"""The end of a training run: the weights file, its golden tensors, its metrics and log."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import OutputError
from zoo.plugins import resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.training.recipes import Recipe


def finalize(
    recipe: Recipe, module: nn.Module, out: Path, *, log: list[dict[str, Any]], device: str | torch.device = "cpu"
) -> Path:
    """Write NAME.safetensors, NAME.golden.safetensors and NAME.json into `out`; return the first.

    The weights file's header carries, as JSON under the key `zoo`, what differs from the architecture's entry. The
    golden file holds `input` and one tensor for each output, computed in float32 on the CPU in eval mode. The JSON
    file holds the recipe, its metrics and their breakdown, and the log.
    """
    network: nn.Module = resolve(recipe.export)(module)
    network.eval()
    measured = resolve(recipe.evaluate)(network, torch.device(device))
    network.to("cpu", torch.float32)
    weights = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    example: Tensor = resolve(recipe.example)()
    with torch.no_grad():
        outputs = network(example)
    if isinstance(outputs, Tensor):
        outputs = {"output": outputs}
    path = out / f"{recipe.name}.safetensors"
    _save(path, weights, {"zoo": json.dumps(dict(recipe.header))})
    _save(out / f"{recipe.name}.golden.safetensors", {"input": example, **outputs}, {})
    record = {
        "recipe": recipe.to_dict(),
        "steps": recipe.steps,
        "clips_seen": recipe.clips,
        **measured,
        "torch": torch.__version__,
        "device": str(device),
        "log": log,
    }
    _write(out / f"{recipe.name}.json", json.dumps(record, indent=1) + "\n")
    return path


def _save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    _write(path, save({name: value.contiguous() for name, value in tensors.items()}, metadata=metadata))


def _write(path: Path, content: bytes | str) -> None:
    """Replace a file at once: it is the old one or the new one, never half of either."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
