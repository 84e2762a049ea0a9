"""A judge's corrected win rate, what it may decide alone, and what it leans to, against known truths."""

from __future__ import annotations

import numpy as np
import pytest

from accord.core.errors import DataError
from accord.stats.judged import (
    TELLS_NOTHING,
    corrected_share,
    decides_alone,
    lean,
    lean_grown,
    shares_apart,
)


def test_corrected_by_hand() -> None:
    """p = .6, q1 = .9, q0 = .8: θ = (.6 + .8 - 1) / (.9 + .8 - 1) = 4/7."""
    found = corrected_share(600, 1000, 90, 100, 80, 100)
    assert found.value == pytest.approx(4 / 7)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 4 / 7 < found.high


def test_a_perfect_judge_s_rate_is_its_own_and_not_certain() -> None:
    found = corrected_share(600, 1000, 50, 50, 50, 50)
    assert found.value == pytest.approx(0.6)
    assert found.high is not None
    assert found.high - 0.6 > 0.03


def test_a_judge_that_tells_nothing_is_refused() -> None:
    assert corrected_share(600, 1000, 55, 100, 48, 100).note == TELLS_NOTHING
    assert corrected_share(600, 1000, 9, 10, 0, 0).value is None
    with pytest.raises(DataError, match="more successes"):
        corrected_share(600, 100, 1, 2, 1, 2)


@pytest.mark.parametrize(
    ("truth", "q1", "q0", "n", "calibration"),
    [
        (0.6, 0.85, 0.75, 500, 200),
        (0.9, 0.8, 0.9, 300, 100),
        (0.5, 0.7, 0.65, 1000, 400),
        (0.3, 0.95, 0.97, 200, 60),
    ],
)
def test_the_corrected_interval_covers(
    truth: float, q1: float, q0: float, n: int, calibration: int
) -> None:
    """500 simulations of judging n comparisons and being tried on others: in 93% it holds the truth."""
    draw = np.random.default_rng(3)
    held = told = 0
    for _ in range(500):
        real = draw.binomial(n, truth)
        wins = draw.binomial(real, q1) + draw.binomial(n - real, 1 - q0)
        tried = draw.binomial(calibration, 0.5)
        found = corrected_share(
            wins,
            n,
            draw.binomial(tried, q1),
            tried,
            draw.binomial(calibration - tried, q0),
            calibration - tried,
        )
        if found.low is not None and found.high is not None:
            told += 1
            held += found.low <= truth <= found.high
    assert told >= 480
    assert held / told >= 0.93


def test_what_is_decided_alone_keeps_its_promise() -> None:
    """400 calibration sets: the true error rate above the chosen threshold is over the promised 10% in at
    most 5% of them (and some more by chance). A judge whose confidence says nothing decides nothing."""
    draw = np.random.default_rng(5)
    broken = chosen = 0
    for _ in range(400):
        confidence = draw.uniform(0.5, 1, 300)
        found = decides_alone(confidence, draw.random(300) < confidence, risk=0.1)
        if found.confidence is not None:
            chosen += 1
            broken += (1 - (1 + found.confidence) / 2) > 0.1  # mean error rate above it
    assert chosen > 150
    assert broken / 400 <= 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
    assert decides_alone(draw.uniform(0.5, 1, 300), draw.random(300) < 0.6).confidence is None
    assert (
        decides_alone([0.9] * 28, [True] * 28).confidence is None
    )  # 29 right ones are the fewest that tell
    assert decides_alone([0.9] * 29, [True] * 29).confidence == 0.9


def _tried(seed: int, bias: float, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """A judge of 75% whose logit for the feature is `bias` too high; 70% of the better have it."""
    draw = np.random.default_rng(seed)
    deserved = draw.random(n) < 0.7
    logit = np.where(deserved, 1.1, -1.1) + bias
    return (draw.random(n) < 1 / (1 + np.exp(-logit))).astype(float), deserved


def test_a_planted_leaning_is_found_and_none_is_not() -> None:
    """200 judges without leaning: flagged in about 5%. 200 with one of 1 logit: the interval holds the true
    difference of error rates in at least 93%, and nearly all are found."""
    true = 1 / (1 + np.exp(0.1)) - 1 / (1 + np.exp(2.1))
    flagged = covered = seen = 0
    for seed in range(200):
        drawn, deserved = _tried(seed, 0.0)
        none = lean(drawn.tolist(), deserved.tolist(), range(300))
        flagged += not (none.low or 0) <= 0 <= (none.high or 0)
        drawn, deserved = _tried(seed, 1.0)
        some = lean(drawn.tolist(), deserved.tolist(), range(300))
        covered += (some.low or 0) <= true <= (some.high or 0)
        seen += (some.low or 0) > 0
    assert flagged <= 0.05 * 200 + 2 * (200 * 0.05 * 0.95) ** 0.5
    assert covered >= 0.93 * 200
    assert seen >= 0.95 * 200


def test_a_leaning_that_grew_is_told_from_one_that_was_handed_on() -> None:
    """A reward model that decides as its judge does, with other errors on a tenth of pairs, three pairs a
    prompt: of 200 the interval misses the true change in about 5%; of 200 that decide for the feature in two
    fifths of all pairs nearly all are found, and in 93% the interval holds the true change."""
    flagged = seen = covered = 0
    for seed in range(200):
        draw = np.random.default_rng([seed, 1])
        before, deserved = _tried(seed, 0.5)
        other = np.where(draw.random(300) < 0.1, 1 - before, before)
        pushed = np.where(draw.random(300) < 0.4, 1.0, other)
        prompts = np.arange(300) // 3
        none = lean_grown(before.tolist(), other.tolist(), deserved.tolist(), prompts.tolist())
        some = lean_grown(before.tolist(), pushed.tolist(), deserved.tolist(), prompts.tolist())
        toward = [
            1 / (1 + np.exp(-x)) for x in (1.6, -0.6)
        ]  # P(drawn to it | it is better, it is not)
        grown = sum(0.1 * (1 - 2 * p) for p in toward)  # errors on a tenth draw both to one half
        more = sum(0.4 * (1 - (p + 0.1 * (1 - 2 * p))) for p in toward) + grown
        flagged += not (none.low or 0) <= grown <= (none.high or 0)
        seen += (some.low or 0) > 0
        covered += (some.low or 0) <= more <= (some.high or 0)
    assert flagged <= 0.05 * 200 + 2 * (200 * 0.05 * 0.95) ** 0.5
    assert covered >= 0.93 * 200
    assert seen >= 0.95 * 200
    assert lean_grown([1.0], [0.0], [True], ["a"]).value is None


def test_prompts_that_pull_both_sides_apart_widen_a_difference_of_shares() -> None:
    """The same prompts on both sides, one high where the other is low: the difference's variance is 2(v+v).
    One that moves both alike, or that has one side alone, leaves it as it is."""
    one, names = [0.2, 0.9, 0.4, 0.7, 0.3, 0.8], list("abcdef")
    two = [1 - x for x in one]

    def width(clusters: list[str], values: list[float]) -> float:
        metric = shares_apart(one, names, values, clusters)
        assert metric.low is not None
        assert metric.value is not None
        return metric.value - metric.low

    alone = width(list("ghijkl"), two)
    assert width(names, two) == pytest.approx(2**0.5 * alone)
    assert width(names, one) == pytest.approx(width(list("ghijkl"), one))
