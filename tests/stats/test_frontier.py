"""The front of two axes: by hand, against Beta posteriors, and calibrated where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from accord.stats.frontier import AxisScores, dominators, frontier
from accord.stats.resampling import Floats


def axis(
    rows: list[list[float]], better: str = "more", clusters: list[int] | None = None
) -> AxisScores:
    values = np.array(rows, dtype=float)
    return AxisScores(values, clusters or list(range(values.shape[1])), better)  # type: ignore[arg-type]


def shares(yes: list[int], n: int, better: str = "more") -> AxisScores:
    return axis([[1.0] * y + [0.0] * (n - y) for y in yes], better)


def test_who_dominates_whom_by_hand() -> None:
    """(3, 1), (2, 2), (2, 1), (1, 1), (3, 1): the third by three, the fourth by all, twins not each other."""
    a, b = np.array([3.0, 2, 2, 1, 3]), np.array([1.0, 2, 1, 1, 1])
    assert dominators(a, b) == [[], [], [0, 1, 4], [0, 1, 2, 4], []]


def test_the_rule_by_hand() -> None:
    """At most 10% harm: of 5%, 10% and 40% the second helps more; of equal help less harm; none within 1%."""
    harm, helpful = shares([5, 10, 40], 100, "less"), shares([50, 60, 90], 100)
    assert frontier((harm, helpful), 0.1).pick == 1
    assert frontier((harm, helpful), 0.5).pick == 2
    assert frontier((harm, helpful), 0.01).pick is None
    assert frontier((harm, helpful)).pick == 2
    assert frontier((harm, shares([60, 60, 90], 100)), 0.1).pick == 0


@pytest.mark.parametrize(("yes", "n", "limit"), [(0, 40, 0.02), (2, 60, 0.05), (30, 60, 0.45)])
def test_a_share_s_draws_are_its_jeffreys_posterior(yes: int, n: int, limit: float) -> None:
    """P(within the limit) of independent trials: Beta(y + 1/2, n - y + 1/2), none of n included."""
    result = frontier((shares([yes], n, "less"), shares([n], n)), limit, draws=20_000)
    exact = stats.beta.cdf(limit, yes + 0.5, n - yes + 0.5)
    assert result.within[0] == pytest.approx(exact, abs=0.012)
    assert result.on_front == [1.0]


def test_pairing_and_clusters_count() -> None:
    """A policy better on 6 of 40 prompts and worse on none surely dominates, where the same shares of
    unpaired prompts would not; prompts that repeat their cluster say no more than one."""
    base, more = [1.0] * 20 + [0.0] * 20, [1.0] * 26 + [0.0] * 14
    flat = axis([[1.0] * 40, [1.0] * 40], "less")
    paired = frontier((flat, axis([base, more])))
    turned = frontier((flat, axis([base, more[::-1]])))
    assert paired.picked[1] > 0.97 > 0.92 > turned.picked[1]
    repeated = [c for c in range(40) for _ in range(5)]
    often = axis([[v for v in row for _ in range(5)] for row in (base, more)], clusters=repeated)
    wide = axis([[1.0] * 200] * 2, "less", repeated)
    assert frontier((wide, often)).picked[1] == pytest.approx(paired.picked[1], abs=0.02)


def simulated(rng: np.random.Generator, truth_P2: Floats, k: int) -> tuple[AxisScores, AxisScores]:
    """Yes and no of every policy on k clusters of two prompts an axis; how hard a cluster is holds for all
    policies and both axes."""
    hard_K = rng.normal(0, 0.8, k)
    sides = []
    for side, better in ((0, "less"), (1, "more")):
        logit_P = np.log(truth_P2[:, side] / (1 - truth_P2[:, side]))
        own_N = np.repeat(np.arange(k), 2)
        shift = hard_K[own_N] * (1 if better == "less" else -1)
        p_PN = 1 / (1 + np.exp(-(logit_P[:, None] + shift[None])))
        values = (rng.random(p_PN.shape) < p_PN).astype(float)
        sides.append(AxisScores(values, own_N.tolist(), better))  # type: ignore[arg-type]
    return sides[0], sides[1]


def marginal(logit: Floats) -> Floats:
    """The mean over clusters of a policy's rate."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    return np.asarray(
        (weights / weights.sum()) @ (1 / (1 + np.exp(-(logit[None] + 0.8 * nodes[:, None]))))
    )


def test_the_probability_of_being_on_the_front_is_calibrated() -> None:
    """Of policies said to be on the front with about p, a share of about p is (truths drawn wide)."""
    rng, stated, true = np.random.default_rng(5), [], []
    for _ in range(200):
        truth = rng.uniform(0.05, 0.6, (5, 2)) * [1, 1.4]
        result = frontier(simulated(rng, truth, 40), draws=200)
        means = [marginal(np.log(t / (1 - t))) for t in truth.T]
        on = [not d for d in dominators(-means[0], means[1])]
        stated += result.on_front
        true += on
    p, y = np.array(stated), np.array(true, dtype=float)
    assert abs(p.mean() - y.mean()) < 0.03
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):
        part = (p >= low) & (p <= low + 0.2)
        share, expected = y[part].mean(), p[part].mean()
        sd = (expected * (1 - expected) / part.sum()) ** 0.5
        assert abs(share - expected) < 3 * sd + 0.03, (low, share, expected, int(part.sum()))
