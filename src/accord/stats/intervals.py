"""Values with intervals: no bare float leaves the system.

Rows that share a prompt are not independent, so intervals over pairs resample prompts (clusters).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from accord.core.errors import DataError
from accord.core.types import Metric

__all__ = [
    "cluster_mean",
    "correlation",
    "mean",
    "paired_difference",
    "proportion",
    "robust_mean",
    "robust_slope",
]

RESAMPLES = 10_000


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    """The values as an array; DataError when one is NaN or infinite, for then no figure means anything."""
    x = np.asarray(values, dtype=float)
    wrong = int((~np.isfinite(x)).sum())
    if wrong:
        raise DataError(
            f"{wrong} of {len(x)} measured values are not finite",
            mend="did the model diverge? lower the learning rate",
        )
    return x


def mean(values: Sequence[float], *, level: float = 0.95) -> Metric:
    """Mean with Student's t interval; undefined without values, no interval for one. DataError for
    values that are not finite."""
    x = _finite(values)
    if len(x) == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    centre = float(x.mean())
    if len(x) == 1:
        return Metric(value=centre, n=1, level=level, note="one value: no interval")
    half = float(stats.t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Metric(
        value=centre, low=centre - half, high=centre + half, n=len(x), level=level, method="t"
    )


def proportion(successes: float, n: int, *, level: float = 0.95) -> Metric:
    """Share of successes with Wilson's score interval (Wilson 1927)."""
    if n == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    z = float(stats.norm.ppf(0.5 + level / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Metric(
        value=share, low=min(low, share), high=max(high, share), n=n, level=level, method="wilson"
    )


def cluster_mean(
    values: Sequence[float], clusters: Sequence[Hashable], *, level: float = 0.95, seed: int = 0
) -> Metric:
    """Mean over rows with a percentile bootstrap that resamples whole clusters.

    n counts rows. Deterministic for a seed. One cluster has no interval. DataError for values that
    are not finite.
    """
    x = _finite(values)
    if len(x) == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    keys = {key: i for i, key in enumerate(dict.fromkeys(clusters))}
    index = np.array([keys[c] for c in clusters])
    sums = np.bincount(index, weights=x, minlength=len(keys))
    counts = np.bincount(index, weights=np.ones(len(x)), minlength=len(keys))
    if len(keys) == 1:
        return Metric(value=float(x.mean()), n=len(x), level=level, note="one prompt: no interval")
    low, high = _bootstrap(sums, counts, level, seed)
    return Metric(
        value=float(x.mean()),
        low=low,
        high=high,
        n=len(x),
        level=level,
        method=f"bootstrap over {len(keys)} prompts",
    )


def _bootstrap(
    sums: NDArray[Any], counts: NDArray[Any], level: float, seed: int
) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    k = len(sums)
    means = np.empty(RESAMPLES)
    block = max(1, 4_000_000 // k)
    for start in range(0, RESAMPLES, block):
        stop = min(start + block, RESAMPLES)
        drawn = generator.integers(0, k, (stop - start, k))
        means[start:stop] = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def paired_difference(
    after: Sequence[float], before: Sequence[float], *, level: float = 0.95
) -> Metric:
    """Mean of after - before on the same prompts, with Student's t interval of the differences."""
    if len(after) != len(before):
        raise ValueError(f"paired values differ in number: {len(after)} and {len(before)}")
    return mean([a - b for a, b in zip(after, before, strict=True)], level=level)


def correlation(x: Sequence[float], y: Sequence[float], *, level: float = 0.95) -> Metric:
    """Pearson's r with Fisher's z interval (Fisher 1921); undefined for a constant side."""
    n = len(x)
    a, b = _finite(x), _finite(y)
    if n < 4 or a.std() == 0 or b.std() == 0:
        note = "fewer than 4 values" if n < 4 else "one side is constant"
        return Metric(value=None, n=n, level=level, note=note)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    if abs(r) == 1.0:
        return Metric(value=r, low=r, high=r, n=n, level=level, method="fisher z")
    half = float(stats.norm.ppf(0.5 + level / 2)) / math.sqrt(n - 3)
    low, high = (math.tanh(math.atanh(r) + h) for h in (-half, half))
    return Metric(value=r, low=low, high=high, n=n, level=level, method="fisher z")


def robust_slope(y: ArrayLike, x: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Metric:
    """Least-squares slope of y on x with a t interval whose standard error allows for clusters (Liang &
    Zeger 1986; factor K/(K-1), K-1 degrees of freedom): no resampling, so it serves many rows. With x of 0
    and 1 it is the difference of two means. n counts rows. DataError for values that are not finite."""
    values, along = _finite(np.asarray(y)), _finite(np.asarray(x))
    if len(values) == 0 or np.ptp(along) == 0:
        note = "no data" if len(values) == 0 else "nothing to compare with"
        return Metric(value=None, n=len(values), level=level, note=note)
    centred = along - along.mean()
    total = float(centred @ centred)
    slope = float(centred @ values) / total
    scores = centred * (values - values.mean() - slope * centred) / total
    return _robust(slope, scores, clusters, level)


def robust_mean(values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95) -> Metric:
    """Mean with the same kind of interval as `robust_slope`."""
    x = _finite(np.asarray(values))
    if len(x) == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    centre = float(x.mean())
    return _robust(centre, (x - centre) / len(x), clusters, level)


def _robust(value: float, scores: NDArray[np.float64], clusters: ArrayLike, level: float) -> Metric:
    own = np.unique(np.asarray(clusters), return_inverse=True)[1]
    k, n = int(own.max()) + 1, len(scores)
    if k == 1:
        return Metric(value=value, n=n, level=level, note="one prompt: no interval")
    se = math.sqrt(float((np.bincount(own, scores) ** 2).sum()) * k / (k - 1))
    half = float(stats.t.ppf(0.5 + level / 2, k - 1)) * se
    method = f"robust over {k} prompts"
    return Metric(value=value, low=value - half, high=value + half, n=n, level=level, method=method)
