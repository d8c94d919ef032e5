"""Serialization of results: one safetensors file each, described by JSON in the header under the key `explain`.

The record holds plain JSON; types that JSON lacks are objects with one key that begins with "$":

=====================================  =============================================================
`{"$tensor": "target.value"}`          the tensor of that name in the file
`{"$tuple": [...]}`                    a tuple; JSON's own lists stay lists
`{"$float": "nan"}`                    a number that is not finite ("inf", "-inf")
`{"$class": "Target", ...}`            a result, or a part of one, with its fields
`{"$function": "brightness"}`          a function by its name: it is not stored, and raises when called
`{"$$name": ...}`                      a key of a mapping that begins with "$" itself
=====================================  =============================================================

Loading never unpickles, and never imports by a name read from a file.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import os
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import torch
from torch import Tensor

from zoo import devices, writing
from zoo.errors import OutputError, ResultError, UsageError, one_line
from zoo.registry import plugins

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Version of the format; files of another version are refused.
FORMAT: Final = 1

#: Key in the header, and file name suffix.
_KEY: Final = "explain"

_SUFFIX: Final = ".safetensors"

#: Classes that a file may contain, and the modules that define them.
_HOMES: Final = {
    "Attribution": "explain.attribution.results",
    "Curve": "explain.robustness.results",
    "Curves": "explain.faithfulness.results",
    "EffectiveField": "explain.fields.effective",
    "Faithfulness": "explain.faithfulness.results",
    "LayerParameters": "explain.temporal.parameters",
    "Maximization": "explain.maximization",
    "Measure": "explain.robustness.results",
    "Randomized": "explain.faithfulness.results",
    "Robustness": "explain.robustness.results",
    "Target": "explain.model.targets",
    "TemporalParameters": "explain.temporal.parameters",
    "TopClip": "explain.maximization",
    "TopClips": "explain.maximization",
    "UnitView": "explain.maximization.unit_views",
    "Verdict": "explain.faithfulness.results",
}

#: Function that draws each result, imported on first use; each `plot` has a `describe` beside it: title and table.
_DRAWINGS: Final = {
    "Attribution": "explain.drawing.attributions:plot",
    "EffectiveField": "explain.drawing.fields:plot",
    "Faithfulness": "explain.drawing.faithfulness:plot",
    "Maximization": "explain.drawing.maximizations:plot",
    "Robustness": "explain.drawing.robustness:plot",
    "TemporalParameters": "explain.drawing.motion:plot",
    "TopClips": "explain.drawing.maximizations:plot_clips",
    "UnitView": "explain.drawing.maximizations:plot_unit",
}


def _briefly(value: object) -> str:
    """Return a short representation of a value, at most 120 characters."""
    if isinstance(value, torch.Tensor):
        return f"<{' x '.join(map(str, value.shape)) or 'one number'}>"
    if isinstance(value, Mapping) and any(not isinstance(one, str | int | float | None) for one in value.values()):
        return "{" + ", ".join(map(repr, value)) + "}"
    text = str(value) if type(value).__name__ == "Target" else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


class Saved:
    """Base class of results that can be saved and loaded: the dataclasses listed in this module's table."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return all fields in one line, with shapes for tensors."""
        parts = ((one.name, getattr(self, one.name)) for one in dataclasses.fields(cast("Any", self)))
        return f"{type(self).__name__}({', '.join(f'{name}={_briefly(value)}' for name, value in parts)})"

    def _plot(self, *arguments: Any) -> Figure:
        return cast("Figure", plugins.resolve(_DRAWINGS[type(self).__name__])(self, *arguments))

    def _repr_html_(self) -> str:
        """Show the figure and a table in a notebook."""
        title, rows = plugins.resolve(_DRAWINGS[type(self).__name__].replace(":plot", ":describe"))(self)
        return cast("str", plugins.resolve("explain.drawing.notebook:card")(title, self._plot(), rows))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save the result as one safetensors file; ".safetensors" is appended to a name without that suffix.

        The file is written atomically and replaces an earlier result of that name.

        Returns:
            The file.

        Raises:
            OutputError: The file cannot be written, or would overwrite a file that is not a result.
        """
        file = _named(path)
        if file.exists() and not _is_ours(file):
            raise OutputError(
                f"{file} is there and holds no result of explain; move it away, or choose another name for this one"
            )
        writing.check_writable(file)
        writing.write(file, packed(self))
        return file

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str = "cpu") -> Self:
        """Load a saved result; all numbers, texts and settings are restored exactly.

        Args:
            path: The file; ".safetensors" may be omitted.
            device: Device of its tensors: "cpu", "cuda", "cuda:N" or "auto".

        Raises:
            ResultError: The file does not exist, is damaged, or has another type or version.
            DeviceError: The device is not available.
        """
        file = _named(path)
        record, tensors = _read(file, devices.resolve(device))
        kind = record.get("$class")
        if kind != cls.__name__:
            if not isinstance(kind, str) or kind not in _HOMES:
                raise ResultError(f"{file} holds no result of a kind that this version knows")
            raise ResultError(f"{file} holds a result of the kind {kind!r}, not {cls.__name__!r}: use {kind}.load")
        try:
            return cast("Self", _restored(record, tensors))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ResultError(f"{file} does not hold what a {kind} has ({one_line(error)}); make it again") from error


class Results(list[Any]):
    """A list of results that a notebook displays one after the other."""

    def _repr_html_(self) -> str:
        """Show each result in a notebook."""
        return "".join(one._repr_html_() for one in self)


def packed(result: Saved) -> bytes:
    """Serialize a result to bytes, deterministically.

    Raises:
        TypeError: It contains a value that cannot be serialized.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    record = _plain(result, "", tensors)
    try:
        made_by = version("motion-zoo")
    except PackageNotFoundError:  # run from a checkout that is not installed
        made_by = "unknown"
    header = {"format": FORMAT, "version": made_by, "result": record}
    return save(tensors, metadata={_KEY: json.dumps(header, ensure_ascii=False, allow_nan=False)})


def _plain(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Convert `value` to JSON types; its tensors are added to `tensors` under dotted names."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # views share memory
        return {"$tensor": name}
    if dataclasses.is_dataclass(value) and type(value).__name__ in _HOMES:
        fields = {
            field.name: _plain(getattr(value, field.name), _below(name, field.name), tensors)
            for field in dataclasses.fields(value)
        }
        return {"$class": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {key!r}; a file keeps texts alone as keys")
        return {
            f"${key}" if key.startswith("$") else key: _plain(item, _below(name, key), tensors)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = [_plain(item, _below(name, str(place)), tensors) for place, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if value is None or isinstance(value, str | int | float):
        return value
    if callable(value):
        return {"$function": getattr(value, "__name__", type(value).__name__)}
    raise TypeError(f"{name} is of the type {type(value).__name__}, which a file does not keep")


def _restored(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Invert `_plain`."""
    if isinstance(value, list):
        return [_restored(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$tuple" in value:
        return tuple(_restored(item, tensors) for item in value["$tuple"])
    if "$float" in value:
        return float(value["$float"])
    if "$function" in value:
        return _lost(str(value["$function"]))
    fields = {
        key[1:] if key.startswith("$$") else key: _restored(item, tensors)
        for key, item in value.items()
        if key != "$class"
    }
    if "$class" not in value:
        return fields
    kind = value["$class"]
    found = getattr(importlib.import_module(_HOMES[kind]), kind)
    return found.restored(fields) if hasattr(found, "restored") else found(**fields)


def _lost(name: str) -> Callable[..., NoReturn]:
    """Return a placeholder for a function that was not stored."""

    def lost(*_args: Any, **_options: Any) -> NoReturn:
        raise UsageError(f"{name} was a function, which a file does not keep; explain again with the function itself")

    lost.__name__ = name
    return lost


def _read(file: Path, device: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the record of a file and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device=device) as opened:
            header = _header(opened.metadata())
            if header is None:
                raise ResultError(f"{file} holds no result of explain")
            if header.get("format") != FORMAT:
                version_of_it = one_line(header.get("version"))
                raise ResultError(
                    f"{file} has the format {header.get('format')!a} (written by motion-zoo {version_of_it}); "
                    f"this version reads format {FORMAT}"
                )
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError as error:
        raise ResultError(f"there is no file {file}") from error
    except SafetensorError as error:
        raise ResultError(f"{file} is no safetensors file, or a damaged one: {one_line(error)}") from error
    except OSError as error:
        raise ResultError(f"cannot read {file}: {error.strerror or error}") from error
    return header["result"], tensors


def _header(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """Parse a file's header; None if it does not contain a result."""
    try:
        header = json.loads((metadata or {})[_KEY])
    except (KeyError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) and isinstance(header.get("result"), dict) else None


def _is_ours(file: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return _KEY in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _named(path: str | os.PathLike[str]) -> Path:
    """Return the path of a result, with the suffix appended if missing."""
    file = Path(path).expanduser()
    return file if file.suffix == _SUFFIX else file.with_name(file.name + _SUFFIX)


def _below(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part
