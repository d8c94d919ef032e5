"""Provenance of a model's tensors, by comparison with the file that it was loaded from, however it is named."""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.entries import ModelEntry, WeightsEntry
from zoo.errors import ZooError
from zoo.models.load_report import LoadReport
from zoo.weights import digests
from zoo.weights import files as weights_files

#: "file": every tensor is the file's, in the model's own type; "adapted": as loaded by `zoo.load`, some tensors drawn
#: or adapted; "random": as drawn; "modified": changed since it was loaded from a file; "unknown": no information;
#: "unverified": as loaded from a file that is missing or was replaced, so that nothing can be compared.
Status = Literal["file", "adapted", "random", "modified", "unknown", "unverified"]

#: BatchNorm's counter of batches, which no output in eval mode depends on.
_COUNTER = "num_batches_tracked"

#: Cached results, and the state of the tensors that they are valid for.
_found: weakref.WeakKeyDictionary[nn.Module, tuple[Any, Origin]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Provenance of a model's tensors."""

    status: Status
    #: In words, as what follows "weights:".
    text: str
    #: Tag of the weights that were loaded; None if there were none.
    tag: str | None = None
    #: SHA-256 of the weights' file, where every tensor is that file's.
    sha256: str | None = None


def origin_of(model: nn.Module) -> Origin | None:
    """Return the provenance of a model's tensors; None for a module without a catalog entry.

    Tensors are compared with those of the file, number by number, in the model's type; those that are not from a file
    with a digest computed by `zoo.load`. The result is cached until a tensor is replaced or written to.
    """
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    if entry is None:
        return None
    tensors = _tensors(model)
    state = [(name, value.data_ptr(), _version(value), _probe(value)) for name, value in tensors.items()]
    if model not in _found or _found[model][0] != state:
        _found[model] = state, _compared(model, tensors)
    return _found[model][1]


def entry_of(model: nn.Module) -> ModelEntry | None:
    """Return a model's entry, with the weights, their metrics and SHA-256 only if its tensors are those."""
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    origin = origin_of(model)
    if entry is None or origin is None or origin.status == "file":
        return entry
    return dataclasses.replace(entry, weights=())


def digest(tensors: Mapping[str, Tensor], names: Iterable[str]) -> str:
    """Compute the SHA-256 over names, types, shapes and numbers of tensors; "" if there are none."""
    found = hashlib.sha256()
    chosen = sorted(name for name in names if name in tensors and not name.endswith(_COUNTER))
    for name in chosen:
        value = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        if value.numel():
            found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest() if chosen else ""


def _compared(model: nn.Module, tensors: Mapping[str, Tensor]) -> Origin:
    report: LoadReport | None = getattr(model, "zoo_load_report", None)
    if report is None:
        return Origin(status="unknown", text="of unknown origin: zoo.load did not make this model")
    drawn = (*report.initialised_names, *report.adapted_names)
    kept = digest(tensors, drawn) == report.initial_sha256
    expected = {name for name in (*drawn, *report.taken_names) if not name.endswith(_COUNTER)}
    there = {name for name in tensors if not name.endswith(_COUNTER)}
    if report.file is None:
        if kept and there == expected:
            return Origin(status="random", text="random, drawn from the seed: this model has learned nothing")
        return Origin(status="unknown", text="of unknown origin: put into the model after zoo.load drew it at random")
    file = Path(report.file)
    try:
        weights: WeightsEntry | None = getattr(model, "zoo_weights", None)
        if weights is not None:
            digests.check(file, weights)
        stored = weights_files.map_tensors(file) if report.taken_names else {}
    except (ZooError, OSError):
        text = (
            f"{report.tag}, loaded from a file that is gone or was replaced since ({file.name}): not compared with it"
        )
        return Origin(status="unverified", text=text, tag=report.tag)
    changed = there ^ expected
    changed |= {
        name
        for name in report.taken_names
        if name in tensors and name in stored and not _is(tensors[name], stored[name], report.dtype)
    }
    changed = {name for name in changed if not name.endswith(_COUNTER)}
    if changed or not kept:
        count = max(len(changed), 1)
        text = f"modified since loading: {count} of {len(there)} tensors or more differ from {report.tag} ({file.name})"
        if kept:
            text = f"modified since loading: {count} of {len(there)} tensors differ from {report.tag} ({file.name})"
        return Origin(status="modified", text=text, tag=report.tag)
    if report.adapted or any(not name.endswith(_COUNTER) for name in report.initialised_names) or report.replaced:
        text = (
            f"{report.tag}: {len(report.taken_names)} of {len(there)} tensors as in {file.name}, {report.adapted} made "
            "to fit, the others as initialised"
        )
        return Origin(status="adapted", text=text, tag=report.tag)
    return Origin(status="file", text=str(report.tag), tag=report.tag, sha256=report.sha256)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by their names in `zoo.load`, however the model has been wrapped since."""
    from zoo.models.features import Features

    while True:
        inner = model.model if isinstance(model, Features) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        model = inner


def _is(value: Tensor, stored: Tensor, loaded: str) -> bool:
    """Check whether a tensor equals a file's, in its own type, or in the one that it was loaded in."""
    if value.shape != stored.shape or value.is_meta:
        return False
    here = value.detach().cpu()
    between = getattr(torch, loaded, None)
    if torch.equal(here, stored.to(here.dtype)):
        return True
    return isinstance(between, torch.dtype) and torch.equal(here, stored.to(between).to(here.dtype))


def _version(value: Tensor) -> int:
    return -1 if value.is_inference() else value._version  # noqa: SLF001 - torch counts what is written there


def _probe(value: Tensor) -> list[float]:
    """Return a sample of the numbers: writes through `.data` are not counted by torch."""
    if not value.numel() or value.is_meta:
        return []
    value = value.detach()
    value = torch.view_as_real(value) if value.is_complex() else value
    some = value[:: max(1, value.shape[0] // 8)] if value.ndim else value.reshape(1)
    return some.reshape(len(some), -1)[:, 0].to("cpu", torch.float64).tolist()
