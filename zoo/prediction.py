"""What a model says about a batch, in words: labels with probabilities, values with units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.entries import ModelEntry, OutputSpec
from zoo.errors import MemoryLimitError, ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping


def predict(model: nn.Module, batch: Tensor, *, top: int = 5) -> list[dict[str, Any]]:
    """Predictions for each sample of a batch.

    Args:
        model: A model of the zoo, or any module that returns a tensor or a dict of tensors.
        batch: As the model expects it, N samples.
        top: How many classes to give for each head.

    Returns:
        One dict for each sample, head name -> `{"kind": "classes", "top": [{"label", "index", "probability"}]}`,
        `{"kind": "value", "value", "unit"}` or `{"kind": "clip", "shape"}`.

    Raises:
        ModelError: where the batch does not fit the model, or its output is neither tensor nor dict.
        MemoryLimitError: where not even this batch fits into memory.
    """
    try:
        with torch.inference_mode():
            output = model(batch)
    except torch.OutOfMemoryError as error:
        raise MemoryLimitError(f"a batch of {list(batch.shape)} does not fit into memory: {error}") from error
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModelError(f"a batch of shape {list(batch.shape)} does not fit the model: {error}") from error
    heads = by_head(model, output)
    specs = output_specs(model, heads)
    return [
        {name: _describe(heads[name][sample].float(), specs[name], top) for name in heads}
        for sample in range(len(batch))
    ]


def by_head(model: nn.Module, output: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's output by the name of its head, in the order of its entry where it has one.

    Raises:
        ModelError: where the output is neither a tensor nor a dict of tensors, or a head is missing from it.
    """
    entry = getattr(model, "zoo_entry", None)
    names = [spec.name for spec in entry.outputs] if isinstance(entry, ModelEntry) else []
    if isinstance(output, Tensor):
        return {names[0] if names else "output": output}
    if not hasattr(output, "keys") or not all(isinstance(output[name], Tensor) for name in output):
        raise ModelError(f"a model returns a tensor or a dict of tensors, this one returned {type(output).__name__}")
    missing = [name for name in names if name not in output]
    if missing:
        raise ModelError(f"the model's output lacks the heads {missing}; it has {list(output)}")
    return {name: output[name] for name in names or output}


def output_specs(model: nn.Module, heads: Mapping[str, Tensor]) -> dict[str, OutputSpec]:
    """What each head is: as the entry says, or judged by shape (one column: a value; more: classes)."""
    entry = getattr(model, "zoo_entry", None)
    said = {spec.name: spec for spec in entry.outputs} if isinstance(entry, ModelEntry) else {}
    return {name: said.get(name) or OutputSpec(name=name, kind=_kind(head)) for name, head in heads.items()}


def _kind(head: Tensor) -> Any:
    if head.ndim > 2:
        return "clip"
    return "value" if head.ndim == 1 or head.shape[1] == 1 else "classes"


def _describe(head: Tensor, spec: OutputSpec, top: int) -> dict[str, Any]:
    if spec.kind == "value":
        return {"kind": "value", "value": float(head.reshape(-1)[0]), "unit": spec.unit}
    if spec.kind == "clip":
        return {"kind": "clip", "shape": list(head.shape)}
    probabilities, indices = head.softmax(-1).topk(min(top, head.numel()))
    return {
        "kind": "classes",
        "top": [
            {"label": spec.labels[index] if spec.labels else str(index), "index": index, "probability": probability}
            for probability, index in zip(probabilities.tolist(), indices.tolist(), strict=True)
        ],
    }
