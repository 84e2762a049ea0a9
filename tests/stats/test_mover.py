"""Sums of independent figures: a published interval, and how often the truth is held."""

from __future__ import annotations

import math
import random

import pytest

from accord.core.types import Metric
from accord.stats.intervals import proportion
from accord.stats.mover import combination


def wilson(k: int, n: int) -> Metric:
    z = 1.959964
    middle, scale = (k / n + z * z / (2 * n)), 1 + z * z / n
    half = z * math.sqrt(k / n * (1 - k / n) / n + z * z / (4 * n * n))
    return Metric(value=k / n, low=(middle - half) / scale, high=(middle + half) / scale, n=n)


def test_newcombe_s_published_interval() -> None:
    """Newcombe (1998), table II, method 10: 56/70 - 48/80 is 0.2 [0.0524, 0.3339]."""
    metric = combination([wilson(56, 70), wilson(48, 80)], [1.0, -1.0])
    assert metric.value == pytest.approx(0.2)
    assert (metric.low, metric.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_of_one_figure_it_is_the_figure_s_own() -> None:
    one = wilson(3, 20)
    same, less = combination([one], [1.0]), combination([one], [-2.0])
    assert (same.low, same.high) == pytest.approx((one.low, one.high))
    assert (less.low, less.high) == pytest.approx((-2 * (one.high or 0), -2 * (one.low or 0)))


def test_what_is_undefined_stays_so() -> None:
    assert combination([], []).value is None
    assert combination([wilson(1, 9), Metric(value=None, n=0)], [1, 1]).value is None
    bare = combination([wilson(1, 9), Metric(value=0.5, n=3)], [1, 1])
    assert (bare.value, bare.low) == (pytest.approx(1 / 9 + 0.5), None)


@pytest.mark.parametrize("shares", [(0.02, 0.02), (0.3, 0.4), (0.95, 0.9), (0.5, 0.02, 0.9, 0.3)])
def test_the_truth_is_held(shares: tuple[float, ...]) -> None:
    """In 95% of draws, to the simulation's error, with few trials and shares near the edge."""
    draw, held, n, times = random.Random(5), 0, 30, 500
    weights = [1.0, -1.0] if len(shares) == 2 else [1 / len(shares)] * len(shares)
    truth = sum(w * p for w, p in zip(weights, shares, strict=True))
    kept: dict[int, Metric] = {}
    for _ in range(times):
        counts = [sum(draw.random() < p for _ in range(n)) for p in shares]
        metric = combination([kept.setdefault(k, proportion(k, n)) for k in counts], weights)
        assert metric.low is not None
        assert metric.high is not None
        held += metric.low <= truth <= metric.high
    assert held / times > 0.925
