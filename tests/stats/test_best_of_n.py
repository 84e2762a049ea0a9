"""Best-of-n against enumeration and the closed form of its KL."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from accord.stats.best_of_n import best_of_n_kl, expected_best

PROXY = [0.3, -1.0, 2.0, 0.5, 0.1, 1.7]
GOLD = [0.1, 0.4, -0.2, 0.9, 0.0, 0.3]


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_expected_best_is_the_mean_over_all_draws(n: int) -> None:
    draws = list(itertools.combinations(range(6), n))
    best = [max(draw, key=PROXY.__getitem__) for draw in draws]
    assert expected_best(PROXY, n) == pytest.approx(np.mean([PROXY[i] for i in best]))
    assert expected_best(PROXY, n, GOLD) == pytest.approx(np.mean([GOLD[i] for i in best]))


def test_ties_share_their_weight_whatever_the_order() -> None:
    assert expected_best([1, 1, 0], 2, [4.0, 8.0, 0.0]) == pytest.approx(6.0)
    assert expected_best([1, 1, 0], 2, [8.0, 4.0, 0.0]) == pytest.approx(6.0)


def test_many_samples_do_not_overflow() -> None:
    scores = np.random.default_rng(0).uniform(size=5000)
    assert expected_best(scores, 64) == pytest.approx(64 / 65, abs=0.01)


def test_the_kl_is_that_of_the_density_of_a_maximum() -> None:
    u = (np.arange(200_000) + 0.5) / 200_000  # quantile of the score under the policy
    for n in (1, 2, 8, 64):
        log_density = math.log(n) + (n - 1) * np.log(u)
        mean = np.mean(np.exp(log_density) * log_density)
        assert best_of_n_kl(n) == pytest.approx(mean, abs=1e-4)
    assert best_of_n_kl(1) == 0.0
    assert best_of_n_kl(2) == pytest.approx(math.log(2) - 0.5)


@pytest.mark.parametrize(("n", "values"), [(0, None), (7, None), (2, [1.0]), (2, [math.nan] * 6)])
def test_what_can_not_be_is_refused(n: int, values: list[float] | None) -> None:
    with pytest.raises(ValueError, match=r"samples|finite"):
        expected_best(PROXY, n, values)
