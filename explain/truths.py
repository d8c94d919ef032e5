"""What labels of clips say about a model's outputs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def truths(label: str | None, classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The true class of each output that a label names.

    A label is a class of an output ("tabby", "Apply_Eye Makeup" in any case, with spaces, hyphens or underscores), or
    names outputs: "digit 4, order 1-2-3-4". Classes without a name are numbers.

    Args:
        label: The label; None says nothing.
        classes: Labels of each output of classes, in the order of the outputs; the first that knows a bare label has
            it.
    """
    if label is None:
        return {}
    for head, names in classes.items():
        place = _place(label, names)
        if place is not None:
            return {head: place}
    found = {}
    for part in label.split(","):
        for head, names in classes.items():
            if part.strip().casefold().startswith(f"{head.casefold()} "):
                place = _place(part.strip()[len(head) + 1 :], names)
                if place is not None:
                    found[head] = place
    return found


def shown(found: Mapping[str, str], classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The true class of each output that a sample's classes say (`zoo.Sample.classes`).

    Args:
        found: The class of the clip by what it is a class of ("digit" -> "4", "motion" -> "zoom in").
        classes: As in `truths`. An output of one of these names has that class; one of another name the only class
            among them that is a label of its own.
    """
    truth = {}
    for head, names in classes.items():
        labels = [found[head]] if head in found else found.values()
        places = {place for label in labels if (place := _place(label, names)) is not None}
        if len(places) == 1:
            truth[head] = places.pop()
    return truth


def _place(label: str, names: Sequence[str]) -> int | None:
    wanted = _plain(label)
    return next((place for place, name in enumerate(names) if _plain(name) == wanted), None)


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()
