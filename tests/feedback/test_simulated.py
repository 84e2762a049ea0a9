"""Simulated raters are what their parameters say."""

from __future__ import annotations

import math

import pytest

from accord.core.seeds import rng
from accord.feedback.simulated import SimulatedRater, compare, rank

N = 4000


def share_left(
    rater: SimulatedRater, quality: tuple[float, float], words: tuple[int, int]
) -> float:
    draw = rng(0, rater.name)
    texts = ["word " * n for n in words]
    return sum(compare(rater, quality, texts, draw).better == 0 for _ in range(N)) / N


@pytest.mark.parametrize(
    ("rater", "quality", "words", "logit"),
    [
        (SimulatedRater(name="skill", skill=5.0), (0.8, 0.4), (5, 5), 2.0),
        (SimulatedRater(name="length", skill=0.0, length_bias=1.0), (0, 0), (20, 10), 1.0),
        (SimulatedRater(name="side", skill=0.0, side_bias=1.0), (0, 0), (5, 5), 1.0),
    ],
)
def test_choice_follows_the_logistic(
    rater: SimulatedRater, quality: tuple[float, float], words: tuple[int, int], logit: float
) -> None:
    expected = 1 / (1 + math.exp(-logit))
    assert share_left(rater, quality, words) == pytest.approx(expected, abs=0.03)


def test_careless_is_half_random() -> None:
    rater = SimulatedRater(name="careless", skill=1000.0, careless=0.4)
    assert share_left(rater, (1.0, 0.0), (5, 5)) == pytest.approx(0.8, abs=0.03)


def test_rankings_are_plackett_luce() -> None:
    rater = SimulatedRater(name="pl", skill=2.0)
    draw, quality = rng(1), (0.0, 0.5, 1.0)
    first = [0, 0, 0]
    for _ in range(N):
        ranks = rank(rater, quality, ["a"] * 3, draw).ranks
        assert sorted(ranks) == [1, 2, 3]
        first[ranks.index(1)] += 1
    weights = [math.exp(2.0 * q) for q in quality]
    for count, weight in zip(first, weights, strict=True):
        assert count / N == pytest.approx(weight / sum(weights), abs=0.03)
