"""Overrides of an architecture's entry, converted from JSON to fields of a `WeightsEntry`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.entries.spec import InputSpec, OutputSpec


def overrides_of(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments, input and outputs that JSON gives, as fields of a WeightsEntry.

    Raises:
        TypeError, ValueError, AttributeError: if a value has another form.
    """
    overrides: dict[str, Any] = {}
    if "arguments" in header:
        overrides["arguments"] = dict(header["arguments"])
    if "input" in header:
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in header["input"].items()
        }
        overrides["input"] = InputSpec(**fields)
    if "outputs" in header:
        overrides["outputs"] = tuple(
            OutputSpec(**{**output, "labels": tuple(output.get("labels", ()))}) for output in header["outputs"]
        )
    return overrides
