"""Measures of a map beside its curves, one row each. Importing this module imports no torch.

A measure is a function that is given a `Trial` (`explain.faithfulness.repetition`) and returns N numbers, and a `Test`
that names it. Checking, records, tables, pages and figures go through `all_tests`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from zoo.errors import UsageError

#: Keys of a record (`Faithfulness.record`), and names of other tests, that no measure may take.
_RECORD = ("method", "target", "verdict", "reasons", "value", "empty", "curves", "randomization", "missing", "settings")
_TESTS = ("spatial", "temporal", "both", "model", "deletion", "insertion", "frames", "weights", "stability")


#: Largest relative change of a map under noise: below, it is stable; above `UNSTABLE`, an empty map is nearer to it.
#: The maximum of a few draws is a lower bound of that of many: what lies between is inconclusive.
STABLE, UNSTABLE = 0.5, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A measure of how far a map can be trusted. A plugin gives its own through the hook `explain_measures`.

    Raises:
        UsageError: A name, bounds or thresholds that cannot be.
    """

    #: Short name in snake_case: the key in `Faithfulness.measures` and in JSON.
    name: str
    #: Heading of its column and row.
    title: str
    #: "package.module:function", called with an `explain.authoring.Trial`; returns N numbers, NaN where there is none.
    run: str
    #: The least and the largest number that there can be; intervals of means end there.
    bounds: tuple[float, float] = (-math.inf, math.inf)
    #: Which numbers speak for a map.
    better: Literal["lower", "higher"] = "lower"
    #: A map passes on the better side of the first number and is flagged on the worse side of the second; None takes no
    #: part in the verdict.
    thresholds: tuple[float, float] | None = None
    #: Sentence of a page, with "{}" where the number stands; empty names the title.
    sentence: str = ""
    #: Whether pages write the number in per cent.
    percent: bool = False
    #: Keeps pytest from taking the class for tests.
    __test__: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse what cannot be shown or judged."""
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


#: The measures of explain itself.
BUILT_IN: tuple[Test, ...] = (
    Test(
        name="infidelity",
        title="infidelity",
        run="explain.faithfulness.removal:infidelity",
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
    """Every measure: the built-in ones, then those of plugins; a built-in name is not taken over."""
    from zoo.registry.plugins import collect

    tests = {test.name: test for test in BUILT_IN}
    for _, test in collect("explain_measures", Test):
        tests.setdefault(test.name, test)
    return tuple(tests.values())
