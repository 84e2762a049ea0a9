"""Learning curves: a curve without noise is found again, and intervals hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.core.errors import DataError
from accord.stats.learning_curve import RATES, Point, fit_curve, power_law

SIZES = (50, 100, 200, 400, 800)


def points(c: float, a: float, b: float, of: int = 400) -> list[Point]:
    shares = power_law(np.array(SIZES, dtype=float), c, a, b)
    return [Point(n, float(s), of) for n, s in zip(SIZES, shares, strict=True)]


@pytest.mark.parametrize("rate", [RATES[12], RATES[20], RATES[30]])
def test_a_curve_without_noise_is_found(rate: float) -> None:
    curve = fit_curve(points(0.85, 0.9, float(rate)))
    assert curve.c == pytest.approx(0.85, abs=1e-6)
    assert curve.a == pytest.approx(0.9, rel=1e-5)
    assert curve.b == pytest.approx(rate)
    expected = 0.9 * (800**-rate - 1600**-rate)
    assert curve.buys(800).value == pytest.approx(expected, rel=1e-4)
    assert curve.at(1600).value == pytest.approx(0.85 - 0.9 * 1600**-rate, rel=1e-6)


def test_the_ceiling_bounds_the_asymptote() -> None:
    found = fit_curve(points(0.95, 0.9, 0.4), ceiling=0.8)
    assert found.c == pytest.approx(0.8)
    assert (found.draws[:, 0] <= 0.8 + 1e-12).all()


def test_a_flat_curve_buys_nothing() -> None:
    curve = fit_curve([Point(n, 0.7, 5000) for n in SIZES])
    assert curve.a == 0.0
    assert curve.buys(1000).value == pytest.approx(0.0, abs=1e-9)
    assert curve.buys(1000).high < 0.03


@given(st.floats(0.6, 0.95), st.floats(0.2, 1.0), st.floats(0.2, 1.0), st.integers(50, 5000))
def test_more_never_buys_less(c: float, a: float, b: float, more: int) -> None:
    curve = fit_curve(points(c, min(a, 0.9 * c), b))
    less, twice = curve.buys(more), curve.buys(2 * more)
    assert 0.0 <= less.value <= twice.value
    assert less.low >= -1e-12


def test_the_interval_at_twice_the_data_holds_the_truth() -> None:
    draw = np.random.default_rng(7)
    inside = 0
    for number in range(100):
        c, a, b = 0.7 + 0.2 * draw.random(), 0.5 + 0.5 * draw.random(), 0.25 + 0.5 * draw.random()
        truth = power_law(np.array([*SIZES, 1600.0]), c, a, b)
        seen = [
            Point(n, draw.binomial(600, t) / 600, 600)
            for n, t in zip(SIZES, truth[:-1], strict=True)
        ]
        found = fit_curve(seen, seed=number).at(1600)
        inside += found.low <= truth[-1] <= found.high
    assert inside >= 90


def test_too_few_sizes_and_wrong_points_are_refused() -> None:
    with pytest.raises(DataError, match="3 sizes"):
        fit_curve([Point(n, 0.7, 100) for n in (10, 20, 40)])
    with pytest.raises(DataError, match=r"accuracy=1\.2"):
        fit_curve([Point(n, 1.2, 100) for n in SIZES])
