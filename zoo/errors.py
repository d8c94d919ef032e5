"""Exceptions raised deliberately by zoo and explain.

A message states what was wrong, where, what was expected and what to do next.
Commands print it without a traceback and exit with `exit_code`.
"""

from __future__ import annotations

from collections.abc import Iterable


class ZooError(Exception):
    """Something could not be done; base of all errors below."""

    #: Exit status of a command that ends with this error: 1 failed, 2 wrong usage.
    exit_code = 1


class UsageError(ZooError):
    """The call itself is wrong: a bad argument, or a combination that cannot be."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that nothing answers to; near names are offered.

    Args:
        kind: What was named, in one word or two ("model", "layer").
        name: The name as it was given.
        known: Every name that would have been right.
        hint: What to run or read to see them all.
        pattern: Whether the name holds wildcards.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "", *, pattern: bool = False) -> None:
        known = list(known)
        self.near = _nearest_beginnings(name.strip("*?"), known) if pattern else nearest(name, known)
        parts = [f"no {kind} matches {name!r}" if pattern else f"unknown {kind} {name!r}"]
        if self.near:
            parts.append("did you mean " + " or ".join(repr(near) for near in self.near) + "?")
        elif known and len(known) <= 12:
            parts.append("known: " + ", ".join(known))
        elif pattern and known:
            parts.append(f"some of the {len(known)}: " + ", ".join(known[:: len(known) // 6][:6]))
        if hint:
            parts.append(hint)
        super().__init__("; ".join(parts))


class DeviceError(UsageError):
    """A device was asked for that this machine does not have."""


class PluginError(ZooError):
    """A plugin, or something that a plugin names, does not work."""


class PluginExitError(PluginError):
    """Code of a plugin raised what would have ended the process: SystemExit or another BaseException."""


class ConformanceError(PluginError):
    """A plugin, or one of its models, violates the plugin contract."""


class PluginWarning(UserWarning):
    """A plugin does not work and was skipped."""


class NotFiniteWarning(UserWarning):
    """Weights that were loaded hold NaN or infinity."""


class FormerNameWarning(FutureWarning):
    """A model or its weights were asked for by a name that they no longer have."""


class ClipError(ZooError):
    """A clip cannot be read, or does not fit the model's input."""


class ClipWarning(UserWarning):
    """A clip is not all that its reader may think: frames are missing or repeated, or its frame rate is not known."""


class WeightsError(ZooError):
    """A weights file is missing, damaged, different from its entry, or of another architecture."""


class NoEvaluationError(ZooError):
    """No evaluation was stored with these weights."""


class DataError(ZooError):
    """Training data is missing or damaged."""


class TrainingError(ZooError):
    """Training cannot start, or cannot resume from this checkpoint."""


class DivergedError(TrainingError):
    """Training diverged: its loss or a weight is NaN or infinite."""


class OutputError(ZooError):
    """Results cannot be written where they were asked for."""


class ResultError(ZooError):
    """A kept result cannot be read: missing, damaged, of another kind or of another version."""


class MemoryLimitError(ZooError):
    """Not even one sample fits into memory."""


class ResourceError(ZooError):
    """The machine ran short of memory, threads, open files or disk, or a disk failed; the input is not to blame."""


class ModelError(ZooError):
    """A model cannot be used this way: no such layer kind, an unexpected output, a method that does not apply."""


def one_line(said: object) -> str:
    """Return untrusted text, or an error's message, on one line without control characters.

    An error whose message cannot be read, because its `__str__` raises, is named by its type.
    """
    try:
        text = str.__str__(str(said))  # a subclass of str may have methods of its own
    except BaseException:  # noqa: BLE001 - code of a plugin may raise anything
        text = f"({type(said).__name__}, whose message cannot be read)"
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))


def shown(value: object, limit: int = 80) -> str:
    """Return the repr of an untrusted value on one line, cut to `limit`."""
    try:
        text = one_line(repr(value))
    except BaseException:  # noqa: BLE001 - code of a plugin may raise anything
        text = f"a {one_line(type(value).__name__)} that cannot be shown"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def describe(error: BaseException, limit: int = 300) -> str:
    """Describe an error of third-party code on one line: its type and message, cut to `limit`.

    For zoo's own errors, return the message alone.
    """
    message = one_line(error)
    if issubclass(type(error), ZooError):  # isinstance would ask the object itself
        return message
    return f"{one_line(type(error).__name__)}: {message}"[:limit]


def _nearest_beginnings(name: str, known: list[str]) -> list[str]:
    """Return the closest names, else those with nearly the same prefix."""
    beginnings: dict[str, str] = {}
    for candidate in known:
        beginnings.setdefault(candidate[: len(name)], candidate)
    return nearest(name, known) or [beginnings[near] for near in nearest(name, beginnings)]


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return up to `limit` names of `known` close to `name`, closest first, ignoring case."""
    import difflib

    by_fold: dict[str, str] = {}
    for candidate in known:
        by_fold.setdefault(candidate.casefold(), candidate)
    folded = name.casefold()
    close = difflib.get_close_matches(folded, by_fold, n=limit, cutoff=0.6)
    close += [fold for fold in by_fold if folded and fold.startswith(folded) and fold not in close]
    return [by_fold[fold] for fold in close[:limit]]
