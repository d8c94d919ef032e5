"""Weights files: their header, parts and tensors. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError, one_line
from zoo.limits import LONGEST_HEADER, LONGEST_INDEX, MOST_TENSORS
from zoo.weights import identification
from zoo.weights.identification import INDEX as INDEX

if TYPE_CHECKING:
    from torch import Tensor


#: Types of tensors that models have, as safetensors writes them.
_DTYPES = frozenset(
    {*("BOOL", "C64", "BF16", "F8_E4M3", "F8_E5M2", "F16", "F32", "F64")}
    | {f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64)}
)


def parts(path: Path) -> tuple[Path, ...]:
    """Return the files that make up a weights file: itself, or an index and then its shards, by name.

    Raises:
        WeightsError: if the index is damaged, or names a missing file.
    """
    if not path.name.endswith(INDEX):
        return (path,)
    return path, *(path.with_name(shard) for shard in sorted(set(_placed(path).values())))


def _placed(index: Path) -> dict[str, str]:
    """Return the shard of each tensor in an index."""
    try:
        if index.stat().st_size > LONGEST_INDEX:
            raise ValueError(f"it is longer than {LONGEST_INDEX:,} bytes")
        with index.open("rb") as file:
            found = identification.identify(file.read(identification.LENGTH))
        if found and "JSON" not in found[0]:
            raise ValueError(f"it is {found[0]}; {found[1]}")
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(placed, dict) or not placed:
            raise ValueError("its weight_map names no tensors")
        _check_names(placed)
        for shard in placed.values():
            if not isinstance(shard, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", shard, re.ASCII):
                raise ValueError(f"{shard!r} is no name of a safetensors file beside it")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{index} is no index of safetensors files: {one_line(error)}") from error
    return placed


def size_of(path: Path) -> int:
    """Return the bytes of a weights file, shards included.

    Raises:
        WeightsError: if a shard is missing.
    """
    try:
        return sum(part.stat().st_size for part in parts(path))
    except OSError as error:
        what = f"the shard {Path(error.filename).name} of {path}" if path.name.endswith(INDEX) else str(path)
        raise WeightsError(f"{what} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class Header:
    """Metadata and tensors in the header of a safetensors file."""

    #: Name to dtype (as safetensors writes it) and shape.
    tensors: dict[str, tuple[str, tuple[int, ...]]]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Return names, dtypes and shapes in a file, without reading tensors.

    Raises:
        WeightsError: if it is not a complete safetensors file; a renamed pickle is named as such; if shards do
            not match their index.
    """
    if path.name.endswith(INDEX):
        return _merged(path)
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            start = file.read(identification.LENGTH)
        if found := identification.identify(start):
            raise WeightsError(f"{path} is {found[0]}; {found[1]}")
        if int.from_bytes(start[:8], "little") > LONGEST_HEADER:
            raise ValueError(f"its header has more than {LONGEST_HEADER:,} bytes")
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
            _check_names(names)
            slices = {name: file.get_slice(name) for name in names}
            tensors = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            _check_dtypes(tensors)
            return Header(tensors, dict(file.metadata() or {}))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {one_line(error)}") from error


def _check_names(names: Collection[str]) -> None:
    """Raise ValueError for more tensors than models have, or names that messages could not repeat."""
    if len(names) > MOST_TENSORS:
        raise ValueError(f"it has {len(names):,} tensors; expected at most {MOST_TENSORS:,}")
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise ValueError(f"{odd[:80]!a} is no name of a tensor: it holds what cannot be shown")


def _check_dtypes(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> None:
    odd = next((name for name, (dtype, _) in tensors.items() if dtype not in _DTYPES), None)
    if odd is not None:
        raise ValueError(f"{odd} is {tensors[odd][0]}; expected one of {', '.join(sorted(_DTYPES))}")


def _merged(index: Path) -> Header:
    """Merge the headers of an index's shards; tensors that the index does not place there are errors."""
    placed = _placed(index)
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    metadata: dict[str, str] = {}
    for shard in parts(index)[1:]:
        if not shard.is_file():
            raise WeightsError(f"the shard {shard.name} of {index} is missing; put it beside the index")
        header = read_header(shard)
        expected = {name for name, where in placed.items() if where == shard.name}
        if header.tensors.keys() != expected:
            odd = ", ".join(sorted(header.tensors.keys() ^ expected)[:3])
            raise WeightsError(f"{shard} does not hold the tensors that {index.name} places there: {odd}")
        tensors.update(header.tensors)
        metadata.update(header.metadata)
    return Header(tensors, metadata)


def map_tensors(path: Path, *, mmap: bool = True) -> dict[str, Tensor]:
    """Load the tensors of a weights file, memory-mapped (pages are read on access) or read at once.

    Raises:
        WeightsError: if it cannot be read; `read_header` gives more details.
    """
    import safetensors.torch

    if path.name.endswith(INDEX):
        return {name: value for part in parts(path)[1:] for name, value in map_tensors(part, mmap=mmap).items()}
    if os.fsencode(path).decode(errors="ignore") != str(path):
        mmap = False  # safetensors opens no name that is not UTF-8
    try:
        return safetensors.torch.load_file(path) if mmap else safetensors.torch.load(path.read_bytes())
    except (OSError, ValueError, TypeError, KeyError, RecursionError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path} does not read as tensors: {type(error).__name__}: {one_line(error)}") from error
