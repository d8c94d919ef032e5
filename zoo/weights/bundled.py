"""The entries of the weights files in a package, from the records that training wrote beside them."""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.entries.overrides import overrides_of
from zoo.entries.spec import Metric, WeightsEntry
from zoo.entries.typechecks import check_types
from zoo.errors import PluginError, one_line
from zoo.names import natural
from zoo.weights.identification import INDEX

_SHA256 = re.compile(r"[0-9a-f]{64}")


def bundled_weights(
    package: str, folder: str = "weights", *, order: Sequence[str] = ()
) -> dict[str, tuple[WeightsEntry, ...]]:
    """Read the entries of the weights files in a folder of a package from the records beside them.

    `zoo train` writes three files, which are copied into the folder under their names: MODEL.TAG.safetensors, the
    golden tensors MODEL.TAG.golden.safetensors and the record MODEL.TAG.json. The record holds `sha256`, `bytes`,
    `metrics`, the `recipe` with what differs from the architecture's entry, `parameters`, and, where it is not
    Apache-2.0, `license`. Only records are opened, and torch is not imported.

    Args:
        package: Name of the importable package that holds the folder.
        folder: Its path in the package, with `/` between folders.
        order: Tags in the order in which a model has them, its default first; other tags follow in natural order.

    Returns:
        The weights of each model by the model's name, for `ModelEntry(weights=...)`.

    Raises:
        PluginError: if the folder is missing, a record is damaged or incomplete, a weights file has no record, or no
            weights file has a tag of `order`.
    """
    place = _place(package, folder)
    try:
        names = os.listdir(place)  # noqa: PTH208 - `zoo list` waits, and pathlib takes ten times as long
    except OSError as error:
        raise PluginError(f"cannot read the weights of {package} in {place}: {error.strerror}") from error
    records = {name.removesuffix(".json") for name in names if name.endswith(".json") and not name.endswith(INDEX)}
    _check_complete(place, names, records)
    found: dict[str, list[WeightsEntry]] = {}
    for name in records:
        model, dot, tag = name.partition(".")
        if not (model and dot and tag):
            raise PluginError(f"{_path(place, name)}: expected a record's name to be MODEL.TAG.json")
        found.setdefault(model, []).append(_entry(f"{package}:{folder}/{name}", tag, _path(place, name)))
    tags = {weights.tag for several in found.values() for weights in several}
    unknown = [tag for tag in order if tag not in tags]
    if unknown:
        raise PluginError(f"no weights file in {place} has the tag {unknown[0]!r}, which `order` names")
    ranks = {tag: rank for rank, tag in enumerate(order)}
    return {model: _sorted(several, ranks) for model, several in sorted(found.items())}


def _place(package: str, folder: str) -> str:
    """Return the folder on this machine."""
    try:
        homes = list(getattr(importlib.import_module(package), "__path__", ()))
    except ImportError as error:
        raise PluginError(f"bundled_weights({package!r}): there is no such package: {one_line(error)}") from error
    if not homes:
        raise PluginError(f"bundled_weights({package!r}): a module without a folder holds no weights; name a package")
    return os.path.join(homes[0], *folder.split("/"))  # noqa: PTH118 - as above


def _path(place: str, name: str) -> str:
    return os.path.join(place, f"{name}.json")  # noqa: PTH118 - as above


def _check_complete(place: str, names: Iterable[str], records: set[str]) -> None:
    """Raise PluginError for a weights file without a record, which would otherwise not be listed."""
    files = {name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors")}
    missing = sorted(name for name in files - records if not name.endswith(".golden"))
    if missing:
        raise PluginError(
            f"{place} holds {missing[0]}.safetensors without its record {missing[0]}.json; copy the record that "
            "`zoo train` wrote, or keep weights that have none in another folder"
        )


def _sorted(weights: list[WeightsEntry], ranks: Mapping[str, int]) -> tuple[WeightsEntry, ...]:
    return tuple(sorted(weights, key=lambda one: (ranks.get(one.tag, len(ranks)), natural(one.tag))))


def _entry(source: str, tag: str, path: str) -> WeightsEntry:
    """Return the entry of one weights file.

    Args:
        source: Of its three files, "package:folder/MODEL.TAG".
        tag: Of the weights.
        path: Of the record.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            record = json.loads(file.read())
        fields = _fields(record)
        entry = WeightsEntry(
            tag=tag,
            source=f"{source}.safetensors",
            golden=f"{source}.golden.safetensors",
            record=f"{source}.json",
            **fields,
        )
        check_types(entry)
    except OSError as error:
        raise PluginError(f"cannot read the record {path}: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # damaged JSON is a ValueError
        raise PluginError(f"the record {path} is damaged: {one_line(error)}") from error
    return entry


def _fields(record: Any) -> dict[str, Any]:
    """Return the entry's fields from a record; raise ValueError, TypeError or AttributeError if it has none."""
    _mapping("a record", record)
    absent = [name for name in ("sha256", "bytes", "recipe", "metrics") if name not in record]
    if absent:
        raise ValueError(f"it has no {', '.join(map(repr, absent))}; add what an older `zoo train` did not write")
    sha256, size, recipe = record["sha256"], record["bytes"], record["recipe"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ValueError(f"sha256 is 64 lower-case hexadecimal digits, not {sha256!r:.80}")
    if type(size) is not int or size <= 0:
        raise ValueError(f"bytes is the size of the weights file, not {size!r:.80}")
    if not isinstance(_mapping("recipe", recipe).get("name"), str):
        raise ValueError("recipe has no name")  # noqa: TRY004 - of a file's content
    overrides = overrides_of(_mapping("the header of the recipe", recipe.get("header", {})))
    if "arguments" in overrides:  # else the architecture has as many
        overrides["parameters"] = record.get("parameters")
    if "license" in record:
        overrides["license"] = record["license"]
    if not isinstance(record["metrics"], list):
        raise ValueError("metrics is a list of dataset, split, name and value")  # noqa: TRY004 - as above
    metrics = [_mapping("a metric", metric) for metric in record["metrics"]]
    measured = tuple(Metric(**metric) for metric in metrics if metric.get("value", "missing") is not None)
    return {"bytes": size, "sha256": sha256, "recipe": recipe["name"], "metrics": measured, **overrides}


def _mapping(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is a JSON object, not {value!r:.80}")  # noqa: TRY004 - as above
    return value
