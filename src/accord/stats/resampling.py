"""Coefficients 1 - D/E over units, with intervals by leaving out each unit once.

Units with equal rows can't be told apart, so K distinct rows and how many units have each (times_K) say
everything: one unit left out is one weight less. Where nearly all of very many rows differ, parts of them
are left out instead. Units that hang together (pairs of one prompt) are left out together.

Legend: U units, K distinct rows, C clusters of units, P what is left out at a time, B weightings.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

from accord.core.types import Metric

__all__ = ["Floats", "by_jackknife", "quantile"]

Floats = NDArray[np.float64]
BLOCK = 500_000  # weights held at once: what fits a cache
PARTS = 500  # that rows or clusters are left out in where there are more of them


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
    clusters: sparse.csr_array | None = None,
) -> Metric:
    """1 - D/E, `parts` giving (D, E) of weights [B, K], with the interval of D as a share of `most` whose
    variance is that of D/E. Where it is not a number, `undefined` says why. `clusters` [C, K] says how many
    units of each row are of each prompt: prompts are left out then."""
    from accord.stats.intervals import binomial_interval

    u = int(times_K.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        (seen,), (expected,) = parts(times_K[None, :].astype(float))
        value = 1 - float(seen / expected)
        if not np.isfinite(value):
            return Metric(value=None, n=u, level=level, note=undefined)
        left_PK, often_P = _left_out(times_K, clusters)
        n = u if clusters is None else clusters.shape[0]
        if n == 1:
            alone = "judged twice only once" if u == 1 else "one prompt"
            return Metric(value=value, n=u, level=level, note=f"{alone}: no interval")
        se, df = _standard_error(times_K, parts, left_PK, often_P)
    share, width = min(float(seen) / most, 1.0), float(expected) / most
    trials, inside = float(n), share * (1 - share)
    if se > 0 and inside > 0:
        wide = quantile(level) / quantile(level, df)
        # that few units are alike may be chance: without the bound three of three raters held 0.88
        trials = min(max(inside * (wide / (se * width)) ** 2, 1e-3), n * n / 3)
    low, high = binomial_interval(share, trials, level)
    return Metric(
        value=value, low=min(1 - high / width, value), high=max(1 - low / width, value), n=u,
        level=level, method=f"jackknife over {n} {'units' if clusters is None else 'prompts'}",
    )  # fmt: skip


def _left_out(
    times_K: NDArray[np.int64], clusters: sparse.csr_array | None
) -> tuple[sparse.csr_array, Floats]:
    """What is left out at a time [P, K], and how often that is done [P]."""
    k = len(times_K)
    if clusters is None and k <= PARTS:
        return sparse.eye_array(k, format="csr"), times_K.astype(float)
    of_CK = sparse.diags_array(times_K.astype(float)).tocsr() if clusters is None else clusters
    c = of_CK.shape[0]
    if c > PARTS:
        part_C = np.random.default_rng(0).permutation(c) % PARTS
        of_CK = (
            sparse.coo_array((np.ones(c), (part_C, np.arange(c))), shape=(PARTS, c)).tocsr() @ of_CK
        )
    return of_CK, np.ones(of_CK.shape[0])


def _standard_error(
    times_K: NDArray[np.int64],
    parts: Callable[[Floats], tuple[Floats, Floats]],
    left_PK: sparse.csr_array,
    often_P: Floats,
) -> tuple[float, float]:
    """Of D/E, and its degrees of freedom: one less than is left out, or fewer where few of these make the
    error."""
    count, k = left_PK.shape
    ratio = np.empty(count)
    block = max(1, BLOCK // k)
    for start in range(0, count, block):
        stop = min(start + block, count)
        seen_B, expected_B = parts(times_K[None, :] - left_PK[start:stop].toarray())
        ratio[start:stop] = seen_B / expected_B
    known = np.isfinite(ratio)
    n = float(often_P.sum())
    if often_P[known].sum() < 2:
        return 0.0, math.inf
    away = np.where(known, ratio - np.average(ratio[known], weights=often_P[known]), 0.0)
    squares = float(often_P @ away**2)
    if squares <= 0:
        return 0.0, math.inf
    spread = float(often_P @ away**4) / squares**2 - 1 / n
    return math.sqrt((n - 1) / n * squares), max(1.0, min(n - 1, 2 / max(spread, 1e-9)))
