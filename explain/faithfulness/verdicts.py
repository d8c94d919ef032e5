"""Verdicts on maps: the only place that decides what passes.

==========  ========================================  ====================================  ============================
test        number                                    passes                                flagged
==========  ========================================  ====================================  ============================
model       rank correlation with the map of a model  its 90% interval lies below 0.5       its 90% interval lies above
            whose last layer is random                                                      0.7
deletion    area under the deletion curve of pixels   below what random orders leave, the   above the mean of random
            of single frames                          gain too, and below the center first  orders
frames      the same of whole frames                  below what random orders leave, the   above the mean of random
                                                      gain too                              orders
stability   largest relative change of the map under  below 0.5                             above 1: further away than
            noise of 2% of the clip's range                                                 an empty map is
==========  ========================================  ====================================  ============================

All other results are *inconclusive*: within the sampling error of the draws, within `MARGIN` of the unchanged output,
or equal to the threshold as printed. A map passes if all its tests do, and is flagged if one is. There is no frame test
for a clip of one frame, or of so few that a random order often is the best (`FEWEST_FRAMES`).

Sampling error comes from the draws alone (n random orders, k random last layers):

- *what random orders leave*: 1 of 20 random orders leaves less. From `ENOUGH` draws on, the order statistic that bounds
  a further draw with that probability, whatever the distribution (for 19 draws, the least of them: the Monte Carlo
  permutation test at 5%, Dwass, Ann. Math. Stat. 28, 1957); of fewer, Student's prediction bound,
  m - t(n - 1) s sqrt(1 + 1/n);
- *the gain*, area when the map is removed last less area when it is removed first (symmetric relevance gain; Blücher,
  Vielhaben & Strodthoff, arXiv 2401.06654, section 5): bounded likewise. Random orders come in pairs, an order and its
  reverse, whose gains are each other's negatives: their mean is 0, and n / 2 of them are independent;
- *the mean of random orders*: its 90% confidence interval, m -+ t(n - 1) s / sqrt(n);
- *rank correlation*: the 90% confidence interval of the mean over the k random last layers, by Student's t. It is wide
  for signed maps of few classes, where a random last layer may turn every sign.

With several samples, the mean over samples is judged. All bounds concern the draws only, not other clips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from torch import Tensor

from explain.faithfulness.measures import BUILT_IN, STABLE, UNSTABLE, Test
from explain.faithfulness.results import Curves, Randomized, Verdict, Word

#: Probability beyond a bound under chance: every bound is one-sided, so that an interval of two bounds covers 90%.
TAIL: Final = 0.05
#: Minimum number of draws from which random orders themselves bound a further order.
ENOUGH: Final = 19
#: Rank correlation with the map of a model whose last layer is randomized: above, the map does not depend on the model;
#: below `DEPENDS`, it does.
INDEPENDENT: Final = 0.7
DEPENDS: Final = 0.5
#: Half width of the interval of a rank correlation from a single draw.
SINGLE: Final = 0.1
#: Areas closer than this share of the unchanged output are equal, since curves have few points.
MARGIN: Final = 0.02
#: With fewer frames, more than 1 of 20 random orders removes those that matter first, whichever they are: C(5, 2) = 10.
FEWEST_FRAMES: Final = 6
#: Range of shares that random orders leave on average: outside, removing parts changes the output more than removing
#: the whole clip, the reference of all changes, as in a region of an output clip that is dark with and without the
#: clip.
MEASURABLE: Final = (-0.5, 1.5)


#: A map of an untrained model can be neither right nor wrong.
UNTRAINED: Final = Verdict(
    word="inconclusive",
    parts={
        "weights": ("inconclusive", "The model's weights are random: it has learned nothing that a map could show.")
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """Output that random orders leave when removed first, as shares: means over samples."""

    mean: float
    #: Standard deviation over orders.
    spread: float
    #: Number of orders drawn.
    draws: int
    #: 1 of 20 random orders leaves less than `low`, 1 of 20 more than `high`, and 1 of 20 gains more than `gain`.
    low: float
    high: float
    gain: float
    #: Half width of the 90% confidence interval of `mean`.
    error: float


def chance(curves: Curves) -> Chance:
    """Return what random orders leave, with its sampling error (see this module)."""
    areas = curves.area(curves.random_deletion).nanmean(dim=1)
    gains = curves.inserted_area(curves.random_insertion).nanmean(dim=1) - areas
    draws, mean, spread = len(areas), float(areas.mean()), float(areas.std(correction=1))
    if draws >= ENOUGH:
        rank = int((draws + 1) * TAIL)
        low, high = (float(areas.kthvalue(at).values) for at in (rank, draws + 1 - rank))
        gain = float(gains.kthvalue(draws + 1 - rank).values)
    else:
        reach = quantile(1 - TAIL, draws - 1) * spread * math.sqrt(1 + 1 / draws)
        low, high = mean - reach, mean + reach
        gain = quantile(1 - TAIL, draws // 2) * float(gains.square().mean().sqrt())
    return Chance(
        mean=mean,
        spread=spread,
        draws=draws,
        low=min(low, mean - MARGIN),
        high=max(high, mean + MARGIN),
        gain=max(gain, MARGIN),
        error=max(quantile(1 - TAIL, draws - 1) * spread / math.sqrt(draws), MARGIN),
    )


@lru_cache
def quantile(probability: float, freedom: int) -> float:
    """Return a quantile of Student's t distribution."""
    from scipy.stats import t

    return float(t.ppf(probability, freedom))


def judge(
    curves: Mapping[str, Curves],
    randomization: Sequence[Randomized],
    missing: Mapping[str, str],
    measures: Mapping[str, Tensor],
    frames: int,
    tests: Iterable[Test] = BUILT_IN,
) -> Verdict:
    """Return the verdict on a map from all its tests.

    Args:
        curves: Curves by kind; the last is for pixels of single frames, "temporal" for whole frames.
        randomization: The first is that of the last layer.
        missing: Why a test was omitted: "randomization", "deletion", or the name of a measure.
        measures: N numbers each, by name.
        frames: Number of frames of the clip.
        tests: All measures; those with thresholds enter the verdict.
    """
    main = list(curves.values())[-1] if curves else None
    parts = {"model": on_model(randomization, missing), "deletion": on_deletion(main, missing)}
    if frames >= FEWEST_FRAMES:
        parts["frames"] = on_frames(curves.get("temporal"), missing)
    for test in tests:
        if test.name == "sensitivity":
            parts["stability"] = on_stability(measures.get(test.name), missing)
        elif test.thresholds is not None:
            parts[test.name] = on_measure(test, test.thresholds, measures.get(test.name), missing)
    return Verdict(word=worst(word for word, _ in parts.values()), parts=parts)


def worst(words: Iterable[Word]) -> Word:
    """Return the outcome of all tests together: flagged if any is, else inconclusive if any is, else passes."""
    found = set(words)
    return "flagged" if "flagged" in found else "inconclusive" if "inconclusive" in found else "passes"


def on_model(randomization: Sequence[Randomized], missing: Mapping[str, str]) -> tuple[Word, str]:
    """Judge whether the map depends on the model."""
    if not randomization:
        why = missing.get("randomization", "left out")
        return "inconclusive", f"Whether it depends on the model was not tested: {why}."
    first = randomization[0]
    correlation = float(first.correlation.nanmean())
    if math.isnan(correlation):
        return "inconclusive", "Whether it depends on the model is unknown: a map is empty or not finite."
    half = _half(first.draws)
    draws = "one draw" if first.draws is None or len(first.draws) < 2 else f"{len(first.draws)} draws"
    low, high = max(correlation - half, -1.0), min(correlation + half, 1.0)
    said = (
        f"with the last layer randomized, the map's rank correlation with the original is {_written(correlation, 2)} "
        f"({_written(low, 2)} to {_written(high, 2)}, the 90\N{NO-BREAK SPACE}% interval of {draws})"
    )
    # Compare the printed value: 0.498 is not below 0.50.
    if round(low, 2) > INDEPENDENT:
        return "flagged", f"It does not depend on the model: {said}, above {INDEPENDENT:g}."
    if round(high, 2) < DEPENDS:
        return "passes", f"It depends on the model: {said}, below {DEPENDS:g}."
    return (
        "inconclusive",
        f"It may not depend on the model: {said}; below {DEPENDS:g} it would, above {INDEPENDENT:g} not.",
    )


def _half(draws: Tensor | None) -> float:
    """Return the half width of the 90% confidence interval of a mean rank correlation (draws x N)."""
    means = None if draws is None else draws.nanmean(dim=1)
    if means is None or len(means) < 2:
        return SINGLE
    return quantile(1 - TAIL, len(means) - 1) * float(means.std(correction=1)) / math.sqrt(len(means))


def on_deletion(curves: Curves | None, missing: Mapping[str, str]) -> tuple[Word, str]:
    """Judge whether removing marked pixels lowers the output faster than random and center-first orders do."""
    if curves is None:
        return "inconclusive", f"Removing the pixels it marks was not tested: {missing.get('deletion', 'left out')}."
    word, said, own = _against_chance(curves, "pixels")
    center = float(curves.area(curves.centre_deletion).nanmean())
    if word != "passes":
        return word, said
    if own >= center - MARGIN:
        return "inconclusive", f"{said[:-1]}; but removing the center first does as well ({_percent(center)})."
    return "passes", f"{said[:-1]}, the center first {_percent(center)}."


def on_frames(curves: Curves | None, missing: Mapping[str, str]) -> tuple[Word, str]:
    """Judge whether removing marked frames lowers the output faster than random orders do."""
    if curves is None:
        return "inconclusive", f"Removing the frames it marks was not tested: {missing.get('deletion', 'left out')}."
    word, said, _ = _against_chance(curves, "frames")
    return word, said


def _against_chance(curves: Curves, parts: str) -> tuple[Word, str, float]:
    """Return the outcome of an order against random ones, a sentence with the reason, and its deletion area."""
    own, last = (
        float(area.nanmean()) for area in (curves.area(curves.deletion), curves.inserted_area(curves.insertion))
    )
    random = chance(curves)
    if not MEASURABLE[0] <= random.mean <= MEASURABLE[1]:
        return (
            "inconclusive",
            f"Whether it finds the {parts} that matter is unknown: removed in a random order they leave "
            f"{_percent(random.mean)}, where the whole clip is 100\N{NO-BREAK SPACE}% and none of it "
            "0\N{NO-BREAK SPACE}%, so that what removing all of it changes is no measure; explain something that the "
            "clip changes more, such as a brighter region.",
            own,
        )
    said = (
        f"removing the {parts} it marks first leaves {_percent(own)} of the output on average, removing them last "
        f"{_percent(last)}, a random order {_percent(random.mean)} (90\N{NO-BREAK SPACE}% of them "
        f"{_percent(random.low)} to {_percent(random.high)})"
    )
    if own >= random.mean + random.error:
        return "flagged", f"It finds the {parts} that matter no better than chance: {said}.", own
    if own < random.low and last - own > random.gain:
        return "passes", f"It finds the {parts} that matter: {said}.", own
    return "inconclusive", f"It may find the {parts} that matter by chance: {said}.", own


def on_stability(sensitivity: Tensor | None, missing: Mapping[str, str]) -> tuple[Word, str]:
    """Judge whether the map is stable under barely visible noise."""
    if sensitivity is None:
        why = missing.get("sensitivity", "left out")
        return "inconclusive", f"Whether it is stable under noise was not tested: {why}."
    change = float(sensitivity.nanmean())
    if not math.isfinite(change):
        return "inconclusive", "Whether it is stable under noise is unknown: the map is empty or not finite."
    said = f"noise of 2\N{NO-BREAK SPACE}% changes the map by {_percent(change)}"
    word = _against((STABLE, UNSTABLE), change, "lower")
    return word, {
        "flagged": f"It is not stable: {said}, more than an empty map differs from it.",
        "passes": f"It is stable: {said}.",
        "inconclusive": f"It may not be stable: {said}; below {_percent(STABLE)} it would be, above "
        f"{_percent(UNSTABLE)} not.",
    }[word]


def on_measure(
    test: Test, thresholds: tuple[float, float], values: Tensor | None, missing: Mapping[str, str]
) -> tuple[Word, str]:
    """Judge a map by the mean of a measure over samples."""
    if values is None:
        return "inconclusive", f"Its {test.title} was not measured: {missing.get(test.name, 'left out')}."
    mean = float(values.nanmean())
    if not math.isfinite(mean):
        return "inconclusive", f"Its {test.title} is unknown: there is no finite number."
    good, bad = ("below", "above") if test.better == "lower" else ("above", "below")
    word = _against(thresholds, mean, test.better)
    rule = f"it passes {good} {thresholds[0]:g} and is flagged {bad} {thresholds[1]:g}"
    return word, f"Its {test.title} is {_written(mean, 2)}; {rule}."


def _against(thresholds: tuple[float, float], value: float, better: str) -> Word:
    """Judge a number as printed, with two digits."""
    sign = 1 if better == "lower" else -1
    rounded, passes, flagged = (sign * number for number in (round(value, 2), *thresholds))
    return "flagged" if rounded > flagged else "passes" if rounded < passes else "inconclusive"


def _percent(share: float) -> str:
    return f"{_written(100 * share, 0)}\N{NO-BREAK SPACE}%"


def _written(value: float, digits: int) -> str:
    rounded = round(value, digits) + 0.0  # remove the sign of zero
    return f"{rounded:.{digits}f}".replace("-", "\N{MINUS SIGN}")


#: A curve whose highest frame has less than this multiple of a uniform share is flat.
PEAKED: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The frame with the highest attribution."""

    #: Counted from 0.
    frame: int
    #: Its time on the clock of the clip's source; None if unknown.
    seconds: float | None
    #: Its share of the whole clip's attribution, and the share of each frame under uniform attribution.
    share: float
    even: float


def shares_of(time: Tensor) -> Tensor:
    """Return each frame's share of a map's magnitude (`Attribution.time` of one sample, T); zeros if all are."""
    sizes = time.detach().double().abs()
    total = sizes.sum()
    return sizes / total if float(total) else sizes


def strongest(time: Tensor, verdict: str | None, times: Sequence[float] | None = None) -> Moment | None:
    """Return the frame to name as strongest, or None.

    Args:
        time: `Attribution.time` of one sample: T.
        verdict: Outcome of the map's frame test ("passes", ...); None if untested. With any other outcome a random
            order of frames may do as well: no frame is named.
        times: Seconds of each frame, if known.
    """
    shares = shares_of(time)
    at = int(shares.argmax())
    seconds = None if times is None else times[at]
    found = Moment(frame=at, seconds=seconds, share=float(shares[at]), even=1 / len(shares))
    return found if verdict == "passes" and found.share >= PEAKED * found.even else None
