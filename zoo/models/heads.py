"""The outputs of a model by the names of its heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from zoo.entries import Kind, ModelEntry, OutputSpec
from zoo.errors import ModelError
from zoo.models.layouts import layout_of, to_ncthw


def by_head(model: nn.Module, output: Any) -> dict[str, Tensor]:
    """Return a model's output by the names of its heads: those of its entry first, in that order.

    A dict, a named tuple and a dataclass keep their names; a tuple or list takes the entry's, or "0", "1", ... where
    their numbers differ; one tensor is the entry's only head, or "output". What is not a tensor of real numbers is left
    out; truth values are 0 and 1. Logits N x 1 x K become N x K; heads that the entry calls `per_frame` are N x T x K,
    a value's N x T x 1.

    Raises:
        ModelError: if no tensor can be named, or a head of the entry is missing.
    """
    names = [spec.name for spec in outputs_of_entry(model)]
    if isinstance(output, Mapping):
        named = {str(name): value for name, value in output.items()}
    elif isinstance(output, tuple | list):
        places = getattr(output, "_fields", None) or [str(place) for place in range(len(output))]
        named = dict(zip(names if len(names) == len(output) else places, output, strict=True))
    elif dataclasses.is_dataclass(output):
        named = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    else:
        named = {names[0] if len(names) == 1 else "output": output}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    heads = {
        name: value.float() if value.dtype == torch.bool else value
        for name, value in tensors.items()
        if not value.is_complex()
    }
    if not heads and tensors:
        raise ModelError(
            f"the model gives complex numbers ({', '.join(tensors)}), of which none is larger than another; let it "
            "give their magnitude, or explain a callable target such as target=lambda output: output.abs().sum(dim=1)"
        )
    if not heads:
        raise ModelError(f"the model returned {type(output).__name__}, in which no tensor can be named")
    missing = [name for name in names if name not in heads]
    if missing:
        raise ModelError(f"the model's output lacks the heads {missing} that its entry names; it has {list(heads)}")
    specs = {spec.name: spec for spec in outputs_of_entry(model)}
    return {name: _shaped(heads[name], specs.get(name)) for name in dict.fromkeys([*names, *heads])}


def output_specs(model: nn.Module, heads: Mapping[str, Tensor], batch: Tensor | None = None) -> dict[str, OutputSpec]:
    """Return the kind of each head, from the entry or inferred from its shape.

    N or N x 1 is a value, N x K classes, N x T x K classes of each of the T frames of `batch`, and else a clip.

    Raises:
        UsageError: if a head may have a row for each frame, and which axis of `batch` is time is not known.
    """
    said = {spec.name: spec for spec in outputs_of_entry(model)}
    specs = {name: said.get(name) or OutputSpec(name=name, kind=_kind(head)) for name, head in heads.items()}
    rows = [name for name, head in heads.items() if name not in said and head.ndim == 3]
    if rows and batch is not None and batch.ndim == 5:
        frames = to_ncthw(batch, layout_of(model, batch)).shape[2]
        for name in rows:
            if heads[name].shape[1] == frames:
                kind: Kind = "classes" if heads[name].shape[2] > 1 else "value"
                specs[name] = OutputSpec(name=name, kind=kind, per_frame=True)
    return specs


def over_time(heads: Mapping[str, Tensor], specs: Mapping[str, OutputSpec]) -> dict[str, Tensor]:
    """Average per-frame classes or values over time, to N x K; other heads are unchanged."""
    return {name: head.mean(dim=1) if specs[name].per_frame else head for name, head in heads.items()}


def outputs_of_entry(model: nn.Module) -> tuple[OutputSpec, ...]:
    """Return the outputs of the model's entry; empty for a module from outside the zoo."""
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    return entry.outputs if entry else ()


def _shaped(head: Tensor, spec: OutputSpec | None) -> Tensor:
    """Reshape classes and values to N x K, or N x T x K for per-frame heads."""
    if spec is not None and spec.per_frame:
        return head.unsqueeze(-1) if head.ndim == 2 and spec.kind == "value" else head
    if head.ndim == 3 and head.shape[1] == 1 and (spec is None or spec.kind != "clip"):
        return head.squeeze(1)
    return head


def _kind(head: Tensor) -> Kind:
    if head.ndim not in {1, 2}:
        return "clip"
    return "value" if head.ndim == 1 or head.shape[1] == 1 else "classes"
