"""Repositories that `zoo push` made, described by their config.json."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from zoo.entries import Metric, ModelEntry, WeightsEntry
from zoo.entries.overrides import overrides_of
from zoo.entries.spec import warn_of_licence
from zoo.errors import UnknownNameError, UsageError, WeightsError, one_line
from zoo.limits import LONGEST_CONFIG
from zoo.registry import catalog
from zoo.weights.hub import CONFIG, GOLDEN, WEIGHTS, fetch, forget
from zoo.weights.places import parse

#: Version of the schema of `config.json`.
FORMAT = 1

_DISTRIBUTION = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*", re.IGNORECASE | re.ASCII)

_TAG = re.compile(r"\w[\w.-]*", re.ASCII)


def describe(name: str, *, offline: bool = False, token: str | None = None) -> tuple[ModelEntry, WeightsEntry]:
    """Return the architecture and weights of `hub:ORG/REPO@REVISION`, a repository made by `zoo push`.

    Raises:
        WeightsError: if it cannot be fetched, or its `config.json` is invalid.
        UnknownNameError: if the plugin with its architecture is not installed.
        UsageError: if the name is not pinned.
    """
    place = parse(name)
    if place.file:
        raise UsageError(f"{name!r} names a file; a model is hub:{place.repo}@{place.revision}")
    config = dataclasses.replace(place, file=CONFIG)
    path = fetch(config, most=LONGEST_CONFIG, offline=offline, token=token)
    try:
        said = _said(path)
        architecture = _matching(said["architecture"], catalog.NAME, "name of a model")
        distribution = _matching(said["distribution"], _DISTRIBUTION, "name of a distribution")
        listed = said["weights"]
        weights = WeightsEntry(
            tag=_matching(listed["tag"], _TAG, "tag"),
            source=f"{place}:{WEIGHTS}",
            bytes=int(listed["bytes"]),
            sha256=str(listed["sha256"]),
            license=_license(listed, str(config)),
            metrics=tuple(Metric(**metric) for metric in listed.get("metrics", ())),
            golden=f"{place}:{GOLDEN}",
            parameters=None if said.get("parameters") is None else int(said["parameters"]),
            **overrides_of(said),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        forget(path)
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise WeightsError(f"{config} is not what `zoo push` writes, and nothing was loaded: {reason}") from error
    try:
        listing, *_ = catalog.find(f"{distribution}:{architecture}")
    except UnknownNameError as error:
        installed = {listing.plugin.distribution for listing in catalog.listings()}
        known = [listing.full_name for listing in catalog.listings()]
        hint = f"{place} is for {architecture} of {distribution}"
        hint += (
            ""
            if distribution in installed
            else f", which is not installed: pip install {distribution}, if you trust it"
        )
        raise UnknownNameError("model", f"{distribution}:{architecture}", known, hint) from error
    return dataclasses.replace(listing.entry, weights=(weights,)), weights


def _said(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LONGEST_CONFIG:
        raise ValueError(f"it is longer than {LONGEST_CONFIG:,} bytes")
    said = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise ValueError(f"expected a JSON object with format {FORMAT}")
    return said


def _license(listed: dict[str, Any], where: str) -> str:
    """Return the license of weights; version 0.1 stored it under another name."""
    if "license" not in listed and "licence" in listed:
        warn_of_licence(where, stacklevel=5)
        return str(listed["licence"])
    return str(listed.get("license", "unknown"))


def _matching(text: object, pattern: re.Pattern[str], what: str) -> str:
    """Return the text, restricted to characters of names: readers copy names from messages."""
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is no {what}")
    return text
