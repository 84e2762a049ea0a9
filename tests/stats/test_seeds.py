"""A mean over seeds: closed forms, and how often its interval holds the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from accord.core.errors import DataError
from accord.stats.intervals import binomial_interval
from accord.stats.seeds import of_these_seeds, over_seeds


def rows(table: np.ndarray, shared: bool) -> tuple[list[float], list[int], list[tuple[int, int]]]:
    """A table [S, N] as columns; prompts are the same in each seed, or each seed's own."""
    s, n = table.shape
    seeds = [k for k in range(s) for _ in range(n)]
    clusters = [(0 if shared else k, i) for k in range(s) for i in range(n)]
    return table.ravel().tolist(), seeds, clusters


def test_seeds_with_prompts_of_their_own_have_the_interval_of_their_means() -> None:
    table = np.random.default_rng(0).normal(size=(3, 20))
    known = over_seeds(*rows(table, shared=False))
    means = table.mean(1)
    low, high = stats.t.interval(0.95, 2, means.mean(), stats.sem(means))
    assert (known.value, known.low, known.high) == pytest.approx((means.mean(), low, high))


def test_seeds_that_are_one_have_the_interval_of_their_prompts() -> None:
    """Three times the same answers tell no more than once: Student's t over prompts."""
    one = np.random.default_rng(1).normal(size=20)
    known = over_seeds(*rows(np.stack([one] * 3), shared=True))
    low, high = stats.t.interval(0.95, 19, one.mean(), stats.sem(one))
    assert (known.low, known.high) == pytest.approx((low, high))


def test_seeds_that_agree_by_chance_are_no_surer_than_their_prompts() -> None:
    """Two means of .2 and .2: t of them alone has no width; the prompts of both have."""
    draw = np.random.default_rng(2).normal(size=(2, 30))
    table = draw - draw.mean(1, keepdims=True) + 0.2
    known = over_seeds(*rows(table, shared=False))
    squares = (
        table - 0.2
    ).ravel() ** 2  # of each prompt; few large ones make fewer degrees of freedom
    df = min(59, 2 / ((squares**2).sum() / squares.sum() ** 2 - 1 / 60))
    low, high = stats.t.interval(0.95, df, 0.2, math.sqrt(squares.mean() / 59))
    assert (known.low, known.high) == pytest.approx((low, high))


def test_one_seed_says_that_it_is_one() -> None:
    known = over_seeds([0.0, 1.0, 0.5], [17] * 3, "abc", ends=(0.0, 1.0))
    assert known.value == pytest.approx(0.5)
    assert (known.low, known.high) == (0.0, 1.0)
    assert "another" in known.method
    assert over_seeds([], [], []).value is None


def test_rows_that_are_all_alike_are_not_certain() -> None:
    """0 of 40 prompts changed in three seeds: 40 trials, not 120."""
    columns = rows(np.zeros((3, 40)), shared=True)
    known = over_seeds(*columns, ends=(-1.0, 1.0))
    low, high = binomial_interval(0.5, 40, 0.95)
    assert (known.value, known.low, known.high) == pytest.approx((0.0, 2 * low - 1, 2 * high - 1))
    assert over_seeds(*columns).low is None


def test_one_seed_s_rows_that_are_all_alike_are_not_certain() -> None:
    """As wide as two seeds of the same prompts; one prompt alone has no interval."""
    prompts = list(range(64))
    one = over_seeds([0.0] * 64, [17] * 64, prompts, ends=(-1.0, 1.0))
    two = over_seeds([0.0] * 128, [17] * 64 + [18] * 64, prompts * 2, ends=(-1.0, 1.0))
    assert one.low is not None
    assert (one.value, one.low, one.high) == (two.value, two.low, two.high)
    assert one.low < -0.2
    assert "another" in one.method
    assert "another" not in two.method
    assert over_seeds([0.0] * 64, [17] * 64, prompts).low is None
    assert over_seeds([0.5, 0.5], [17] * 2, "aa", ends=(0.0, 1.0)).low is None


def test_columns_of_other_lengths_and_nan_are_refused() -> None:
    with pytest.raises(DataError, match="one of each a row"):
        over_seeds([1.0], [1, 2], ["a"])
    with pytest.raises(DataError, match="not finite"):
        over_seeds([1.0, math.nan], [1, 2], "ab")
    with pytest.raises(DataError, match="not finite"):
        over_seeds([math.nan] * 2, [1, 1], "ab")


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("between", [0.0, 0.1, 0.3])
def test_the_interval_covers(shared: float, between: float) -> None:
    """500 studies of 3 seeds and 40 prompts each, of which a share is the same in all: values -1, 0 and 1
    with prompts' and seeds' effects. In at least 93% the truth, 0, is inside."""
    draw = np.random.default_rng(round(100 * shared + 1000 * between))
    held, n, same = 0, 40, round(40 * shared)
    seeds = np.repeat(np.arange(3), n).tolist()
    clusters = [i if i < same else (k, i) for k in range(3) for i in range(n)]
    for _ in range(500):
        prompts = draw.normal(0, 0.3, (3, n))
        prompts[:, :same] = prompts[0, :same]
        raw = draw.normal(0, between, (3, 1)) + prompts + draw.normal(0, 0.4, (3, n))
        values = np.clip(np.round(raw), -1, 1).ravel()
        known = over_seeds(values.tolist(), seeds, clusters, ends=(-1.0, 1.0))
        assert known.low is not None
        assert known.high is not None
        held += known.low <= 0 <= known.high
    assert held >= 465


@pytest.mark.parametrize("shared", [0.0, 0.3, 1.0])
def test_the_interval_of_these_seeds_covers_their_own_mean(shared: float) -> None:
    """500 studies of the same three policies, whose true means over prompts are -.1, .0 and .3 of a skewed
    measure, on 40 prompts each, of which a share is the same: the mean of these three, .2 / 3, is inside."""
    draw = np.random.default_rng(round(100 * shared))
    held, n, same = 0, 40, round(40 * shared)
    seeds = np.repeat(np.arange(3), n).tolist()
    clusters = [i if i < same else (k, i) for k in range(3) for i in range(n)]
    for _ in range(500):
        prompts = draw.exponential(0.3, (3, n)) - 0.3
        prompts[:, :same] = prompts[0, :same]
        values = np.array([[-0.1], [0.0], [0.3]]) + prompts + draw.normal(0, 0.2, (3, n))
        known = of_these_seeds(values.ravel().tolist(), seeds, clusters)
        assert known.low is not None
        assert known.high is not None
        held += known.low <= 0.2 / 3 <= known.high
    assert 465 <= held <= 490


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("sizes", [(90, 88, 85), (120, 30, 30)])
def test_the_interval_of_these_seeds_covers_where_few_prompts_change(
    sizes: tuple[int, ...], share: float
) -> None:
    """3% of prompts change, by +.2 nine times of ten, so that a small seed often has none that does: of 500
    studies at least 465 hold the truth, .03 * .16."""
    draw = np.random.default_rng(round(10 * share) + sizes[0])
    held, same = 0, round(share * min(sizes))
    seeds = [k for k, n in enumerate(sizes) for _ in range(n)]
    clusters = [i if i < same else (k, i) for k, n in enumerate(sizes) for i in range(n)]
    for _ in range(500):
        shared = draw.random(same)
        chance = np.concatenate([np.append(shared, draw.random(n - same)) for n in sizes])
        changed = (chance + 0.3 * draw.random(len(seeds))) % 1 < 0.03
        values = changed * np.where(draw.random(len(seeds)) < 0.9, 0.2, -0.2)
        known = of_these_seeds(values.tolist(), seeds, clusters, ends=(-1.0, 1.0))
        assert known.low is not None
        assert known.high is not None
        held += known.low <= 0.03 * 0.16 <= known.high
    assert held >= 465


def test_these_seeds_alone_have_the_interval_of_their_prompts() -> None:
    """Seeds far apart: over their prompts the interval is that of prompts alone. One seed is one."""
    table = np.random.default_rng(3).normal(size=(2, 30)) + np.array([[0.0], [5.0]])
    known = of_these_seeds(*rows(table, shared=True))
    means = table.mean(0)
    squares = (means - means.mean()) ** 2
    df = min(29, 2 / ((squares**2).sum() / squares.sum() ** 2 - 1 / 30))
    low, high = stats.t.interval(0.95, df, means.mean(), stats.sem(means))
    assert (known.value, known.low, known.high) == pytest.approx((means.mean(), low, high))
    one = [0.0, 1.0, 0.5], [17] * 3, "abc"
    assert of_these_seeds(*one, ends=(0.0, 1.0)) == over_seeds(*one, ends=(0.0, 1.0))
    alike = [0.0] * 3 + [1.0] * 3, [1] * 3 + [2] * 3, "abcabc"
    assert of_these_seeds(*alike).low is None
    with pytest.raises(DataError, match="of_these_seeds"):
        of_these_seeds([1.0], [1, 2], ["a"])
