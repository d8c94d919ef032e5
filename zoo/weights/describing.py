"""From a weights file to the entry that its header describes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zoo.entries import WeightsEntry
from zoo.entries.overrides import overrides_of
from zoo.errors import WeightsError, one_line
from zoo.limits import LONGEST_OVERRIDES
from zoo.weights.digests import digest_of
from zoo.weights.files import INDEX, read_header, size_of
from zoo.weights.obtaining import locate

#: Key of the safetensors metadata that holds what differs from the architecture's entry, as JSON.
METADATA_KEY = "zoo"


def describe_file(source: str, known: Iterable[WeightsEntry] = ()) -> WeightsEntry:
    """Return the entry of a weights file by path: tag from its name, overrides from its header.

    A JSON file of the same name beside it is taken for its record, and not read here.

    Args:
        source: The path.
        known: Entries of files without a header of ours; the one with this file's SHA-256 is taken for it.

    Raises:
        UnknownNameError, WeightsError: if the file is missing or unreadable.
    """
    path = locate(source)
    tag = path.name.removesuffix(INDEX).removesuffix(".safetensors")
    record = path.with_name(f"{tag}.json")
    metadata = read_header(path).metadata
    if METADATA_KEY not in metadata:
        for entry in known:
            if entry.bytes == size_of(path) and entry.sha256 == digest_of(path):
                return dataclasses.replace(entry, source=str(path))
    overrides = _overrides(path, metadata.get(METADATA_KEY, "{}"))
    return WeightsEntry(
        tag=tag,
        source=str(path),
        bytes=size_of(path),
        sha256=digest_of(path),
        license="unknown",
        record=str(record) if record.is_file() else None,
        **overrides,
    )


def _overrides(path: Path, text: str) -> dict[str, Any]:
    try:
        if len(text) > LONGEST_OVERRIDES:
            raise ValueError(f"it is longer than {LONGEST_OVERRIDES:,} characters")
        return overrides_of(dict(json.loads(text) or {}))
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise WeightsError(f"the header of {path} holds no valid {METADATA_KEY!r} entry: {one_line(error)}") from error
