"""Measures of a map in addition to its curves, one row each. Importing this module does not import torch.

A measure is a function that takes a `Trial` (`explain.faithfulness.repetition`) and returns N numbers, and a `Test`
that names it. Checking, records, tables, pages and figures go through `all_tests`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from zoo.errors import UsageError

#: Keys of a record (`Faithfulness.record`), and names of other tests, that are reserved.
_RECORD = ("method", "target", "verdict", "reasons", "value", "empty", "curves", "randomization", "missing", "settings")
_TESTS = ("spatial", "temporal", "both", "model", "deletion", "insertion", "frames", "weights", "stability")


#: Largest relative change of a map under noise: below `STABLE`, the map is stable; above `UNSTABLE`, an empty map is
#: nearer to it. The maximum over a few draws is a lower bound of that over many: values in between are inconclusive.
STABLE, UNSTABLE = 0.5, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A measure of the faithfulness of a map. Plugins add measures through the hook `explain_measures`.

    Raises:
        UsageError: Invalid name, bounds or thresholds.
    """

    #: Short name in snake_case: the key in `Faithfulness.measures` and in JSON.
    name: str
    #: Heading of its column and row.
    title: str
    #: "package.module:function", called with an `explain.authoring.Trial`; returns N numbers, NaN where undefined.
    run: str
    #: The smallest and the largest possible value; intervals of means are clipped to them.
    bounds: tuple[float, float] = (-math.inf, math.inf)
    #: Which values are better.
    better: Literal["lower", "higher"] = "lower"
    #: A map passes on the better side of the first number and is flagged on the worse side of the second; None excludes
    #: the measure from the verdict.
    thresholds: tuple[float, float] | None = None
    #: Sentence on a page, with "{}" in place of the number; if empty, the title is used.
    sentence: str = ""
    #: Whether pages show the number in percent.
    percent: bool = False
    #: Keeps pytest from collecting the class.
    __test__: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raise for values that cannot be shown or judged."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in {*_RECORD, *_TESTS}:
            raise UsageError(
                f"a measure cannot be called {self.name!r}; expected a name in snake_case that is not taken"
            )
        if self.better not in {"lower", "higher"}:
            raise UsageError(f"better of the measure {self.name} is {self.better!r}; expected 'lower' or 'higher'")
        if not self.bounds[0] < self.bounds[1]:
            raise UsageError(f"bounds of the measure {self.name} are {self.bounds}; expected (least, largest)")
        if self.thresholds is not None:
            passes, flagged = self.thresholds if self.better == "lower" else self.thresholds[::-1]
            if not passes <= flagged:
                raise UsageError(
                    f"thresholds of the measure {self.name} are {self.thresholds}; {self.better} is better, so a map "
                    "must pass before it is flagged"
                )
        if self.sentence and self.sentence.count("{}") != 1:
            raise UsageError(f"the sentence of the measure {self.name} needs one {{}} for its number")


#: Built-in measures.
BUILT_IN: tuple[Test, ...] = (
    Test(
        name="infidelity",
        title="infidelity",
        run="explain.faithfulness.repetition:infidelity",
        bounds=(0.0, math.inf),
        sentence="Of the change that hiding random boxes makes, the map leaves {} unaccounted for (infidelity).",
        percent=True,
    ),
    Test(
        name="sensitivity",
        title="sensitivity to noise",
        run="explain.faithfulness.repetition:max_sensitivity",
        bounds=(0.0, math.inf),
        thresholds=(STABLE, UNSTABLE),
        sentence="Noise of 2\N{NO-BREAK SPACE}% changes the map by up to {} (max-sensitivity).",
        percent=True,
    ),
)


def all_tests() -> tuple[Test, ...]:
    """Return every measure: built-in measures, then those of plugins; built-in names cannot be overridden."""
    from zoo.registry.plugins import collect

    tests = {test.name: test for test in BUILT_IN}
    for _, test in collect("explain_measures", Test):
        tests.setdefault(test.name, test)
    return tuple(tests.values())
