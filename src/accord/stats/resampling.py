"""The bootstrap over units as weights: a resample is how often each unit was drawn.

Units with equal rows can't be told apart, so K distinct rows and how many units have each (times_K)
say everything: a resample's multiplicities are Multinomial(U, times / U), which is the law of U units
drawn with replacement, not an approximation of it. Where nearly all rows differ, drawing units and
counting them is the quicker way to the same law.

Legend: U units, K distinct rows, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from accord.core.types import Metric

__all__ = ["Floats", "bootstrap_metric", "resamples"]

Floats = NDArray[np.float64]
BLOCK = 500_000  # weights held at once: what fits a cache
BINOMIAL_COST = 8  # one binomial draw costs about as much as drawing and counting this many units


def resamples(times_K: NDArray[np.int64], n: int, seed: int) -> Iterator[Floats]:
    """`n` resamples in blocks: weights [b, K], each row of sum U."""
    generator = np.random.default_rng(seed)
    k, u = len(times_K), int(times_K.sum())
    block = max(1, min(n, BLOCK // k))
    owner_U = np.repeat(np.arange(k), times_K)
    for start in range(0, n, block):
        b = min(block, n - start)
        if k * BINOMIAL_COST < u:
            yield generator.multinomial(u, times_K / u, size=b).astype(float)
            continue
        weights_BK = np.empty((b, k))
        for row in weights_BK:
            drawn = generator.integers(0, u, u, dtype=np.int32)
            row[:] = np.bincount(drawn if k == u else owner_U[drawn], minlength=k)
        yield weights_BK


def bootstrap_metric(
    times_K: NDArray[np.int64],
    statistic: Callable[[Floats], Floats],
    *,
    n_resamples: int,
    level: float,
    seed: int,
    undefined: str,
    unit: str = "units",
) -> Metric:
    """`statistic` (weights [B, K] -> values [B]) of all units, with a percentile interval over resampled
    units. Where it is not a number, `undefined` says why; resamples where it is none are left out and
    counted in `method`."""
    u = int(times_K.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(times_K[None, :].astype(float))[0])
        if not np.isfinite(value):
            return Metric(value=None, n=u, level=level, note=undefined)
        if u == 1:
            return Metric(value=value, n=1, level=level, note="judged twice only once: no interval")
        drawn = np.concatenate([statistic(w) for w in resamples(times_K, n_resamples, seed)])
    kept = drawn[np.isfinite(drawn)]
    if not len(kept):
        return Metric(value=value, n=u, level=level, note="no interval: no resample has a value")
    low, high = np.quantile(kept, [0.5 - level / 2, 0.5 + level / 2])
    lost = len(drawn) - len(kept)
    return Metric(
        value=value,
        low=float(low),
        high=float(high),
        n=u,
        level=level,
        method=f"bootstrap over {u} {unit}" + (f", {lost} undefined left out" if lost else ""),
    )
