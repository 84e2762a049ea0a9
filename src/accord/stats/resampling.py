"""Coefficients 1 - D/E over units, with intervals by leaving out each unit once.

Units with equal rows can't be told apart, so K distinct rows and how many units have each (times_K) say
everything: one unit left out is one weight less. Where nearly all of very many rows differ, parts of them
are left out instead.

Legend: U units, K distinct rows, B weightings.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from accord.core.types import Metric

__all__ = ["Floats", "by_jackknife", "quantile"]

Floats = NDArray[np.float64]
BLOCK = 500_000  # weights held at once: what fits a cache
PARTS = 500  # that rows are left out in where there are more of them


def quantile(level: float, df: float = math.inf) -> float:
    """How many standard errors an interval of t reaches to either side; the normal's by default."""
    return float(special.stdtrit(df, 0.5 + level / 2))


def by_jackknife(
    times_K: NDArray[np.int64],
    parts: Callable[[Floats], tuple[Floats, Floats]],
    *,
    most: float,
    level: float,
    undefined: str,
) -> Metric:
    """1 - D/E, `parts` giving (D, E) of weights [B, K], with the interval of D as a share of `most` whose
    variance is that of D/E. Where it is not a number, `undefined` says why."""
    from accord.stats.intervals import binomial_interval

    u = int(times_K.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        (seen,), (expected,) = parts(times_K[None, :].astype(float))
        value = 1 - float(seen / expected)
        if not np.isfinite(value):
            return Metric(value=None, n=u, level=level, note=undefined)
        if u == 1:
            return Metric(value=value, n=1, level=level, note="judged twice only once: no interval")
        se, df = _standard_error(times_K, parts)
    share, width = min(float(seen) / most, 1.0), float(expected) / most
    trials, inside = float(u), share * (1 - share)
    if se > 0 and inside > 0:
        wide = quantile(level) / quantile(level, df)
        # that few units are alike may be chance: without the bound three of three raters held 0.88
        trials = min(max(inside * (wide / (se * width)) ** 2, 1e-3), u * u / 3)
    low, high = binomial_interval(share, trials, level)
    return Metric(
        value=value, low=min(1 - high / width, value), high=max(1 - low / width, value), n=u,
        level=level, method=f"jackknife over {u} units",
    )  # fmt: skip


def _standard_error(
    times_K: NDArray[np.int64], parts: Callable[[Floats], tuple[Floats, Floats]]
) -> tuple[float, float]:
    """Of D/E, and its degrees of freedom: U - 1, or fewer where few units make the error."""
    k, _u = len(times_K), int(times_K.sum())
    many = k > PARTS
    part_K = np.random.default_rng(0).permutation(k) % PARTS if many else np.arange(k)
    count = PARTS if many else k
    how_often = np.ones(count) if many else times_K.astype(float)
    ratio = np.empty(count)
    block = max(1, BLOCK // k)
    for start in range(0, count, block):
        at = np.arange(start, min(start + block, count))
        weights_BK = np.repeat(times_K[None, :].astype(float), len(at), 0)
        left_out = part_K[None, :] == at[:, None]
        weights_BK = np.where(left_out, 0.0, weights_BK) if many else weights_BK - left_out
        seen_B, expected_B = parts(weights_BK)
        ratio[at] = seen_B / expected_B
    known = np.isfinite(ratio)
    n = float(how_often.sum())
    if how_often[known].sum() < 2:
        return 0.0, math.inf
    away = np.where(known, ratio - np.average(ratio[known], weights=how_often[known]), 0.0)
    squares = float(how_often @ away**2)
    if squares <= 0:
        return 0.0, math.inf
    spread = float(how_often @ away**4) / squares**2 - 1 / n
    return math.sqrt((n - 1) / n * squares), max(1.0, min(n - 1, 2 / max(spread, 1e-9)))
