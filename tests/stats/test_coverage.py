"""Intervals hold the truth as often as they say, by the worlds of benchmarks.coverage. Few runs, one seed:
bounds are three standard errors of the simulation around what is promised (0.93 to 0.97, or above)."""

from __future__ import annotations

import numpy as np
import pytest

from accord.core.types import Metric
from accord.stats.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, percent_agreement
from accord.stats.elo import elo
from accord.stats.intervals import (
    cluster_mean,
    paired_difference,
    proportion,
    robust_mean,
    robust_slope,
)
from accord.stats.ranking import bradley_terry
from benchmarks.coverage import WORLDS, covered

RUNS = 200
LOWEST = 0.93 - 3 * (0.05 * 0.95 / RUNS) ** 0.5


def bounds(metric: Metric) -> tuple[float, float]:
    assert metric.low is not None
    assert metric.high is not None
    return metric.low, metric.high


# calibration has tests of its own, a correlation needs more values than three, models take long
MODELS = ("raters' ", "noise of a majority", "Dawid-Skene", "Elo", "learning curve")
APART = ("strength", "calibration", "correlation", "median", *MODELS)


@pytest.mark.parametrize("name", [n for n in WORLDS if not any(a in n for a in APART)])
@pytest.mark.parametrize("k", [3, 10, 40])
def test_intervals_hold_the_truth(name: str, k: int) -> None:
    share, n = covered(WORLDS[name], k, RUNS, seed=1)
    assert n > 50
    assert share > LOWEST


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in WORLDS if n.startswith(MODELS)])
@pytest.mark.parametrize("k", [10, 40])
def test_models_hold_the_truth(name: str, k: int) -> None:
    share, n = covered(WORLDS[name], k, 40, seed=1)
    assert n == 0 or share > 0.93 - 3 * (0.05 * 0.95 / 40) ** 0.5  # γ of few prompts is undefined


@pytest.mark.parametrize("k", [3, 5, 20])
def test_means_by_few_clusters_are_not_wide_either(k: int) -> None:
    share, _ = covered(WORLDS["mean by clusters of 4, ρ 0.5"], k, 400, seed=2)
    assert share < 0.97 + 3 * (0.05 * 0.95 / 400) ** 0.5


@pytest.mark.parametrize("name", [n for n in WORLDS if "correlation" in n])
@pytest.mark.parametrize("k", [5, 7, 10, 100])
def test_correlations_hold_the_truth_of_skewed_values_too(name: str, k: int) -> None:
    """Fisher's interval alone holds that of log-normal values 0.73 of the time at 100, 0.88 at 5."""
    share, n = covered(WORLDS[name], k, RUNS, seed=1)
    assert n == RUNS
    assert share > LOWEST


@pytest.mark.parametrize("name", [n for n in WORLDS if "strength" in n])
def test_strengths_hold_the_truth(name: str) -> None:
    share, n = covered(WORLDS[name], 8, 25, seed=1)
    assert n >= 50
    assert share > 0.88  # figures of one world hang together: 25 worlds say little more


def test_all_of_few_clusters_is_not_certain() -> None:
    """12 of 12 in 3 clusters: three clusters' worth of ones, and no more than 1."""
    low, high = bounds(cluster_mean([1.0] * 12, [0] * 4 + [1] * 4 + [2] * 4))
    assert high == 1.0
    assert 0.3 < low < 0.5
    assert bounds(robust_mean([0.0] * 12, [0] * 4 + [1] * 4 + [2] * 4)) == pytest.approx(
        (0, 1 - low)
    )


def test_units_that_all_say_one_third_are_not_certain() -> None:
    """Three raters of whom two agree on each of three units: three units' worth, and no point."""
    low, high = bounds(percent_agreement([[0, 0, 1], [1, 1, 2], [2, 2, 0]]))
    assert low < 0.1
    assert high > 0.7
    assert bounds(cluster_mean([0.5] * 4, [0, 1, 2, 3])) == pytest.approx(bounds(proportion(2, 4)))


@pytest.mark.parametrize(("k", "raters"), [(3, 3), (3, 5), (5, 3)])
def test_ordinal_alpha_of_few_units_is_held(k: int, raters: int) -> None:
    """Units that are alike by chance are not certain: 0.88 of three units, 0.90 of five."""
    draw, said = np.random.default_rng(3), []
    for n in [60_000, *[k] * 150]:
        truth = draw.choice(3, n, p=[0.5, 0.3, 0.2])[:, None]
        right = draw.random((n, raters)) < 0.7
        said.append(np.where(right, truth, draw.integers(0, 3, (n, raters))))
    true, *found = (krippendorff_alpha(x, scale="ordinal") for x in said)
    held = [m.low <= true.value <= m.high for m in found if m.low is not None]
    assert np.mean(held) > 0.95


def test_shares_are_bounded() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 3, 5, 30):
        own = np.repeat(np.arange(k), 3)
        for x in (rng.integers(0, 2, 3 * k).astype(float), rng.random(3 * k)):
            low, high = bounds(cluster_mean(x, own, share=True))
            assert 0 <= low <= x.mean() <= high <= 1


def test_no_coefficient_leaves_its_range_or_is_certain() -> None:
    agree = [[v, v, v] for v in (0, 1, 0, 1)]
    for found in (percent_agreement(agree), krippendorff_alpha(agree), fleiss_kappa(agree),
                  cohen_kappa([(0, 0), (1, 1), (0, 0)])):  # fmt: skip
        low, high = bounds(found)
        assert high == 1.0
        assert low < 0.8


def test_nothing_changed_on_few_prompts_may_still_be_a_change() -> None:
    low, high = bounds(paired_difference([1.0] * 8, [1.0] * 8))
    assert low < -0.1
    assert high > 0.1
    low, high = bounds(robust_slope([1.0] * 8, [0.0, 1.0] * 4, [0, 0, 1, 1, 2, 2, 3, 3]))
    assert low < -0.1 < 0.1 < high


@pytest.mark.parametrize("p", [0.02, 0.05, 0.1, 0.9, 0.95, 0.98])
def test_a_proportion_holds_exactly_near_its_ends(p: float) -> None:
    """By summing binomial probabilities: no simulation."""
    from scipy import stats

    for n in (3, 5, 8, 10, 12, 20, 50, 100):
        held = [
            k
            for k in range(n + 1)
            if bounds(proportion(k, n))[0] <= p <= bounds(proportion(k, n))[1]
        ]
        assert stats.binom.pmf(held, n, p).sum() > 0.93


@pytest.mark.parametrize("up", [0.5, 0.7, 0.9])
def test_paired_shares_hold_exactly_where_all_change(up: float) -> None:
    """Every prompt succeeds or fails instead of the other: no simulation."""
    from scipy import stats

    for n in (4, 8, 10, 12, 20, 50):
        held = [
            k
            for k in range(n + 1)
            for low, high in [
                bounds(paired_difference([1.0] * k + [0.0] * (n - k), [0.0] * k + [1.0] * (n - k)))
            ]
            if low <= 2 * up - 1 <= high
        ]
        assert stats.binom.pmf(held, n, up).sum() >= 0.929


@pytest.mark.parametrize("together", [0.0, 0.4, 1.0], ids=["apart", "some", "one"])
@pytest.mark.parametrize("rates", [(0.0, 0.05), (0.03, 0.18), (0.3, 0.3), (0.0, 0.9)])
def test_paired_shares_hold_where_pairs_hang_together(
    rates: tuple[float, float], together: float
) -> None:
    """Succeeds instead, fails instead, stays, by a Dirichlet draw of each cluster; clusters of 1 to 10. Of
    sixty simulations at 95% more than seven miss once in 100."""
    rng, base = np.random.default_rng(3), np.array([*rates, 1 - sum(rates)])
    for k in (6, 40):
        missed = 0
        for _ in range(60):
            own = np.repeat(np.arange(k), rng.geometric(0.4, k).clip(max=10))
            if together == 0:
                p_K3 = np.tile(base, (k, 1))
            elif together == 1:
                p_K3 = rng.multinomial(1, base, k).astype(float)
            else:
                g_K3 = rng.gamma(base * (1 - together) / together + 1e-9, size=(k, 3))
                p_K3 = g_K3 / g_K3.sum(1, keepdims=True)
            u, p = rng.random(len(own)), p_K3[own]
            up, down = u < p[:, 0], (u >= p[:, 0]) & (u < p[:, :2].sum(1))
            before = np.where(up | down, down, rng.random(len(own)) < 0.5).astype(float)
            after = before + up - down.astype(float)
            low, high = bounds(paired_difference(after, before, clusters=own.tolist()))
            missed += not low - 1e-9 <= rates[0] - rates[1] <= high + 1e-9
        assert missed <= 7


def test_pairs_that_do_not_hang_together_cost_nothing_for_their_clusters() -> None:
    rng = np.random.default_rng(5)
    before, own = rng.integers(0, 2, 200).astype(float), np.arange(200) // 2
    after = np.where(rng.random(200) < 0.1, 1 - before, before)
    widths = [
        high - low
        for clusters in (None, own.tolist())
        for low, high in [bounds(paired_difference(after, before, clusters=clusters, bounded=True))]
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_alpha_does_not_depend_on_which_response_is_first() -> None:
    """The same votes with some pairs turned: what hashes of other texts would do."""
    rng = np.random.default_rng(0)
    votes = rng.choice([0.0, 0.5, 1.0], (40, 3), p=[0.2, 0.2, 0.6])
    turned = np.where(rng.random(40)[:, None] < 0.5, 1 - votes, votes)
    assert krippendorff_alpha(votes).value != pytest.approx(krippendorff_alpha(turned).value)

    def one(x: np.ndarray) -> list[Metric]:
        m = {"mirror": lambda v: 1 - v}
        return [krippendorff_alpha(x, **m), krippendorff_alpha(x, scale="ordinal", **m), fleiss_kappa(x, **m),
                cohen_kappa(x[:, :2].tolist(), **m)]  # fmt: skip

    for a, b in zip(one(votes), one(turned), strict=True):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


def test_an_undefeated_items_interval_is_the_posteriors() -> None:
    """A beat B 9:0 and C 11:0, C beat B 15:5; bounds by a long Metropolis run under the prior, sd 3."""
    fit = bradley_terry([0] * 20 + [1] * 20, [1] * 9 + [2] * 31, [1] * 20 + [1] * 5 + [0] * 15,
                        items=3, ridge=1 / 9, clusters=range(40))  # fmt: skip
    found = [bounds(m) for m in fit.strengths()]
    wanted = [(1.62, 6.63), (-3.97, -1.19), (-2.8, -0.14)]
    for got, want in zip(found, wanted, strict=True):
        assert got == pytest.approx(want, abs=0.35)


def test_groups_that_never_met_are_placed_by_the_prior_alone() -> None:
    fit = bradley_terry([0] * 20 + [2] * 20, [1] * 20 + [3] * 20, ([1] * 16 + [0] * 4) * 2,
                        items=4, ridge=1 / 9)  # fmt: skip
    assert fit.joined_N.tolist() == [0, 0, 1, 1]
    assert bounds(fit.strengths()[0]) == pytest.approx((-2.3, 3.75), abs=0.35)
    within, across = (bounds(fit.difference(0, j)) for j in (1, 2))
    assert across[1] - across[0] > 2 * (within[1] - within[0])


def test_elo_of_a_winner_of_all_games_is_not_certain() -> None:
    first, second = elo([0] * 20, [1] * 20, [1.0] * 20, items=2)
    assert bounds(first)[1] - bounds(first)[0] > 5
    assert first.value == pytest.approx(2000 - (second.value or 0))
