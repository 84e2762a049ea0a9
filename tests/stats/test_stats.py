"""Intervals and calibration: values by hand, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from accord.core.errors import DataError
from accord.stats.calibration import calibration_error, reliability
from accord.stats.intervals import (
    cluster_mean,
    correlation,
    mean,
    paired_difference,
    proportion,
    robust_mean,
    robust_slope,
)


def test_mean_by_hand() -> None:
    got = mean([1.0, 2.0, 3.0])
    assert (got.value, got.n) == (2.0, 3)
    assert got.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5)
    assert mean([]).value is None
    assert mean([4.0]).low is None


def test_a_proportion_by_hand() -> None:
    """8 of 10: Wilson is [0.4901625, 0.9433178]; the mid-P ends are where half of P(8) and what is
    beyond it make 0.025."""
    got = proportion(8, 10)
    assert got.low is not None
    assert got.high is not None
    assert got.low <= 0.4901625
    assert got.high >= 0.9433178
    for end, beyond in ((got.low, range(9, 11)), (got.high, range(8))):
        tail = sum(stats.binom.pmf(k, 10, end) for k in beyond) + stats.binom.pmf(8, 10, end) / 2
        assert tail == pytest.approx(0.025, abs=1e-6) or end == pytest.approx(0.4901625, abs=1e-6)
    for k in (0, 10):
        edge = proportion(k, 10)
        assert edge.low is not None
        assert edge.high is not None
        assert 0 <= edge.low <= k / 10 <= edge.high <= 1


def test_paired_difference_uses_the_pairing() -> None:
    before = [0.1, 0.9, 0.4, 0.6]
    after = [x + 0.1 for x in before]
    got = paired_difference(after, before)
    assert got.value == pytest.approx(0.1)
    assert got.high == pytest.approx(0.1)
    with pytest.raises(ValueError, match="differ in number"):
        paired_difference([1.0], [])


@pytest.mark.parametrize("n", [4, 10, 30])
def test_a_difference_of_bounded_values_is_held_where_few_changed(n: int) -> None:
    """One in ten rises by a half: by t, 0.35 at 4 pairs and 0.63 at 10, for mostly none is seen to change."""
    draw, held = np.random.default_rng(n), 0
    for _ in range(300):
        before = draw.random(n) * 0.5
        after = before + 0.5 * (draw.random(n) < 0.1)
        got = paired_difference(after.tolist(), before.tolist(), bounded=True)
        assert got.low is not None
        assert got.high is not None
        assert -1 <= got.low <= got.high <= 1
        assert got.value == pytest.approx(float((after - before).mean()))
        held += got.low <= 0.05 <= got.high
    assert held / 300 > 0.93


def test_cluster_interval_is_wider_than_the_naive_one() -> None:
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(40), 6)
    values = rng.normal(size=40)[prompts] + 0.1 * rng.normal(size=240)
    clustered, naive = cluster_mean(values, prompts), mean(values)
    assert clustered.high - clustered.low > 1.8 * (naive.high - naive.low)
    assert cluster_mean(values, prompts) == clustered
    assert cluster_mean([1.0, 0.0], ["a", "a"]).low is None


def test_cluster_interval_covers() -> None:
    """95% intervals of cluster means hold the truth in 88 to 100 of 100 worlds."""
    held = 0
    for world in range(100):
        rng = np.random.default_rng(world)
        prompts = np.repeat(np.arange(50), 4)
        values = rng.normal(size=50)[prompts] + rng.normal(size=200)
        got = cluster_mean(values, prompts, seed=world)
        held += got.low <= 0.0 <= got.high
    assert held >= 88


def test_calibration_by_hand() -> None:
    bins = reliability([0.1, 0.1, 0.9, 0.9], [0, 1, 1, 1], bins=2)
    assert [(b.predicted, b.observed.value, b.observed.n) for b in bins] == [
        (0.1, 0.5, 2),
        (0.9, 1.0, 2),
    ]
    error = calibration_error([0.1, 0.1, 0.9, 0.9], [0, 1, 1, 1], ["a", "b", "c", "d"], bins=2)
    assert error.value == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert error.low is not None
    assert error.low <= error.value <= error.high
    assert calibration_error([], [], []).value is None


def test_calibrated_predictions_have_a_small_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=4000)
    y = (rng.uniform(size=4000) < p).astype(float)
    assert calibration_error(p, y, range(4000)).value < 0.03
    assert calibration_error(np.where(p > 0.5, 0.99, 0.01), y, range(4000)).value > 0.2


def test_correlation_by_hand() -> None:
    """r of (1,2,3,4,5) and (2,1,4,3,5) is 0.8; tanh(atanh 0.8 -+ 4.30/sqrt 2), by t with 2."""
    found = correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5])
    assert found.value == pytest.approx(0.8)
    assert found.low == pytest.approx(
        math.tanh(math.atanh(0.8) - 4.302653 / math.sqrt(2)), abs=1e-6
    )
    assert found.high == pytest.approx(
        math.tanh(math.atanh(0.8) + 4.302653 / math.sqrt(2)), abs=1e-6
    )
    assert correlation([1, 2, 3, 4], [2, 4, 6, 8]).value == pytest.approx(1.0)
    assert correlation([1, 1, 1, 1], [2, 4, 6, 8]).value is None
    assert correlation([1, 2], [2, 4]).note


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_no_figure_is_made_of_what_is_not_finite(wrong: float) -> None:
    for measure in (
        mean,
        lambda x: cluster_mean(x, "abc"),
        lambda x: correlation(x * 2, [1.0] * 6),
    ):
        with pytest.raises(DataError, match="not finite; did the model diverge"):
            measure([1.0, wrong, 2.0])


def test_no_difference_of_shares_leaves_its_range() -> None:
    """All of one side and none of the other; x may be any line."""
    for unit in (1.0, 4.0):
        x = [0.0, unit] * 20
        got = robust_slope([0.0, 1.0] * 20, x, [i // 2 for i in range(40)], share=True)
        assert (got.value, got.high) == (pytest.approx(1 / unit), pytest.approx(1 / unit))
        down = robust_slope([1.0, 0.0] * 20, x, [i // 2 for i in range(40)], share=True)
        assert down.low == pytest.approx(-1 / unit)
        assert got.low is not None
        assert 0.5 / unit < got.low < 1 / unit


def test_a_robust_slope_by_hand() -> None:
    y, x = [1.0, 2.0, 4.0, 5.0], [0.0, 0.0, 1.0, 1.0]  # means 1.5 and 4.5
    got = robust_slope(y, x, [0, 1, 2, 3])
    # two means of two, each row for itself: CR2 is Welch's error, its 2 degrees of freedom those of t
    half = stats.t.ppf(0.975, 2) * math.sqrt(0.5 / 2 + 0.5 / 2)
    assert (got.value, got.n) == (pytest.approx(3.0), 4)
    assert got.high == pytest.approx(3.0 + half)
    assert robust_slope(y, [1.0] * 4, range(4)).note == "nothing to compare with"
    assert robust_slope([], [], []).note == "no data"


def test_a_robust_mean_counts_a_cluster_once() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    once = robust_mean(values, range(7), share=False)
    often = robust_mean(np.repeat(values, 5), np.repeat(np.arange(7), 5), share=False)
    assert often.n == 35
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
    plain = mean(values)  # the same t interval: K/(K-1) is its n-1
    assert (once.low, once.high) == pytest.approx((plain.low, plain.high))
    assert robust_mean([1.0, 2.0], [0, 0]).note == "one prompt: no interval"


def test_a_robust_interval_holds_in_clusters() -> None:
    generator, inside = np.random.default_rng(0), 0
    for _ in range(300):
        shared = np.repeat(generator.normal(size=30), 8)
        x = np.repeat(generator.normal(size=30), 8)
        got = robust_slope(
            2.0 * x + shared + generator.normal(size=240), x, np.repeat(np.arange(30), 8)
        )
        inside += got.low <= 2.0 <= got.high  # type: ignore[operator]
    assert 0.88 <= inside / 300 <= 0.99


def test_differences_of_measures_that_are_differences_stay_wide_where_few_change() -> None:
    """Values of -1, 0 and 1 (`span` 2): of t 0.43 of the intervals held the truth here, all as wide as
    nothing where nothing changed."""
    same = [-1.0, 0.0, 1.0, 0.0] * 10
    none = paired_difference(same, same, bounded=True, span=2.0)
    assert none.low is not None
    assert none.high is not None
    assert none.low < -0.05
    assert none.high > 0.05
    ends = paired_difference([1.0] * 30, [-1.0] * 30, bounded=True, span=2.0)
    assert (ends.value, ends.high) == (2.0, 2.0)
    draw, held, worlds = np.random.default_rng(1), 0, 150
    for _ in range(worlds):
        before = draw.choice([-1.0, 0.0, 1.0], 30, p=[0.2, 0.7, 0.1])
        after = np.where(draw.random(30) < 0.02, np.where(before == -1, 0, -1.0), before)
        got = paired_difference(after.tolist(), before.tolist(), bounded=True, span=2.0)
        assert got.low is not None
        assert got.high is not None
        held += got.low <= 0.02 * (0.2 - 0.7 - 0.2) <= got.high
    assert held / worlds >= 0.93
