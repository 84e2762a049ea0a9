"""Power: against simulation with the very interval that is shown, published formulas, and cases by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.core.errors import ConfigError
from accord.stats.intervals import mean, paired_difference
from accord.stats.power import changed, mean_power, prompts_needed, seen_from, share_power


@pytest.mark.parametrize(
    ("share", "difference", "correlation", "n"),
    [(0.5, 0.2, 0.0, 60), (0.2, -0.1, 0.5, 90), (0.9, 0.08, 0.2, 40)],
)
def test_what_is_promised_is_what_the_interval_shows(
    share: float, difference: float, correlation: float, n: int
) -> None:
    """1,500 worlds, each with paired outcomes of these shares and this correlation."""
    up, down = changed(share, difference, correlation)
    draw, worlds = np.random.default_rng(n), 1500
    counts = draw.multinomial(n, [up, down, 1 - up - down], size=worlds)
    seen, known = 0, {}
    for x, y, _ in counts.tolist():
        if (x, y) not in known:
            after, before = [1.0] * x + [0.0] * (n - x), [0.0] * x + [1.0] * y + [0.0] * (n - x - y)
            metric = paired_difference(after, before)
            assert metric.low is not None
            assert metric.high is not None
            known[x, y] = metric.low > 0 if difference > 0 else metric.high < 0
        seen += known[x, y]
    power = share_power(n, up, down)
    assert seen / worlds == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / worlds))


def test_outcomes_have_the_shares_and_the_correlation() -> None:
    up, down = changed(0.3, 0.1, 0.4)
    both = 0.3 - down
    spread = math.sqrt(0.3 * 0.7 * 0.4 * 0.6)
    assert up - down == pytest.approx(0.1)
    assert (both - 0.3 * 0.4) / spread == pytest.approx(0.4)
    assert changed(0.0, 0.1) == pytest.approx((0.1, 0.0))
    with pytest.raises(ConfigError, match=r"can't correlate by 0.9; allowed: at most 0\.8"):
        changed(0.3, 0.1, 0.9)
    with pytest.raises(ConfigError, match="no two shares"):
        changed(0.95, 0.1)


def test_near_connor_s_formula_and_never_far_below() -> None:
    """Connor (1987) for McNemar's test; the interval that is shown is a little wider."""
    for share, d, r in ((0.5, 0.1, 0.0), (0.2, 0.05, 0.5), (0.7, -0.1, 0.3)):
        up, down = changed(share, d, r)
        rate = up + down
        connor = ((1.95996 * math.sqrt(rate) + 0.84162 * math.sqrt(rate - d * d)) / d) ** 2
        n = prompts_needed(lambda n, u=up, w=down: share_power(n, u, w), 0.8)  # type: ignore[misc]
        assert 0.99 < n / connor < 1.08
        assert all(share_power(m, up, down) >= 0.8 for m in range(n, n + n // 20))
        assert share_power(n - 1, up, down) < 0.8


def test_of_values_it_is_the_t_test_s() -> None:
    assert (
        prompts_needed(lambda n: mean_power(n, 0.5, 1.0), 0.8) == 34
    )  # Cohen (1988): d = 0.5, paired
    assert prompts_needed(lambda n: mean_power(n, -0.2, 1.0), 0.9) == 265
    draw, n, worlds = np.random.default_rng(0), 20, 1000
    lows = [mean(draw.normal(0.6, 1.0, n).tolist()).low or 0.0 for _ in range(worlds)]
    power = mean_power(n, 0.6, 1.0)
    assert np.mean(np.array(lows) > 0) == pytest.approx(power, abs=4 * math.sqrt(0.25 / worlds))


def test_no_difference_is_seen_as_seldom_as_the_level_says() -> None:
    assert share_power(200, 0.1, 0.1) == pytest.approx(0.025, abs=0.008)
    assert share_power(10, 0.0, 0.0) == 0.0
    with pytest.raises(ConfigError, match="more than 100,000 prompts"):
        prompts_needed(lambda n: share_power(n, 0.1, 0.1), 0.8)


def test_the_smallest_difference_seen_is_the_one_that_needs_them_all() -> None:
    def power(d: float) -> float:
        return mean_power(265, d, 1.0)

    assert seen_from(power, 10.0, 0.9) == pytest.approx(0.2, abs=1e-3)
    assert seen_from(power, 0.01, 0.9) is None
