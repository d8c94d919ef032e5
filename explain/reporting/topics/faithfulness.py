"""Sections on the faithfulness of maps, for one clip and for many."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from explain.attribution import Attribution
from explain.attribution.methods import title
from explain.attribution.occlusion import default_blocks
from explain.drawing.numbers import number, percent
from explain.drawing.templates import render
from explain.faithfulness.checking import Effort, check_all
from explain.faithfulness.measures import all_tests
from explain.model.layouts import has_random_weights, layout_of, to_ncthw
from explain.reporting import intervals
from explain.reporting.context import DEAR, Context, operations
from explain.reporting.many.aggregation import Collection
from explain.reporting.sections import Content
from zoo.errors import MemoryLimitError, ModelError

#: Blocks of occlusion, and positions in time, when its map is recomputed; at least two along rows and columns, so that
#: the compared map shows time and space. `SHORT_BLOCKS` is for short tests.
BLOCKS = (16, 4)
SHORT_BLOCKS = (8, 2)

#: Number of random orders that each map is compared with.
DRAWS = 20

#: Verdicts in words for readers.
WORDS = {"passes": "Passes its tests", "inconclusive": "Inconclusive", "flagged": "Fails a test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Tests of one map, as input of the template."""

    #: Output of `Faithfulness.record`.
    record: Mapping[str, Any]

    @property
    def word(self) -> str:
        """Return the verdict in words."""
        return WORDS[self.record["verdict"]]

    @property
    def good(self) -> bool:
        """Check whether the map passes."""
        return bool(self.record["verdict"] == "passes")

    @property
    def sentences(self) -> list[str]:
        """Return the reasons."""
        return [reason["text"] for reason in self.record["reasons"].values()]

    @property
    def frames(self) -> str | None:
        """Return the outcome of the frame test; None if it was not run."""
        return verdict_on(self.record, "frames")

    @property
    def measures(self) -> list[Markup]:
        """Return a sentence for each available measure."""
        known = [(test, self.record[test.name]) for test in all_tests() if self.record.get(test.name) is not None]
        return [
            Markup.escape(test.sentence or f"Its {test.title} is {{}}.")
            .replace("\N{NO-BREAK SPACE}", Markup("&nbsp;"))
            .format(percent(value) if test.percent else number(value))
            for test, value in known
        ]

    @property
    def main(self) -> Mapping[str, Any] | None:
        """Return the plotted curves."""
        curves = self.record["curves"]
        return list(curves.values())[-1] if curves else None

    @property
    def rows(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Return areas by kind of removal."""
        names = {"spatial": "pixels, in all frames", "temporal": "frames", "both": "pixels of single frames"}
        return [(names[kind], curves) for kind, curves in self.record["curves"].items()]


def verdict_on(record: Mapping[str, Any] | None, part: str) -> str | None:
    """Return the outcome of one test of a map ("passes", "inconclusive", "flagged"); None if it was not run."""
    found = (record or {}).get("reasons", {}).get(part)
    return found and str(found["verdict"])


def check(
    context: Context, attributions: Sequence[Attribution], *, short: bool = False
) -> tuple[list[Trust | None], str]:
    """Run the tests of all maps; also return what was skipped, in words. Empty if the model cannot be tested.

    Args:
        context: The clip, and the computation that may be spent.
        attributions: The maps.
        short: Whether the clip is one of many, whose means need less precision per clip.
    """
    if has_random_weights(context.model):
        return [None] * len(attributions), ""
    effort, saved = effort_for(context, short=short)
    try:
        with context.timed("faithfulness"):
            results = check_all(
                context.model,
                context.batch,
                attributions,
                effort,
                seed=context.seed,
                progress=lambda step, done, total: context.progress(f"faithfulness: {step}", done, total),
            )
    except (MemoryLimitError, ModelError) as error:
        return [None] * len(attributions), f"The maps could not be tested: {error}."
    return [Trust(record=result.record()) for result in results], saved


def effort_for(context: Context, *, short: bool = False) -> tuple[Effort, str]:
    """Return the computation that a report spends on each map, and its description."""
    if context.options.thorough:
        return Effort(), "Thorough tests: 64 steps, every layer."
    dear = operations(context) > DEAR
    if dear or short:
        blocks = _blocks(context, *SHORT_BLOCKS)
        effort = Effort(
            steps=6,
            draws=DRAWS,
            depths=1,
            redraws=4,
            boxes=8,
            neighbours=2,
            every_kind=False,
            settings={"n_steps": 4, **blocks},
        )
        why = "With so many clips" if short else "Each pass of this model is dear, so"
        return effort, (
            f"{why} these are short tests: 6 steps, the last layer alone; --thorough takes 64 steps and every layer."
        )
    blocks = _blocks(context, *BLOCKS)
    effort = Effort(
        steps=8, draws=DRAWS, depths=4, redraws=6, boxes=16, neighbours=4, settings={"n_steps": 4, **blocks}
    )
    return effort, "Quick tests: 8 steps, 4 depths; --thorough takes 64 steps and every layer."


def _blocks(context: Context, most: int, in_time: int) -> dict[str, tuple[int, int, int]]:
    extent = to_ncthw(context.batch, layout_of(context.model, context.batch)).shape[2:]
    window, stride = default_blocks((extent[0], extent[1], extent[2]), most, in_time)
    return {"window": window, "stride": stride}


#: Verdicts, best first.
WORDS_OF_CLIPS = ("passes", "inconclusive", "flagged")


def build_clips(collection: Collection) -> Content:
    """Aggregate verdicts and numbers of every method, with intervals over clips."""
    rows = [row for method in collection.methods if (row := tested(collection, method))["clips"]]
    said = list(dict.fromkeys(one.record["tests"] for one in collection.entries if "tests" in one.record))
    data = {"methods": rows, "tests": said}
    return Content(html=render("collected_trust.html", title=title, tests_of=all_tests(), **data), data=data)


def tested(collection: Collection, method: str) -> dict[str, Any]:
    """Aggregate one method's tests: shares of verdicts, and means of its numbers."""
    found: Sequence[dict[str, Any]] = [
        record for one in collection.entries if (record := one.record.get("faithfulness", {}).get(method))
    ]
    verdicts = Counter(record["verdict"] for record in found)

    def over(name: str, least: float = -math.inf, most: float = math.inf) -> dict[str, Any]:
        return intervals.mean((record.get(name) for record in found), least, most)

    def gap(one: str, other: str) -> dict[str, Any]:
        """Compute the difference per clip, so that variation between clips cancels."""
        return intervals.mean(
            None if record[one] is None or record[other] is None else record[one] - record[other] for record in found
        )

    return {
        "method": method,
        "clips": len(found),
        "verdicts": {word: intervals.share(verdicts[word], len(found)) for word in WORDS_OF_CLIPS},
        "deletion": over("deletion"),
        "deletion_gain": gap("random_deletion", "deletion"),
        "frames_gain": gap("frames_random_deletion", "frames_deletion"),
        "insertion": over("insertion"),
        "insertion_gain": gap("insertion", "random_insertion"),
        "correlation": over("correlation", -1, 1),
        **{test.name: over(test.name, *test.bounds) for test in all_tests()},
    }
