"""Values as JSON and texts as one visible line, for everything that is written or printed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

#: Characters by which untrusted text (a label, a license) could control a terminal or reverse a line: escaped as
#: JSON does, so that the document stays equivalent.
_STEERING = {
    code: f"\\u{code:04x}"
    for code in (
        *(*range(9), *range(11, 32), *range(127, 160)),
        *(0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)),
        *(*range(0xD800, 0xE000), 0xFFFE, 0xFFFF),  # what no encoding, or no XML, may hold
    )
}


def plain(value: Any) -> Any:
    """`value` as JSON holds it; data classes become objects, and numbers that are not finite null.

    Raises:
        TypeError: for anything that JSON cannot hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


def unbroken(text: object) -> str:
    """Escape line breaks, so that nothing in a text begins a new line."""
    return str(text).replace("\r", "\\r").replace("\n", "\\n")


def visible(text: str) -> str:
    """Escape control characters, except line breaks, and bidirectional marks in a text."""
    return text.translate(_STEERING)
