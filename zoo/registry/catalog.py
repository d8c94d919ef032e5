"""The catalog of all models: listing, wildcards, tags and lookup by name."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from zoo.entries import ModelEntry, WeightsEntry
from zoo.entries.typechecks import check_types
from zoo.errors import FormerNameWarning, UnknownNameError, UsageError, shown
from zoo.isolation import guarded
from zoo.limits import LONGEST_NAME
from zoo.names import natural
from zoo.registry import plugins
from zoo.weights import places

if TYPE_CHECKING:
    from zoo.entries.recipes import Recipe

#: Advice for an empty catalog.
HOW_TO_ADD = (
    "models come in plugins: `pip install 'motion-zoo[all]'` brings ours, `zoo new-plugin NAME` begins your own"
)

HINT_OF_RECIPES = (
    "`zoo info MODEL` names the recipe of each of its weights; plugins give them in their hook zoo_recipes"
)

#: Names of architectures and tags.
NAME = re.compile(r"[a-z0-9][a-z0-9_]*")

#: Words that commands take in the place of a model's name, and of a tag.
RESERVED = {"model": ("all",), "tag": ("default", "none")}

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

_SHA256 = re.compile(r"[0-9a-f]{64}")

_SHA256_START = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Listing:
    """An entry and the plugin that gave it."""

    entry: ModelEntry
    plugin: plugins.Plugin

    @property
    def full_name(self) -> str:
        """`distribution:architecture`, which names it whatever else is installed."""
        return f"{self.plugin.distribution}:{self.entry.name}"


@functools.cache
def listings() -> tuple[Listing, ...]:
    """Return every valid entry of every working plugin, in natural order of names."""
    return listings_of(plugins.registry())


def listings_of(registry: plugins.Registry) -> tuple[Listing, ...]:
    """Return the valid entries of one registry's plugins."""
    given = registry.collect("zoo_models", ModelEntry)
    try:
        with guarded():  # all in one, because guarding an entry takes longer than checking it
            for _, entry in given:
                validate(entry)
    except Exception:  # noqa: BLE001 - an entry may hold anything
        given = [(plugin, entry) for plugin, entry in given if _is_valid(plugin, entry)]
    return tuple(sorted((Listing(entry, plugin) for plugin, entry in given), key=lambda one: natural(one.entry.name)))


def _is_valid(plugin: plugins.Plugin, entry: ModelEntry) -> bool:
    """Check whether an entry is valid; report its plugin if not."""
    try:
        with guarded():
            validate(entry)
    except Exception as error:  # noqa: BLE001 - an entry may hold anything
        plugin.fail(f"model {shown(entry.name)}", error)
        return False
    return True


def validate(entry: ModelEntry) -> None:
    """Raise ValueError where an entry contradicts its contract."""
    check_types(entry)
    parts: list[tuple[str, Any]] = [(f"weights {one.tag!r}", one) for one in (*entry.weights, *entry.known)]
    for called, part in [*parts, *((f"sample {one.name!r}", one) for one in entry.samples)]:
        try:
            check_types(part)
        except ValueError as error:
            raise ValueError(f"{called}: {error}") from error
    for sample in entry.samples:
        if sample.classes and len(sample.classes) != len(sample.labels):
            count, labels = len(sample.classes), len(sample.labels)
            raise ValueError(f"sample {sample.name!r}: classes are one a clip, {labels} of them, not {count}")
        if any(not isinstance(label, str) for one in sample.classes for label in one.values()):
            raise ValueError(f"sample {sample.name!r}: a clip's classes are texts")
    for name in (entry.name, *entry.formerly):
        check_name("model", name)
    if not _REFERENCE.fullmatch(entry.builder):
        raise ValueError(f"builder {entry.builder!r} is not of the form 'package.module:function'")
    if entry.parameters < 0:
        raise ValueError(f"parameters is their number, not {entry.parameters}")
    if not entry.outputs:
        raise ValueError("an entry names at least one output")
    _check_unique("outputs", [output.name for output in entry.outputs])
    _check_unique("tags", [tag for weights in entry.weights for tag in (weights.tag, *weights.formerly)])
    for weights in entry.weights:
        for tag in (weights.tag, *weights.formerly):
            check_name("tag", tag)
        if weights.is_hub:
            _check_pinned(weights)
        if not (_SHA256_START if weights.is_foreign else _SHA256).fullmatch(weights.sha256):
            digits = "8 to 64" if weights.is_foreign else "64"
            raise ValueError(f"sha256 of {weights.tag!r} is not {digits} lower-case hexadecimal digits")


def check_name(kind: Literal["model", "tag"], name: str) -> None:
    """Raise ValueError where a model or a tag cannot have this name."""
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{kind} {shown(name)}: expected a name of at most {LONGEST_NAME} characters, not {len(name):,}"
        )
    if not NAME.fullmatch(name):
        raise ValueError(f"{kind} {shown(name)}: expected a name in snake_case: letters a-z, digits and _")
    if name in RESERVED[kind]:
        raise ValueError(f"{kind} {name!r}: commands take this word for something else; choose another name")


def _check_unique(what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError(f"{what} are not unique: {names}")


def _check_pinned(weights: WeightsEntry) -> None:

    try:
        place = places.parse(weights.source)
    except UsageError as error:
        raise ValueError(str(error)) from error
    if not place.file:
        raise ValueError(f"source {weights.source!r} of {weights.tag!r} names no file of the repository")


def list_models(pattern: str = "*", *, pretrained: bool = False, plugin: str | None = None) -> list[str]:
    """Return the names of models in natural order.

    Args:
        pattern: Wildcards as in file names ("conv*"), matched against `architecture` and `architecture.tag`.
        pretrained: Give `architecture.tag` for every weights file instead of architectures.
        plugin: Only models of this plugin or distribution.
    """
    names: list[str] = []
    for listing in select(pattern, plugin=plugin):
        name = listing.entry.name
        tagged = [f"{name}.{weights.tag}" for weights in listing.entry.weights]
        names += (
            [tag for tag in tagged if fnmatchcase(name, pattern) or fnmatchcase(tag, pattern)] if pretrained else [name]
        )
    return list(dict.fromkeys(names))


def select(pattern: str = "*", *, plugin: str | None = None) -> list[Listing]:
    """Return the listings whose name, or one of whose `architecture.tag`, matches; `plugin` as in `list_models`."""
    return [
        listing
        for listing in listings()
        if (plugin is None or listing.plugin.is_called(plugin))
        and any(
            fnmatchcase(name, pattern)
            for name in [listing.entry.name, *(f"{listing.entry.name}.{w.tag}" for w in listing.entry.weights)]
        )
    ]


def find(name: str) -> tuple[Listing, WeightsEntry | None, bool]:
    """Return the listing and weights of a name, and whether the name contained a tag."""
    distribution, colon, rest = name.rpartition(":")
    architecture, dot, tag = rest.partition(".")
    asked = [listing for listing in listings() if not colon or listing.plugin.comes_from(distribution)]
    candidates = [listing for listing in asked if listing.entry.name == architecture]
    if not candidates:
        candidates = [listing for listing in asked if architecture in listing.entry.formerly]
        if len(candidates) == 1:
            _warn_of_former("model", architecture, candidates[0].entry.name)
    if not candidates:
        known = [*list_models(), *list_models(pretrained=True)]
        if colon:
            known = [listing.full_name for listing in listings()]
        hint = "`zoo list` shows all models" if known else f"none is installed: {HOW_TO_ADD}"
        if "/" in name:
            hint += "; a repository of the Hub is hub:ORG/REPO@COMMIT"
        raise UnknownNameError("model", name, known, hint)
    if len(candidates) > 1:
        choices = " or ".join(listing.full_name for listing in candidates)
        raise UsageError(
            f"two plugins give a model {architecture!r}; say {choices}, or switch one of the plugins off "
            f"(--disable-plugin NAME, {plugins.DISABLE}; `zoo plugins` shows their names)"
        )
    listing = candidates[0]
    if not dot:
        return listing, listing.entry.weights[0] if listing.entry.weights else None, False
    return listing, weights_of(listing.entry, tag), True


@functools.cache  # warn once, however often a name is looked up
def _warn_of_former(what: str, name: str, successor: str) -> None:
    warnings.warn(f"{what} {name!r} is now called {successor!r}; the old name will go", FormerNameWarning, stacklevel=4)


def weights_of(entry: ModelEntry, tag: str) -> WeightsEntry:
    """Return the weights entry with this tag.

    Raises:
        UnknownNameError: if there is none.
    """
    for weights in entry.weights:
        if weights.tag == tag:
            return weights
    for weights in entry.weights:
        if tag in weights.formerly:
            _warn_of_former("weights", f"{entry.name}.{tag}", f"{entry.name}.{weights.tag}")
            return weights
    tags: Iterable[str] = [weights.tag for weights in entry.weights]
    raise UnknownNameError("weights tag", tag, tags, f"`zoo info {entry.name}` lists the weights of {entry.name}")


def recipe(name: str) -> Recipe:
    """Return the recipe of this name (`architecture.tag`).

    Raises:
        UnknownNameError: if no plugin gives it.
    """
    given = recipes()
    if name not in given:
        raise UnknownNameError("recipe", name, given, HINT_OF_RECIPES)
    return given[name]


def recipes() -> dict[str, Recipe]:
    """Return every plugin's recipes by name."""
    from zoo.entries.recipes import Recipe

    return {item.name: item for _, item in plugins.collect("zoo_recipes", Recipe)}
