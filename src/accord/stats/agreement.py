"""Agreement among raters on nominal answers: percent agreement and Krippendorff's α.

Intervals resample units (what was judged), since the answers on one unit hang together.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from accord.core.types import Metric

__all__ = ["krippendorff_alpha", "percent_agreement"]

RESAMPLES = 2000
Units = Sequence[Sequence[Hashable]]


def _counts(units: Units) -> NDArray[np.float64]:
    """Answers by unit [U] and value [V], units with fewer than two answers left out."""
    kept = [u for u in units if len(u) > 1]
    values = {v: i for i, v in enumerate(dict.fromkeys(v for u in kept for v in u))}
    counts_UV = np.zeros((len(kept), len(values)))
    for row, unit in zip(counts_UV, kept, strict=True):
        for value in unit:
            row[values[value]] += 1
    return counts_UV


def percent_agreement(units: Units, *, level: float = 0.95, seed: int = 0) -> Metric:
    """Share of pairs of answers to the same unit that agree; each unit weighs the same."""
    counts_UV = _counts(units)
    n_U = counts_UV.sum(1)
    agree_U = (counts_UV * (counts_UV - 1)).sum(1) / np.maximum(n_U * (n_U - 1), 1)
    return _with_interval(agree_U[:, None], lambda mean: mean[..., 0], level, seed)


def krippendorff_alpha(units: Units, *, level: float = 0.95, seed: int = 0) -> Metric:
    """Nominal α = 1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability"). Undefined when every answer is the same: nothing could have disagreed."""
    counts_UV = _counts(units)
    n_U = counts_UV.sum(1)
    unlike_U = (n_U**2 - (counts_UV**2).sum(1)) / np.maximum(n_U - 1, 1)
    rows = np.column_stack([unlike_U, n_U, counts_UV])

    def alpha(mean: NDArray[np.float64]) -> NDArray[np.float64]:
        u = len(rows)
        observed, n, values = mean[..., 0] * u, mean[..., 1] * u, mean[..., 2:] * u
        expected = (n**2 - (values**2).sum(-1)) / (n - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(1 - observed / expected, dtype=float)

    return _with_interval(rows, alpha, level, seed, undefined="all answers are the same")


def _with_interval(
    rows: NDArray[np.float64], statistic: object, level: float, seed: int, undefined: str = ""
) -> Metric:
    """A statistic of the mean row, with a percentile bootstrap over rows; `undefined` is why it may
    not be a number."""
    assert callable(statistic)
    u = len(rows)
    if u == 0:
        return Metric(value=None, n=0, level=level, note="nothing was judged twice")
    value = float(statistic(rows.mean(0)))
    if math.isnan(value):
        return Metric(value=None, n=u, level=level, note=undefined)
    if u == 1:
        return Metric(value=value, n=1, level=level, note="judged twice only once: no interval")
    generator = np.random.default_rng(seed)
    drawn = np.array(
        [float(statistic(rows[generator.integers(0, u, u)].mean(0))) for _ in range(RESAMPLES)]
    )
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Metric(value=value, n=u, level=level, note="no interval")
    low, high = np.quantile(drawn, [0.5 - level / 2, 0.5 + level / 2])
    return Metric(
        value=value,
        low=float(low),
        high=float(high),
        n=u,
        level=level,
        method=f"bootstrap over {u} units",
    )
