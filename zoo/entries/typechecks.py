"""Type checks of dataclass fields against their annotations."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, get_args


def check_types(given: Any) -> None:
    """Check every field of a dataclass against its annotation, which Python itself does not.

    Annotations are plain types, tuples and unions of them, mappings to plain JSON, and names of the class's own module:
    a `Literal`, or another class.

    Numbers are finite, whole ones have 64 bits, and a text is one line that UTF-8 can write.

    Raises:
        ValueError: if a field is something else; it names the field and what was expected.
    """
    for name, kind, fits in _checks(type(given)):  # type: ignore[arg-type]  # mypy takes a class for unhashable
        value = getattr(given, name)
        if not fits(value):
            raise ValueError(f"{name} is {_in_words(kind, type(given).__module__)}, not {value!r:.80}")


@functools.cache
def _checks(of: type[Any]) -> tuple[tuple[str, str, Callable[[Any], bool]], ...]:
    """Return the name, the annotation and the type check of every field of a class."""
    return tuple((one.name, str(one.type), _check(str(one.type), of.__module__)) for one in dataclasses.fields(of))


@functools.cache
def _check(kind: str, module: str) -> Callable[[Any], bool]:
    """Return the predicate that checks values against an annotation."""
    first, either, second = kind.partition(" | ")
    if either:
        one, other = _check(first, module), _check(second, module)
        return lambda value: one(value) or other(value)
    if kind.startswith("tuple["):
        *kinds, last = kind.removeprefix("tuple[").removesuffix("]").split(", ")
        if last != "...":
            several = tuple(_check(one, module) for one in (*kinds, last))
            return lambda value: (
                isinstance(value, tuple)
                and len(value) == len(several)
                and all(fits(item) for fits, item in zip(several, value, strict=True))
            )
        if kinds == ["str"]:
            return lambda value: isinstance(value, tuple) and _are_texts(value)
        each = _check(", ".join(kinds), module)
        return lambda value: isinstance(value, tuple) and all(map(each, value))
    if kind in _KINDS:
        return _KINDS[kind]
    if values := _literals(kind, module):
        return lambda value: isinstance(value, str) and value in values
    expected: type = getattr(sys.modules[module], kind)
    return lambda value: isinstance(value, expected)


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    # Printable text contains neither, and is decided at once.
    return value.isprintable() or not (len(value.splitlines()) > 1 or any("\ud800" <= one <= "\udfff" for one in value))


def _are_texts(values: tuple[Any, ...]) -> bool:
    """Apply `_is_text` to each of thousands of labels, mostly in a single check."""
    try:
        return " ".join(values).isprintable() or all(map(_is_text, values))
    except TypeError:
        return False


def is_count(value: object) -> bool:
    """Check whether a value is a positive integer."""
    return _is_whole(value) and value > 0  # type: ignore[operator]  # a whole number is one


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18


def _is_plain(value: object) -> bool:
    """Check whether a value is JSON-serializable; tuples count as lists."""
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | str) or _is_whole(value) or _is_finite(value)


def _literals(kind: str, module: str) -> tuple[str, ...]:
    """Return the values of a module's `Literal` by name; empty for any other name."""
    return get_args(getattr(sys.modules[module], kind, None))


_KINDS: dict[str, Callable[[object], bool]] = {
    "None": lambda value: value is None,
    "bool": lambda value: isinstance(value, bool),
    "int": _is_whole,
    "float": _is_finite,
    "str": _is_text,
    "Mapping[str, Any]": lambda value: isinstance(value, Mapping) and _is_plain(value),
}

#: Descriptions of annotated types: singular and plural.
_WORDS = {
    "bool": ("True or False", "True or False"),
    "int": ("a whole number", "whole numbers"),
    "float": ("a finite number", "finite numbers"),
    "str": ("a text of one line", "texts of one line"),
    "Mapping[str, Any]": ("names and values that JSON holds", ""),
}


def _in_words(kind: str, module: str) -> str:
    """Describe the type that an annotation requires."""
    if " | " in kind:
        return " or ".join(_in_words(one, module) for one in kind.split(" | "))
    if kind.startswith("tuple["):
        items = kind.removeprefix("tuple[").removesuffix("]")
        one = items.split(", ")[0]
        several = _WORDS.get(one, ("", one))[1]
        return f"a tuple of {several}" if items.endswith(", ...") else f"a tuple of {items.count(',') + 1} {several}"
    if values := _literals(kind, module):
        return f"one of {', '.join(values)}"
    return _WORDS.get(kind, (kind, ""))[0]
