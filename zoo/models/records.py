"""Results of `zoo.predict` and `zoo.evaluate`, kept as JSON. No torch here."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from zoo.errors import OutputError, ResultError, one_line
from zoo.plain import plain
from zoo.writing import check_writable, write


class Record(Mapping[str, Any]):
    """A result that is kept as one JSON file. Version 0.1 gave dictionaries: `result[key]` still reads `record()`."""

    __slots__ = ()
    #: Keys that every record of this kind holds.
    _KEYS: ClassVar[frozenset[str]] = frozenset()
    #: Attributes to read instead of `result[key]`.
    _INSTEAD: ClassVar[str]

    def record(self) -> dict[str, Any]:
        """Return the result as JSON holds it."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the result that `record` describes."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Keep the result as one JSON file, which appears whole or not at all; ".json" is added where it is missing.

        Raises:
            OutputError: The file cannot be written there, or another one, that holds no such result, would be lost.
        """
        file = _named(path)
        if file.exists():
            try:
                self.load(file)
            except ResultError as error:
                raise OutputError(f"{file} exists and is not a result of this kind; choose another name") from error
        check_writable(file)
        write(file, json.dumps(plain(self.record()), indent=1) + "\n")
        return file

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` or the command's `--out` kept.

        Raises:
            ResultError: The file is missing, damaged, or holds another kind of result.
        """
        file = _named(path)
        try:
            record = json.loads(file.read_bytes())
        except OSError as error:
            raise ResultError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise ResultError(f"{file} is not whole JSON: {one_line(error)}") from error
        try:
            if not isinstance(record, dict) or not record.keys() >= cls._KEYS:
                raise TypeError(f"expected an object with {', '.join(sorted(cls._KEYS)) or 'one entry for each head'}")
            return cls.from_record(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ResultError(f"{file} does not hold what {cls.__name__} has: {one_line(error)}") from error

    def __getitem__(self, key: str) -> Any:
        """Return a part of the record; deprecated."""
        warnings.warn(
            f"{type(self).__name__}[{key!r}] is deprecated: use {self._INSTEAD}, or record() for plain JSON",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.record()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.record()

    def __iter__(self) -> Iterator[str]:
        return iter(self.record())

    def __len__(self) -> int:
        return len(self.record())

    def __eq__(self, other: object) -> bool:
        return self.record() == (other.record() if isinstance(other, Record) else other)

    __hash__ = None  # type: ignore[assignment]  # as of the dictionaries that these were


def _named(path: str | os.PathLike[str]) -> Path:
    file = Path(path).expanduser()
    return file if file.suffix == ".json" else file.with_name(f"{file.name}.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class of a head."""

    #: Its name, or its number where the head names none.
    label: str
    #: Its place among the logits, from 0.
    index: int
    #: Softmax over the head's logits, 0 to 1.
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassesPrediction:
    """The likeliest classes of a head."""

    #: The likeliest first.
    top: tuple[ClassScore, ...]
    #: Of heads with logits for each frame: the likeliest class of each of T frames; `top` is then of their mean.
    frames: tuple[ClassScore, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuePrediction:
    """The number that a head gives."""

    value: float
    #: Of the value; "" where the entry names none.
    unit: str
    #: Of heads with a value for each frame: T values; `value` is then their mean.
    frames: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPrediction:
    """The clip that a head gives, in the units of the network's input."""

    #: C x T x H x W or, of one frame, C x H x W.
    shape: tuple[int, ...]
    lowest: float
    highest: float
    #: Mean of (output - input)^2 over all pixels and channels; None if their shapes differ, and where the output
    #: predicts what follows.
    squared_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prediction(Record):
    """A model's prediction for one sample."""

    #: By the names of the heads.
    heads: Mapping[str, ClassesPrediction | ValuePrediction | ClipPrediction]

    _INSTEAD = "heads[NAME]"

    def record(self) -> dict[str, Any]:
        """Return the heads by name, each with its "kind": "classes", "value" or "clip"."""
        found = {}
        for name, head in self.heads.items():
            kind = next(kind for kind, one in _KINDS.items() if isinstance(head, one))
            values = plain(head)
            if not values.get("frames", True):
                del values["frames"]
            found[name] = {"kind": kind, **values}
        return found

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the prediction that `record` describes."""
        return cls(heads={name: _head(**head) for name, head in record.items()})


_KINDS: dict[str, type[ClassesPrediction | ValuePrediction | ClipPrediction]] = {
    "classes": ClassesPrediction,
    "value": ValuePrediction,
    "clip": ClipPrediction,
}


def _head(kind: str, **values: Any) -> ClassesPrediction | ValuePrediction | ClipPrediction:
    if kind == "classes":
        values = {name: tuple(ClassScore(**one) for one in scores) for name, scores in values.items()}
    elif "frames" in values:
        values["frames"] = tuple(values["frames"])
    if kind == "clip":
        values["shape"] = tuple(values["shape"])
    return _KINDS[kind](**values)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation(Record):
    """The metrics of a model on the fixed test set of a recipe."""

    #: Full name of the model, "architecture.tag".
    model: str
    #: Of the weights file; None for random weights.
    sha256: str | None
    #: Name of the recipe whose evaluation it is.
    measured_as: str
    #: Number of clips measured; None if the recipe does not count them.
    clips_measured: int | None
    #: Each with "dataset", "split", "name" and "value"; a metric whose name ends in "accuracy" is a share, 0 to 1.
    metrics: tuple[Mapping[str, Any], ...]
    #: The metrics in tables by name, each a list of rows.
    breakdown: Mapping[str, list[Mapping[str, Any]]]
    #: Of some metrics by name, one entry for each clip in the order of the test set: N digits 1 (right) and 0, or N
    #: numbers.
    per_clip: Mapping[str, str | list[float]] = field(default_factory=dict)
    #: Further values of the recipe's evaluation, or of the training that wrote the record.
    further: Mapping[str, Any] = field(default_factory=dict)
    #: Version of torch.
    torch: str = ""
    #: Device of the measurement, "cpu" or "cuda:0".
    device: str = ""

    _KEYS = frozenset({"model", "sha256", "measured_as", "metrics", "breakdown"})
    _INSTEAD = "its attributes"

    def record(self) -> dict[str, Any]:
        """Return what `zoo evaluate --json` prints."""
        found = {name: getattr(self, name) for name in ("model", "sha256", "measured_as", "clips_measured")}
        found |= {"metrics": [dict(one) for one in self.metrics], "breakdown": dict(self.breakdown)}
        if self.per_clip:
            found["per_clip"] = dict(self.per_clip)
        return {**found, **self.further, "torch": self.torch, "device": self.device}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the evaluation that `record` describes."""
        own = {one.name: record[one.name] for one in fields(cls) if one.name in record}
        further = {name: value for name, value in record.items() if name not in own}
        return cls(**{"clips_measured": None, **own, "metrics": tuple(record["metrics"]), "further": further})
