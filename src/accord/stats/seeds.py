"""A mean over training seeds: the seeds are clusters, and prompts that several answered tie them together.

value       mean of the seeds' own means
interval    t of the seeds' means (seeds - 1 degrees of freedom), and beside it the covariance that two of
    them have because they answered the same prompts, by t of the shared prompts; the two half-widths are
    added in squares, as Newcombe (1998) adds those of a difference. Seeds that share no prompt have the first
    part alone, which is exact for normal means; tests/stats/test_seeds.py simulates both and mixtures.
    Few seeds agree by chance as often as not: it is never narrower than that of these very seeds over other
    prompts, which covers what it says of them and can only widen it.
`of_these_seeds` has that one alone.

Legend: S seeds, C clusters of prompts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.intervals import binomial_interval, cluster_mean
from accord.stats.resampling import Floats, quantile

__all__ = ["of_these_seeds", "over_seeds"]

ALIKE = "all rows are alike"
ONE, ONE_ALIKE = (
    f"of one seed, {how}: how far another would end is not in it"
    for how in ("robust over prompts", ALIKE)
)


def over_seeds(
    values: Sequence[float],
    seeds: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    ends: tuple[float, float] = (-math.inf, math.inf),
    level: float = 0.95,
) -> Metric:
    """Mean of a value of each (seed, prompt), n rows in all; `clusters` are prompts, or what several of them
    belong to, and mean the same in every seed. `ends`: what no mean lies beyond. One seed has the interval
    over its prompts, and says so. DataError for values that are not finite, or columns of other lengths."""
    _check(values, seeds, clusters, "over_seeds")
    several = len(set(seeds)) > 1
    if len(set(values)) == 1 and len(set(zip(seeds, clusters, strict=True))) > 1:
        method = ALIKE if several else ONE_ALIKE
        return _alike(float(values[0]), len(values), len(set(clusters)), ends, level, method)
    if not several:
        one = cluster_mean(values, clusters, level=level, share=False)
        return _within(one.model_copy(update={"method": ONE} if one.low is not None else {}), ends)
    means_S, sums_SC, counts_S = _tables(np.asarray(values, float), seeds, clusters)
    s, centre = len(means_S), float(means_S.mean())
    apart = quantile(level, s - 1) ** 2 * float(means_S.var(ddof=1)) / s
    shared, df = _shared(sums_SC, counts_S)
    half = math.sqrt(apart + (quantile(level, df) ** 2 * shared if shared > 0 else 0.0))
    method = f"t over {s} seeds, with what they share of prompts"
    if (least := _of_these(sums_SC, counts_S, level)) > half:
        half, method = least, f"robust over prompts, of these {s} seeds, which agree"
    return _within(_around(centre, half, len(values), level, method), ends)


def of_these_seeds(
    values: Sequence[float],
    seeds: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    ends: tuple[float, float] = (-math.inf, math.inf),
    level: float = 0.95,
) -> Metric:
    """The same mean, with the interval of these very seeds over other prompts alone (robust, t over the
    clusters): what is shown of the policies that were trained, not of what another seed would train."""
    _check(values, seeds, clusters, "of_these_seeds")
    if len(set(values)) == 1 or len(set(seeds)) == 1:
        return over_seeds(values, seeds, clusters, ends=ends, level=level)
    means_S, sums_SC, counts_S = _tables(np.asarray(values, float), seeds, clusters)
    centre, half = float(means_S.mean()), _of_these(sums_SC, counts_S, level)
    if half == 0:
        note = "all rows of a seed are alike: no interval"
        return Metric(value=centre, n=len(values), level=level, note=note)
    method = f"robust over prompts, of these {len(means_S)} seeds"
    return _within(_around(centre, half, len(values), level, method), ends)


def _check(
    values: Sequence[float], seeds: Sequence[Hashable], clusters: Sequence[Hashable], where: str
) -> None:
    if not len(values) == len(seeds) == len(clusters):
        what = f"{len(values)} values, {len(seeds)} seeds, {len(clusters)} clusters"
        raise DataError(what, where=where, allowed="one of each a row")
    if not np.isfinite(values).all():
        raise DataError("some values are not finite", where=where)


def _alike(
    value: float, n: int, trials: int, ends: tuple[float, float], level: float, method: str
) -> Metric:
    """Rows that all say the same: between ends the interval of a binomial share of as many trials as there
    are clusters, which stays wide; without ends none."""
    low, high = ends
    if not (math.isfinite(high - low) and high > low):
        return Metric(value=value, n=n, level=level, note=f"{ALIKE}: no interval")
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    sides = (low + (high - low) * x for x in binomial_interval(share, trials, level))
    return Metric(value=value, low=next(sides), high=next(sides), n=n, level=level, method=method)


def _tables(
    values: Floats, seeds: Sequence[Hashable], clusters: Sequence[Hashable]
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Means [S], sums [S, C] of what is above them (NaN where a seed has no row of the cluster), rows [S]."""
    seed_at, cluster_at = (
        {k: at for at, k in enumerate(dict.fromkeys(column))} for column in (seeds, clusters)
    )
    own = np.array([seed_at[x] for x in seeds])
    group = np.array([cluster_at[x] for x in clusters])
    counts_S = np.bincount(own)
    means_S = np.bincount(own, values) / counts_S
    sums_SC = np.full((len(seed_at), len(cluster_at)), np.nan)
    sums_SC[own, group] = 0.0
    np.add.at(sums_SC, (own, group), values - means_S[own])
    return means_S, sums_SC, counts_S


def _shared(sums_SC: Floats, counts_S: NDArray[np.int64]) -> tuple[float, float]:
    """Mean covariance of two seeds' means, at least 0, and its degrees of freedom."""
    covariances, shared = [], []
    for a, b in itertools.combinations(range(len(sums_SC)), 2):
        products = sums_SC[a] * sums_SC[b]
        there = int(np.isfinite(products).sum())
        whole = int(min(np.isfinite(sums_SC[a]).sum(), np.isfinite(sums_SC[b]).sum()))
        total = float(np.nansum(products)) / float(counts_S[a] * counts_S[b])
        covariances.append(total * whole / (whole - 1) if whole > 1 else 0.0)
        shared.append(there)
    return max(0.0, sum(covariances) / len(covariances)), max(1.0, sum(shared) / len(shared) - 1)


def _of_these(sums_SC: Floats, counts_S: NDArray[np.int64], level: float) -> float:
    """Half the interval of the mean of these seeds: robust over prompts, t. Where few prompts make the error,
    its degrees of freedom are those of its own kurtosis, as in `intervals`; a seed whose rows are all alike
    has missed what the others' rows do, and is taken to vary as they."""
    squares_C = np.nansum(sums_SC / counts_S[:, None], axis=0) ** 2
    c, total = len(squares_C), float(squares_C.sum())
    if c < 2 or total <= 0:
        return 0.0
    squares_S = np.nansum(sums_SC**2, axis=1)
    a_row = float(squares_S.sum()) / int(counts_S.sum())
    missed = float((a_row / counts_S[squares_S < 1e-18]).sum())
    spread = float((squares_C**2).sum()) / total**2 - 1 / c
    df = max(1.0, min(c - 1, 2 / max(spread, 1e-9)))
    return quantile(level, df) * math.sqrt(total * c / (c - 1) + missed) / len(counts_S)


def _around(centre: float, half: float, n: int, level: float, method: str) -> Metric:
    low, high = centre - half, centre + half
    return Metric(value=centre, low=low, high=high, n=n, level=level, method=method)


def _within(metric: Metric, ends: tuple[float, float]) -> Metric:
    if metric.low is None or metric.high is None:
        return metric
    return metric.model_copy(
        update={"low": max(ends[0], metric.low), "high": min(ends[1], metric.high)}
    )
