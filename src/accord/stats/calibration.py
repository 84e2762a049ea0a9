"""Calibration: do predicted probabilities come true as often as they say?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from accord.core.types import Frozen, Metric
from accord.stats.intervals import proportion

__all__ = ["Bin", "calibration_error", "reliability"]

RESAMPLES = 2000


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
    their size (Naeini et al. 2015); 0 is perfect. Percentile bootstrap over clusters. It is biased
    upward at small n, and so is the interval: compare models at the same n."""
    if len(predicted) == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    p, y = np.asarray(predicted, float), np.asarray(happened, float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    keys = {key: i for i, key in enumerate(dict.fromkeys(clusters))}
    index = np.array([keys[c] for c in clusters])
    gaps_KB = np.zeros((len(keys), bins))
    np.add.at(gaps_KB, (index, place), p - y)
    sizes_K = np.bincount(index, minlength=len(keys))
    value = float(np.abs(gaps_KB.sum(0)).sum() / len(p))
    if len(keys) == 1:
        return Metric(value=value, n=len(p), level=level, note="one cluster: no interval")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(keys), (RESAMPLES, len(keys)))
    errors = np.abs(gaps_KB[drawn].sum(1)).sum(1) / sizes_K[drawn].sum(1)
    low, high = np.quantile(errors, [0.5 - level / 2, 0.5 + level / 2])
    return Metric(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=len(p),
        level=level,
        method=f"bootstrap over {len(keys)} clusters",
    )
