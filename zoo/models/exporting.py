"""Models as programs of torch.export, which run without their plugin, and without zoo."""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo import devices
from zoo.entries import ModelEntry
from zoo.errors import ModelError, UsageError, describe
from zoo.models.heads import by_head
from zoo.models.verification import ATOL, RTOL
from zoo.writing import check_writable, write

#: Suffix of programs of torch.export.
SUFFIX = ".pt2"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A program that was written, read again and run."""

    file: str
    bytes: int
    #: Shape of a batch; the first is None if any number of samples will do.
    batch: tuple[int | None, ...]
    outputs: tuple[str, ...]
    #: Largest difference to the model's outputs, of samples that were not exported with.
    difference: float


def export(model: nn.Module, path: Path, *, dynamic_batch: bool = False, seed: int = 0) -> Exported:
    """Write a model as a program of torch.export, once that gives the model's outputs; nothing is written otherwise.

    Args:
        model: That `zoo.load` gave; it stays as it is.
        path: Of the file, ending in `.pt2`.
        dynamic_batch: Any number of samples instead of one.
        seed: Of the batch that is compared.

    Raises:
        UsageError: for another ending, or a module that is not of the zoo.
        ModelError: if the model cannot be exported, or the program gives something else.
        OutputError: if the file cannot be written.
    """
    entry: ModelEntry | None = getattr(model, "zoo_entry", None)
    if entry is None:
        raise UsageError("only a model that zoo.load gave can be exported: its entry says what goes in")
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a program of torch.export is a file whose name ends in {SUFFIX}")
    check_writable(path)
    plain = copy.deepcopy(model).eval()
    like = devices.like(plain)
    generator = torch.Generator().manual_seed(seed)
    samples = 2 if dynamic_batch else 1
    shape = (samples, *entry.input.shape[1:])
    example, other = (torch.rand(shape, generator=generator).to(like) for _ in range(2))
    dynamic = ({0: torch.export.Dim("samples")},) if dynamic_batch else None
    hint = "; with one sample at a time it may work" if dynamic_batch else ""
    buffer = io.BytesIO()
    with torch.no_grad():
        try:
            program = torch.export.export(plain, (example,), dynamic_shapes=dynamic, strict=False)
            torch.export.save(program, buffer)
            again: Any = torch.export.load(io.BytesIO(buffer.getvalue())).module()
            if dynamic_batch:
                other = torch.cat([other, other[:1]])
            found = by_head(plain, again(other))
            plain = copy.deepcopy(model).eval()  # a layer may have kept what tracing put into it
            difference = _compared(entry.name, by_head(plain, plain(other)), found)
        except ModelError:
            raise
        except Exception as error:  # torch.export can raise anything
            if devices.is_out_of_memory(error):
                raise
            raise ModelError(f"{entry.name} cannot be exported: {describe(error)}{hint}") from error
    write(path, buffer.getvalue())
    return Exported(
        file=str(path),
        bytes=len(buffer.getvalue()),
        batch=(None if dynamic_batch else 1, *shape[1:]),
        outputs=tuple(found),
        difference=difference,
    )


def _compared(name: str, expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    """Largest difference between two outputs.

    Raises:
        ModelError: if it is too large, or a head is missing.
    """
    for head, tensor in expected.items():
        if head not in found or not torch.allclose(found[head], tensor, rtol=RTOL, atol=ATOL):
            raise ModelError(f"{name} cannot be exported: the program gives another {head!r} than the model")
    return max(float((found[head] - tensor).abs().max()) for head, tensor in expected.items())
