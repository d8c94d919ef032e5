"""From numbers to words: the one place that decides what passes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from explain.faithfulness.results import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from explain.faithfulness.results import Curves, Randomized, Word

#: Rank correlation with the map of a model whose last layer is random: above, the map does not depend on the model;
#: below `DEPENDS`, it does; between, who knows.
INDEPENDENT = 0.7
DEPENDS = 0.5
#: A deletion is no better than random unless its area lies below the mean of random orders by one of their standard
#: deviations and this share of the unchanged output.
MARGIN = 0.02
#: The map finds what matters if the area when that is removed last exceeds the area when it is removed first by so many
#: standard deviations of the same difference for random orders, whose mean is 0. That difference, the symmetric
#: relevance gain (Blücher, Vielhaben & Strodthoff, arXiv 2401.06654, section 5), hangs less than either area on what
#: takes the place of removed parts.
DEVIATIONS = 3.0
#: Shares that random orders leave on average: beyond, removing parts changes the output more than removing all of the
#: clip does, by which changes are measured, as in a region of an output clip that is dark with the clip and without.
MEASURABLE = (-0.5, 1.5)


def judge(curves: Mapping[str, Curves], randomization: Sequence[Randomized], missing: Mapping[str, str]) -> Verdict:
    """The verdict on a map."""
    main = list(curves.values())[-1] if curves else None
    parts = {"model": on_model(randomization, missing), "deletion": on_deletion(main, missing)}
    words = [word for word, _ in parts.values()]
    worst: Word = "flagged" if "flagged" in words else "unsure" if "unsure" in words else "passes"
    return Verdict(word=worst, parts=parts)


def on_model(randomization: Sequence[Randomized], missing: Mapping[str, str]) -> tuple[Word, str]:
    """Whether the map depends on the model."""
    if not randomization:
        return "unsure", f"Whether it depends on the model was not tested: {missing.get('randomization', 'left out')}."
    correlation = float(randomization[0].correlation.nanmean())
    if math.isnan(correlation):
        return "unsure", "Whether it depends on the model cannot be told: a map is empty or not finite."
    said = f"with the last layer randomised, the map's rank correlation with the original is {_written(correlation, 2)}"
    if correlation > INDEPENDENT:
        return "flagged", f"It does not depend on the model: {said} (above {INDEPENDENT:g})."
    if correlation < DEPENDS:
        return "passes", f"It depends on the model: {said} (below {DEPENDS:g})."
    return "unsure", f"It may not depend on the model: {said} (between {DEPENDS:g} and {INDEPENDENT:g})."


def on_deletion(curves: Curves | None, missing: Mapping[str, str]) -> tuple[Word, str]:
    """Whether removing what the map points at lowers the output faster than removing anything."""
    if curves is None:
        return "unsure", f"Removing what it points at was not tested: {missing.get('deletion', 'left out')}."
    own, last = (
        float(area.nanmean()) for area in (curves.area(curves.deletion), curves.inserted_area(curves.insertion))
    )
    random = curves.area(curves.random_deletion).nanmean(dim=1)
    gains = curves.inserted_area(curves.random_insertion).nanmean(dim=1) - random
    centre = float(curves.area(curves.centre_deletion).nanmean())
    mean, spread = float(random.mean()), max(float(random.std(correction=1)), MARGIN)
    if not MEASURABLE[0] <= mean <= MEASURABLE[1]:
        return (
            "unsure",
            f"Whether it finds what matters cannot be told: parts removed in a random order leave {_percent(mean)}, "
            "where the whole clip is 100 % and none of it 0 %, so that what removing all of it changes is no measure; "
            "explain something that the clip changes more, such as a brighter region.",
        )
    said = (
        f"removing what it points at first leaves {_percent(own)} of the output on average, removing it last "
        f"{_percent(last)}, a random order {_percent(mean)} (give or take {_percent(float(random.std(correction=1)))})"
    )
    if own >= mean - spread:
        return "flagged", f"It finds what matters no better than chance: {said}."
    if last - own <= DEVIATIONS * max(float(gains.square().mean().sqrt()), MARGIN):
        return "unsure", f"It may find what matters by chance: {said}."
    if own >= centre - MARGIN:
        return (
            "passes",
            f"It finds what matters: {said}; but removing the middle first does as well ({_percent(centre)}).",
        )
    return "passes", f"It finds what matters: {said}, the middle first {_percent(centre)}."


def _percent(share: float) -> str:
    return f"{_written(100 * share, 0)}\N{NO-BREAK SPACE}%"


def _written(value: float, digits: int) -> str:
    rounded = round(value, digits) + 0.0  # what rounds to nothing has no sign
    return f"{rounded:.{digits}f}".replace("-", "\N{MINUS SIGN}")
