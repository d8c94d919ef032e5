"""The rules of verdicts: what passes, what is flagged, and that what chance could decide is inconclusive."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from explain.faithfulness.results import Curves, Randomized, Verdict
from explain.faithfulness.verdicts import (
    DEPENDS,
    ENOUGH,
    FEWEST_FRAMES,
    INDEPENDENT,
    MARGIN,
    STABLE,
    UNSTABLE,
    chance,
    judge,
    on_deletion,
    on_frames,
    on_model,
    on_stability,
)

AT = torch.linspace(0, 1, 3, dtype=torch.float64)


def curve(area):
    """A curve of that area from 1 to 0, by trapezoids at three points."""
    return torch.tensor([1.0, 2 * area - 0.5, 0.0], dtype=torch.float64)


def curves(own, last, random, center=0.9, kind="both"):
    """Curves of those areas; random orders come in pairs of an order and its reverse."""
    drawn = torch.stack([curve(area) for area in random])[:, None]
    pairs = torch.arange(len(random)).view(-1, 2).flip(1).flatten()
    return Curves(
        kind=kind,
        removed=AT,
        shown=AT,
        deletion=curve(own)[None],
        insertion=curve(last).flip(0)[None],
        random_deletion=drawn,
        random_insertion=drawn[pairs].flip(-1),
        centre_deletion=curve(center)[None],
        centre_insertion=curve(1 - center)[None],
    )


def around(mean, spread, draws):
    """Areas of random orders with exactly that mean and standard deviation."""
    half = spread * ((draws - 1) / draws) ** 0.5
    return [mean + half, mean - half] * (draws // 2)


def test_random_orders_are_bounded_as_scipy_has_it():
    areas = [0.3, 0.55, 0.41, 0.47, 0.62, 0.38]
    found = chance(curves(0.5, 0.5, areas))
    mean, error = sum(areas) / 6, stats.sem(areas)
    assert found.mean == pytest.approx(mean)
    assert found.error == pytest.approx(mean - stats.t.interval(0.9, 5, mean, error)[0])
    assert found.mean - found.low == pytest.approx(stats.t.ppf(0.95, 5) * stats.tstd(areas) * (7 / 6) ** 0.5)
    gains = [areas[1] - areas[0], areas[3] - areas[2], areas[5] - areas[4]]
    rms = (sum(gain**2 for gain in gains) / 3) ** 0.5
    assert found.gain == pytest.approx(stats.t.ppf(0.95, 3) * rms)


def test_enough_random_orders_bound_a_further_one_themselves():
    """Whatever their distribution: here one of 20 lies far off, where Student's bound would not look."""
    areas = [0.5 + 0.001 * at for at in range(19)] + [0.2]
    found = chance(curves(0.5, 0.5, areas))
    assert len(areas) >= ENOUGH
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(0.518 + max(0, found.mean + MARGIN - 0.518))


def test_an_order_that_is_drawn_at_random_passes_in_at_most_1_of_20_cases():
    drawn = torch.Generator().manual_seed(0)
    words = []
    for _ in range(400):
        own, last, *areas = (0.5 + 0.1 * torch.randn(2 + ENOUGH + 1, generator=drawn)).tolist()
        words.append(on_deletion(curves(own, last, areas), {})[0])
    assert words.count("passes") <= 20
    assert words.count("inconclusive") > 150


@pytest.mark.parametrize("test", [lambda one: on_deletion(one, {}), lambda one: on_frames(one, {})])
@pytest.mark.parametrize(
    ("own", "last", "spread", "word"),
    [
        (0.20, 0.80, 0.05, "passes"),
        (0.30, 0.70, 0.30, "inconclusive"),  # random orders do that, too
        (0.20, 0.52, 0.20, "inconclusive"),  # removing it last leaves hardly more
        (0.50, 0.50, 0.05, "inconclusive"),
        (0.49, 0.51, 0.001, "inconclusive"),  # beyond the draws, within the margin
        (0.51, 0.60, 0.001, "inconclusive"),
        (0.60, 0.70, 0.05, "flagged"),
        (0.96, 0.99, 0.05, "flagged"),
    ],
)
def test_orders_are_judged_against_random_ones(test, own, last, spread, word):
    found, sentence = test(curves(own, last, around(0.5, spread, 8)))
    assert found == word, sentence
    assert f"{100 * own:.0f}\N{NO-BREAK SPACE}%" in sentence
    random = chance(curves(own, last, around(0.5, spread, 8)))
    for end in (random.low, random.high):  # the range by which it was judged
        assert f"{100 * end:.0f}".replace("-", "\N{MINUS SIGN}") in sentence


def test_no_spread_of_nothing_is_told():
    """Two draws that are alike bound nothing."""
    _, sentence = on_deletion(curves(0.2, 0.8, [0.87, 0.87]), {})
    assert "0\N{NO-BREAK SPACE}%)" not in sentence.replace("80\N{NO-BREAK SPACE}%", "").replace("90", "")
    assert "85\N{NO-BREAK SPACE}% to 89\N{NO-BREAK SPACE}%" in sentence


@pytest.mark.parametrize(("center", "word"), [(0.9, "passes"), (0.21, "inconclusive"), (0.1, "inconclusive")])
def test_pixels_must_beat_the_center_too_and_frames_need_not(center, word):
    made = curves(0.2, 0.8, around(0.5, 0.02, 8), center=center)
    assert on_deletion(made, {})[0] == word
    assert on_frames(made, {})[0] == "passes"


@pytest.mark.parametrize(
    ("draws", "word"),
    [
        ([0.02, 0.05, 0.03], "passes"),
        ([0.498, 0.498, 0.498], "inconclusive"),  # 0.50 as printed
        ([0.30, 0.45, 0.60], "inconclusive"),
        ([0.49, 0.50, 0.495], "inconclusive"),
        ([0.60, 0.61, 0.62], "inconclusive"),
        ([0.702, 0.703, 0.702], "inconclusive"),
        ([0.60, 0.80, 0.95], "inconclusive"),
        ([0.9, 0.91, 0.92], "flagged"),
        ([1.0, 1.0, 1.0], "flagged"),
    ],
)
def test_dependence_on_the_model_counts_with_its_interval(draws, word):
    each = torch.tensor(draws, dtype=torch.float64)[:, None]
    found, sentence = on_model([Randomized(layer="a", depth=1, correlation=each.mean(dim=0), draws=each)], {})
    assert found == word, sentence
    half = stats.t.ppf(0.95, 2) * stats.sem(draws) if len(set(draws)) > 1 else 0.0
    assert f"{min(sum(draws) / 3 + half, 1):.2f}" in sentence
    assert word != "passes" or sum(draws) / 3 + half < DEPENDS
    assert word != "flagged" or sum(draws) / 3 - half > INDEPENDENT


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (0.2, "passes"),
        (STABLE - 0.002, "inconclusive"),
        (0.9, "inconclusive"),
        (UNSTABLE + 0.002, "inconclusive"),
        (16.6, "flagged"),
        (float("nan"), "inconclusive"),
        (float("inf"), "inconclusive"),
        (None, "inconclusive"),
    ],
)
def test_stability_goes_by_the_change_under_noise(change, word):
    given = None if change is None else torch.tensor([change])
    assert on_stability(given, {"sensitivity": "no method"})[0] == word


GOOD = Randomized(layer="a", depth=1, correlation=torch.zeros(1), draws=torch.zeros(3, 1))


@pytest.mark.parametrize("failing", ["model", "deletion", "frames", "stability", None])
@pytest.mark.parametrize("word", ["flagged", "inconclusive"])
def test_every_test_counts(failing, word):
    own = {
        name: {"flagged": 0.6, "inconclusive": 0.5}[word] if name == failing else 0.2 for name in ("deletion", "frames")
    }
    random = around(0.5, 0.02, 8)
    made = {
        "temporal": curves(own["frames"], 0.8, random, kind="temporal"),
        "both": curves(own["deletion"], 0.8, random),
    }
    correlation = {"flagged": 0.9, "inconclusive": 0.6}[word] if failing == "model" else 0.0
    change = {"flagged": 16.6, "inconclusive": 0.7}[word] if failing == "stability" else 0.1
    drawn = torch.full((3, 1), correlation)
    randomized = Randomized(layer="a", depth=1, correlation=drawn[0], draws=drawn)
    verdict = judge(made, [randomized], {}, {"sensitivity": torch.tensor([change])}, frames=16)
    assert verdict.word == ("passes" if failing is None else word)
    assert {name for name, (found, _) in verdict.parts.items() if found != "passes"} == ({failing} - {None})


@pytest.mark.parametrize(("frames", "tested"), [(1, False), (FEWEST_FRAMES - 1, False), (FEWEST_FRAMES, True)])
def test_few_frames_are_not_judged(frames, tested):
    """Of 5 frames, 1 of 10 random orders removes two that matter first; of 6, 1 of 20 three."""
    random = around(0.5, 0.02, 8)
    made = {"temporal": curves(0.6, 0.4, random, kind="temporal"), "both": curves(0.2, 0.8, random)}
    verdict = judge(made, [GOOD], {}, {"sensitivity": torch.tensor([0.1])}, frames=frames)
    assert ("frames" in verdict.parts) is tested
    assert verdict.word == ("flagged" if tested else "passes")
    best = max(len(list(itertools.combinations(range(frames), few))) for few in range(frames + 1))
    assert (best >= 20) is tested


def test_verdicts_of_earlier_versions_keep_their_meaning():
    assert Verdict(word="unsure", parts={"model": ("unsure", "")}).word == "inconclusive"
