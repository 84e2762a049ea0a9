"""The interval of the calibration error holds the true one, where a model is calibrated too."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binom, norm

from accord.core.types import Metric
from accord.stats import calibration
from accord.stats.calibration import calibration_error

BINS, RUNS = 8, 60


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "RESAMPLES", 500)


def world(n: int, rows: int, confident: float, draw: np.random.Generator) -> tuple[np.ndarray, ...]:
    """n prompts of `rows` rows that hang together; log odds are `confident` times what they should be."""
    own = np.repeat(np.arange(n), rows)
    p = expit(1.5 * draw.standard_normal(len(own)))
    luck = 0.5 * draw.standard_normal(n)[own] + 0.75**0.5 * draw.standard_normal(len(own))
    chance = norm.cdf(luck) if rows > 1 else draw.random(len(own))
    return p, (chance < expit(logit(p) / confident)).astype(float), own


def error_of(confident: float) -> float:
    p = expit(1.5 * np.random.default_rng(0).standard_normal(400_000))
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(place, p - expit(logit(p) / confident))).sum() / len(p))


def measured(n: int, rows: int, confident: float, run: int) -> Metric:
    p, y, own = world(n, rows, confident, np.random.default_rng([n, run]))
    return calibration_error(p.tolist(), y.tolist(), own.tolist(), bins=BINS)


@pytest.mark.parametrize("confident", [1.0, 2.0])
@pytest.mark.parametrize(("n", "rows"), [(60, 1), (12, 5)])
def test_the_interval_holds_the_true_error(n: int, rows: int, confident: float) -> None:
    truth = error_of(confident)
    found = [measured(n, rows, confident, run) for run in range(RUNS)]
    held = sum((m.low or 0.0) - 1e-9 <= truth <= (m.high or 0.0) for m in found)
    assert held >= RUNS * 0.86  # 0.95 less three standard errors
    assert all(0 <= (m.low or 0.0) <= (m.value or 0.0) <= (m.high or 0.0) <= 1 for m in found)


def test_of_a_calibrated_model_it_holds_0_though_the_estimate_is_far_from_it() -> None:
    found = [measured(40, 1, 1.0, run) for run in range(20)]
    assert np.mean([m.value for m in found]) > 0.08  # mean |noise|: the estimate's own bias
    assert sum(m.low == 0 for m in found) >= 16


def test_a_model_far_off_is_told() -> None:
    p = np.full(400, 0.95)
    y = np.random.default_rng(0).random(400) < 0.5
    m = calibration_error(p.tolist(), y.astype(float).tolist(), range(400))
    assert m.low is not None
    assert m.high is not None
    assert 0.38 < m.low < 0.45 < m.high < 0.56


@pytest.mark.parametrize(("n", "rows"), [(60, 1), (20, 4)])
def test_one_that_is_always_certain_has_an_interval_too(n: int, rows: int) -> None:
    """Says 1 and is right in .7: the error is .3, and its estimate as sure as a share of so many is."""
    held = 0
    for run in range(RUNS):
        draw = np.random.default_rng([n, run])
        right = (draw.beta(1.4, 0.6, n) if rows > 1 else np.full(n, 0.7)).repeat(rows)
        y = (draw.random(n * rows) < right).astype(float)
        m = calibration_error([1.0] * (n * rows), y.tolist(), np.arange(n).repeat(rows).tolist())
        assert m.low is not None
        assert m.high is not None
        assert m.high - m.low > 0.05
        held += m.low <= 0.3 <= m.high
    assert held >= RUNS * 0.86


@pytest.mark.parametrize(("n", "p"), [(1, 0.3), (9, 0.02), (30, 1.0), (400, 0.5), (200_000, 0.01)])
def test_samples_are_a_binomials(n: int, p: float) -> None:
    u = np.random.default_rng(0).random(300)
    assert calibration._binomial(u, n, p) == pytest.approx(binom.ppf(u, n, p))
