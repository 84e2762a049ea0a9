"""Calibration: do predicted probabilities come true as often as they say?"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from accord.core.types import Frozen, Metric
from accord.stats.intervals import proportion
from accord.stats.resampling import Floats, quantile

__all__ = ["Bin", "calibration_error", "reliability"]

RESAMPLES = 2000
MOST, STEPS = 12.0, 12  # standard errors that gaps may be off by, and halvings of them
TIE = 1e-9
Ints = NDArray[np.int64]


class Bin(Frozen):
    """Predictions between `low` and `high`: their mean, and how often the event happened."""

    low: float
    high: float
    predicted: float
    observed: Metric


def reliability(
    predicted: Sequence[float], happened: Sequence[float], *, bins: int = 8
) -> list[Bin]:
    """Reliability diagram with equally wide bins over [0, 1]; empty bins are left out."""
    p, y = np.asarray(predicted, float), np.asarray(happened, float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return [
        Bin(
            low=b / bins,
            high=(b + 1) / bins,
            predicted=float(p[place == b].mean()),
            observed=proportion(float(y[place == b].sum()), int((place == b).sum())),
        )
        for b in range(bins)
        if (place == b).any()
    ]


def calibration_error(
    predicted: Sequence[float],
    happened: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    bins: int = 8,
    level: float = 0.95,
    seed: int = 0,
) -> Metric:
    """Expected calibration error: mean |predicted - observed| over equally wide bins, weighted by
    their size (Naeini et al. 2015); 0 is perfect. It is biased upward at small n, and a bootstrap of it is
    twice so: the interval is that of errors whose own estimates would come out like this one (a test inverted
    along gaps that are all shrunk or widened by as many standard errors), clusters allowed for. It holds 0
    unless chance alone would hardly give as much."""
    if len(predicted) == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    p, y = np.asarray(predicted, float), np.asarray(happened, float)
    place = np.unique(np.minimum((p * bins).astype(int), bins - 1), return_inverse=True)[1]
    own = np.unique([str(c) for c in clusters], return_inverse=True)[1]
    n, k, n_B = len(p), int(own.max()) + 1, np.bincount(place)
    gap_B = np.bincount(place, p - y) / n
    value = float(np.abs(gap_B).sum())
    if k == 1:
        return Metric(value=value, n=n, level=level, note="one cluster: no interval")
    predicted_B = np.bincount(place, p) / n_B
    seen_B = (np.bincount(place, y) + 1) / (n_B + 2)
    # of a bin the larger variance: one that is certain (p = 1) has none of its own, and errs all the same
    variance_B = np.maximum(np.bincount(place, p * (1 - p)), n_B * seen_B * (1 - seen_B))
    wide = _wider(p - y, float(variance_B.sum()), place, own, level)
    se_B = wide * np.sqrt(variance_B) / n
    drawn_RB = np.random.default_rng(seed).random((RESAMPLES, len(n_B)))

    def shrunk(by: float) -> Floats:
        return np.asarray(np.sign(gap_B) * np.maximum(np.abs(gap_B) - by * se_B, 0.0))

    def as_large(by: float) -> float:
        """Share of samples whose estimate is as large as this one, were the gaps so; ties by half."""
        true_B = np.clip(predicted_B - shrunk(by) * n / n_B, 0.0, 1.0)
        drawn = [_binomial(u_R, *at) for u_R, *at in zip(drawn_RB.T, n_B, true_B, strict=True)]
        noise_RB = (np.column_stack(drawn) - n_B * true_B) / n
        gap_R = np.abs(predicted_B * n_B / n - true_B * n_B / n - wide * noise_RB).sum(1)
        return float((gap_R > value + TIE).mean() + (gap_R > value - TIE).mean()) / 2

    low, high = (_inverted(as_large, goal) for goal in (0.5 - level / 2, 0.5 + level / 2))
    return Metric(
        value=value,
        low=min(float(np.abs(shrunk(low)).sum()), value),
        high=max(min(float(np.abs(shrunk(high)).sum()), 1.0), value),
        n=n,
        level=level,
        method=f"inverted test over {k} clusters",
    )


def _binomial(u_R: Floats, n: int, p: float) -> Floats:
    """Quantiles of a binomial, from a table of what lies within ten standard deviations."""
    if not 0 < p < 1:
        return np.full(len(u_R), n * p)
    reach = 10 * (n * p * (1 - p)) ** 0.5 + 20
    x = np.arange(max(0, int(n * p - reach)), min(n, int(n * p + reach)) + 1)
    log = special.xlogy(x, p) + special.xlog1py(n - x, -p) - special.betaln(x + 1, n - x + 1)
    below = np.cumsum(np.exp(log - log.max()))
    return np.asarray(x[np.searchsorted(below / below[-1], u_R)], dtype=float)


def _inverted(as_large: Callable[[float], float], goal: float) -> float:
    """By how many standard errors gaps are shrunk where `goal` of the samples come out as large."""
    low, high = -MOST, MOST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if as_large(middle) > goal else (low, middle)
    return high


def _wider(miss_R: Floats, variance: float, place: Ints, own: Ints, level: float) -> float:
    """How much wider than independent yes and no chance is: by the design effect of clusters, and by t for
    how few there are. 1 where every row is its own cluster of a yes or a no."""
    n, k = len(miss_R), int(own.max()) + 1
    if k == n:
        return 1.0
    left_R = miss_R - (np.bincount(place, miss_R) / np.bincount(place))[place]
    within = float((np.bincount(own, left_R) ** 2).sum()) * k / (k - 1)
    effect = max(within / max(variance, 1e-12), 1.0)
    return float(np.sqrt(effect)) * quantile(level, k - 1) / quantile(level)
