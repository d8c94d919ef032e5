"""Whether a model's weights are what its entry says: checksum, parameters, and outputs on golden tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zoo import catalog, loading
from zoo import weights as weights_files
from zoo.errors import ZooError
from zoo.prediction import by_head

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
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def verify(name: str) -> Verification:
    """Check one weights file of the catalogue: its SHA-256 (hashed again), its parameters, its golden outputs.

    Raises:
        UnknownNameError: for an unknown model or tag.
        UsageError: for a model without trained weights.
    """
    entry, weights = loading.resolve(name, "default")
    assert weights is not None  # noqa: S101 - "default" gives weights or raises
    resolved = entry.resolve(weights)
    full_name = f"{entry.name}.{weights.tag}"
    checks: list[Check] = []
    try:
        path = weights_files.locate(weights.source)
        digest = weights_files.sha256_of(path, remembered=False)
        checks += [_equal("sha256", digest, weights.sha256), _equal("bytes", path.stat().st_size, weights.bytes)]
        model = loading.load(full_name)
        count = sum(parameter.numel() for parameter in model.parameters())
        checks.append(_equal("parameters", count, resolved.parameters))
        if weights.golden is not None:
            checks += _golden(model, weights.golden)
    except ZooError as error:
        checks.append(Check(name="load", passed=False, detail=str(error)))
    return Verification(model=full_name, checks=tuple(checks))


def verify_all(pattern: str = "*") -> list[Verification]:
    """`verify` for every weights file whose `architecture.tag` matches."""
    return [verify(name) for name in catalog.list_models(pattern, pretrained=True)]


def _equal(name: str, found: object, expected: object) -> Check:
    same = found == expected
    return Check(name=name, passed=same, detail=str(found) if same else f"{found}, the entry says {expected}")


def _golden(model: torch.nn.Module, source: str) -> list[Check]:
    tensors = weights_files.map_tensors(weights_files.locate(source))
    with torch.inference_mode():
        heads = by_head(model, model(tensors.pop("input")))
    checks = []
    for name, expected in tensors.items():
        close = name in heads and torch.allclose(heads[name], expected, rtol=RTOL, atol=ATOL)
        difference = float((heads[name] - expected).abs().max()) if name in heads else float("nan")
        checks.append(Check(name=f"golden {name}", passed=close, detail=f"largest difference {difference:.1e}"))
    return checks
