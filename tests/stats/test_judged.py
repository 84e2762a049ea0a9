"""A judge's corrected win rate, what it may decide alone, and what it leans to, against known truths."""

from __future__ import annotations

import numpy as np
import pytest

from accord.core.errors import DataError
from accord.stats.intervals import cluster_mean
from accord.stats.judged import (
    TELLS_NOTHING,
    corrected_share,
    corrected_win_rate,
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


def _counted(
    rest: tuple[int, int], won: tuple[int, int], lost: tuple[int, int], even: int = 0
) -> tuple[list[bool], list[float | None]]:
    """Verdicts of a judge and of people: its wins and losses on the rest, on people's wins and on their
    losses, and pairs that people split evenly."""
    says = [x for yes, no in (rest, won, lost) for x in [True] * yes + [False] * no]
    people = [None] * sum(rest) + [1.0] * sum(won) + [0.0] * sum(lost) + [0.5] * even
    return says + [True] * even, people


def test_pooled_by_hand() -> None:
    """The judge calls 60 of 100 wins, 18 of people's 20 and 2 of their 10 losses: of the rest (.6 + .8 - 1) /
    (.9 + .8 - 1) = 4/7 are wins, of people's 2/3: who wins may differ. The other way round is one minus."""
    says, people = _counted((60, 40), (18, 2), (2, 8))
    found = corrected_win_rate(says, people, range(130))
    assert found.value == pytest.approx((100 * 4 / 7 + 20) / 130)
    assert found.n == 130
    turned = corrected_win_rate(
        [not x for x in says], [None if x is None else 1 - x for x in people], range(130)
    )
    for a, b in (("value", "value"), ("low", "high"), ("high", "low")):
        assert getattr(turned, a) == pytest.approx(1 - getattr(found, b))
    halves = corrected_win_rate(*_counted((60, 40), (18, 2), (2, 8), even=10), range(140))
    assert halves.value == pytest.approx((100 * 4 / 7 + 20 + 5) / 140)


def test_the_pooled_error_is_that_of_the_delta_method() -> None:
    """Independent pairs: Var θ = w²(p(1-p)/k + θₖ²q1(1-q1)/m₁ + (1-θₖ)²q0(1-q0)/m₀)/J² + (1-w)²h(1-h)/m."""
    says, people = _counted((6000, 4000), (1800, 200), (200, 800))
    found = corrected_win_rate(says, people, range(13000))
    rest, tells, w = 4 / 7, 0.7, 10 / 13
    of_rest = 0.24 / 10000 + rest**2 * 0.09 / 2000 + (1 - rest) ** 2 * 0.16 / 1000
    error = (w**2 * of_rest / tells**2 + (1 - w) ** 2 * (2 / 9) / 3000) ** 0.5
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * error, rel=0.005)


def test_where_people_judged_all_their_share_is_the_rate() -> None:
    says, people = _counted((0, 0), (18, 2), (2, 8), even=2)
    prompts = [k // 4 for k in range(32)]
    found = corrected_win_rate(says, people, prompts)
    own = cluster_mean(people, prompts, share=True)
    assert (found.value, found.low, found.high) == (own.value, own.low, own.high)
    assert found.value == pytest.approx(21 / 32)
    assert "people judged every pair" in found.note
    assert corrected_win_rate([], [], []).value is None


def test_what_one_prompt_or_such_a_judge_can_not_tell() -> None:
    says, people = _counted((60, 40), (11, 9), (5, 5))
    found = corrected_win_rate(says, people, range(130))
    assert found.value is None
    assert found.note.startswith(TELLS_NOTHING)
    assert (
        f"people's own share of what they judged: {cluster_mean(people[100:], range(30), share=True)}"
        in found.note
    )
    says, people = _counted((60, 40), (20, 0), (0, 10))
    lost_in_one = corrected_win_rate(says, people, [*range(120), *[120] * 10])
    assert lost_in_one.value is None
    assert "on two prompts" in lost_in_one.note
    rest_of_one = corrected_win_rate(says, people, [0] * 100 + list(range(30)))
    assert rest_of_one.value == pytest.approx(80 / 130)
    assert (rest_of_one.low, rest_of_one.note) == (
        None,
        "one prompt is left to the judge: no interval",
    )


@pytest.mark.parametrize(
    ("truth", "q1", "q0", "n", "people"),
    [
        (0.6, 0.9, 0.9, 60, 30),
        (0.5, 0.7, 0.65, 300, 200),
        (0.3, 0.95, 0.97, 200, 60),
        (0.9, 0.8, 0.9, 300, 100),
    ],
)
def test_the_pooled_interval_covers_independent_pairs(
    truth: float, q1: float, q0: float, n: int, people: int
) -> None:
    """500 simulations of n pairs, each of a prompt of its own, of which people judged some: in 93% it holds
    the truth."""
    draw = np.random.default_rng(3)
    held = told = 0
    for _ in range(500):
        wins = draw.random(n) < truth
        says = draw.random(n) < np.where(wins, q1, 1 - q0)
        words = [float(x) for x in wins[:people]] + [None] * (n - people)
        found = corrected_win_rate(says.tolist(), words, range(n))
        if found.low is not None and found.high is not None:
            told += 1
            held += found.low <= truth <= found.high
    assert told >= 450
    assert held / told >= 0.93


def test_people_s_pairs_may_hang_on_who_wins_but_not_on_what_the_judge_says() -> None:
    """Half of 400 pairs are wins. People judge six of ten of the wins (or of what the judge calls so) and two
    of ten of the others: the mean of 200 estimates is 1/2 in the first case, in the second it is not."""
    draw = np.random.default_rng(9)
    found: list[list[float]] = [[], []]
    for _ in range(200):
        wins = draw.random(400) < 0.5
        says = draw.random(400) < np.where(wins, 0.85, 0.3)
        for by, values in zip((wins, says), found, strict=True):
            asked = draw.random(400) < np.where(by, 0.6, 0.2)
            words = [float(x) if known else None for x, known in zip(wins, asked, strict=True)]
            values.append(corrected_win_rate(says.tolist(), words, range(400)).value or 0)
    fair, unfair = (abs(np.mean(x) - 0.5) / (np.std(x) / 200**0.5) for x in found)
    assert fair < 3
    assert unfair > 10


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
