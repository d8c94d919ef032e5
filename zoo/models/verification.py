"""Verification of a model's weights against its entry: checksum, parameters, and outputs on golden tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from zoo.entries import ModelEntry
from zoo.errors import ModelError, UsageError, WeightsError, ZooError
from zoo.models import loading, meta
from zoo.models.heads import by_head
from zoo.registry import catalog, resolving
from zoo.weights import digests, hub, obtaining, places, torch_files
from zoo.weights import files as weights_files

#: Largest relative difference to a golden output, on CPU in float32.
RTOL = 1e-4

#: Added to it for outputs near zero.
ATOL = 1e-5


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was checked."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Every check of one weights file."""

    model: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Check whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(name: str, *, offline: bool = False, token: str | None = None) -> Verification:
    """Check one weights file of the catalog: its SHA-256 (hashed again), its parameters, its golden outputs.

    Args:
        name: As `zoo.load` takes it.
        offline: Fetch nothing; what is not on this machine fails.
        token: Hub token; by default that of the environment.

    Raises:
        UnknownNameError: for an unknown model or tag.
        UsageError: for a model without trained weights.
    """
    fetching: dict[str, Any] = {"offline": offline, "token": token}
    entry, weights = resolving.resolve(name, "default", **fetching)
    assert weights is not None  # noqa: S101 - "default" gives weights or raises
    resolved = entry.resolve(weights)
    checks: list[Check] = []
    try:
        weights = obtaining.obtain(weights, **fetching)
        path = obtaining.locate(weights.source)
        digest = digests.digest_of(path, remembered=False)
        checks += [
            _equal("sha256", digest, weights.sha256),
            _equal("bytes", weights_files.size_of(path), weights.bytes),
        ]
        model = loading.load(name, **fetching)
        count = sum(parameter.numel() for parameter in model.parameters())
        checks.append(_equal("parameters", count, resolved.parameters))
        odd: Any = model.zoo_load_report.not_finite  # type: ignore[union-attr]  # a plain attribute
        checks.append(
            Check(name="finite", passed=not odd, detail=f"NaN or infinity in {', '.join(odd[:3])}" if odd else "all")
        )
        if weights.golden is not None:
            checks += _golden(model, weights.golden, fetching)
    except ZooError as error:
        checks.append(Check(name="load", passed=False, detail=str(error)))
    return Verification(model=f"{entry.name}.{weights.tag}", checks=tuple(checks))


def verify_all(pattern: str = "*", *, offline: bool = False, token: str | None = None) -> list[Verification]:
    """`verify` for every weights file whose `architecture` or `architecture.tag` matches, and which is on this machine.

    Raises:
        UsageError: if none does.
    """
    names = [
        f"{listing.full_name}.{weights.tag}"
        for listing in catalog.select(pattern)
        for weights in listing.entry.weights
        if fnmatchcase(listing.entry.name, pattern) or fnmatchcase(f"{listing.entry.name}.{weights.tag}", pattern)
        if not torch_files.is_missing(weights)
    ]
    if not names:
        hint = "`zoo list --pretrained` shows the models that have some"
        raise UsageError(f"no weights match {pattern!r} on this machine; {hint}")
    return [verify(name, offline=offline, token=token) for name in names]


def check_rebuilt(
    entry: ModelEntry,
    tensors: dict[str, torch.Tensor],
    cases: Iterable[tuple[torch.Tensor, Mapping[str, torch.Tensor]]],
) -> None:
    """Build a model anew, load tensors strictly and compare its outputs: what is written must be loaded by others.

    Args:
        entry: As it will be read with the file.
        tensors: The file's, by name.
        cases: Batches, and what the model gave for each, by head, on the CPU in float32.

    Raises:
        ModelError: if the tensors are not those of the entry's network, or it gives other outputs with them.
    """
    changed = f"{entry.name} could not be loaded again, and nothing was written"
    known = meta.shapes(entry)
    if problems := loading.differences(known, meta.shapes_of(tensors)):
        raise ModelError(
            f"{changed}: its tensors are not those that its builder makes: {problems}. Merge adapters and remove "
            "parametrizations (torch.nn.utils.parametrize.remove_parametrizations); ask for another head with "
            "zoo.load(..., num_classes=N), or give the builder an argument for what was changed"
        )
    try:
        model = loading.assemble(entry, tensors, "the model")[0].float().eval()
    except WeightsError as error:
        raise ModelError(f"{changed}: {error}") from error
    model.zoo_entry = entry  # type: ignore[assignment]  # a plain attribute, by which its outputs are named
    for batch, expected in cases:
        with torch.inference_mode():
            heads = by_head(model, model(batch))
        wrong = [
            f"{name} (largest difference {_difference(heads.get(name), value):.1e})"
            for name, value in expected.items()
            if not _agree(heads.get(name), value)
        ]
        if wrong:
            raise ModelError(
                f"{changed}: built anew with its tensors it gives other outputs: {', '.join(wrong)}. Something that "
                "holds no tensors was changed after it was built, such as an activation, a hook or its forward"
            )


def _difference(found: torch.Tensor | None, expected: torch.Tensor) -> float:
    if found is None or found.shape != expected.shape:
        return float("nan")
    return float((found - expected).abs().max())


def _agree(found: torch.Tensor | None, expected: torch.Tensor) -> bool:
    """Check whether outputs are equal up to rounding, however small they are."""
    if found is None or found.shape != expected.shape:
        return False
    allowed = RTOL * max(float(expected.abs().max()), torch.finfo(torch.float32).tiny)
    return torch.allclose(found, expected, rtol=0, atol=allowed)


def _equal(name: str, found: object, expected: object) -> Check:
    same = found == expected
    return Check(name=name, passed=same, detail=str(found) if same else f"{found}, the entry says {expected}")


def _golden(model: torch.nn.Module, source: str, fetching: Mapping[str, Any]) -> list[Check]:
    if source.startswith("hub:"):
        hub.fetch(places.parse(source), **fetching)
    path = obtaining.locate(source)
    weights_files.read_header(path)  # reports what is wrong with a damaged file
    expected = weights_files.map_tensors(path)
    batch = expected.pop("input", None)
    if batch is None or not expected:
        raise WeightsError(f"{path} holds no golden tensors: expected `input` and one tensor for each output")
    with torch.inference_mode():
        heads = by_head(model, model(batch))
    return [_compared(name, heads.get(name), tensor) for name, tensor in expected.items()]


def _compared(name: str, found: torch.Tensor | None, expected: torch.Tensor) -> Check:
    if found is None or found.shape != expected.shape:
        shape = "no such output" if found is None else f"shape {list(found.shape)}"
        return Check(name=f"golden {name}", passed=False, detail=f"{shape}, expected {list(expected.shape)}")
    close = torch.allclose(found, expected, rtol=RTOL, atol=ATOL)
    difference = float((found - expected).abs().max())
    return Check(name=f"golden {name}", passed=close, detail=f"largest difference {difference:.1e}")
