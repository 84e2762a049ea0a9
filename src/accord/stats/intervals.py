"""Values with intervals: no bare float leaves the system.

Rows that share a prompt are not independent, so intervals over pairs allow for prompts (clusters): t
intervals with CR2 standard errors (stats.clustered). Shares keep within [0, 1] by the interval of a binomial
with as many trials as the rows are worth (Korn & Graubard 1998). `python -m benchmarks.coverage` says how
often each interval holds the truth.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.clustered import standard_error
from accord.stats.resampling import Floats, quantile

__all__ = [
    "binomial_interval",
    "cluster_mean",
    "correlation",
    "mean",
    "paired_difference",
    "proportion",
    "robust_mean",
    "robust_slope",
]

JACKKNIFED = 8  # values from which on leaving each out says how far a correlation may be off


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
    half = quantile(level, len(x) - 1) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Metric(
        value=centre, low=centre - half, high=centre + half, n=len(x), level=level, method="t"
    )


def proportion(successes: float, n: int, *, level: float = 0.95) -> Metric:
    """Share of successes of independent trials, with what Wilson's score interval (1927) and the mid-P
    interval (Lancaster 1961) hold together: near 0 and 1 Wilson's alone covers as little as 0.83."""
    if n == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    share = successes / n
    low, high = binomial_interval(share, n, level)
    return Metric(value=share, low=low, high=high, n=n, level=level, method="wilson, mid-P")


def binomial_interval(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's and the mid-P interval together, for n trials that need be no whole number."""
    z = quantile(level)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = min(share, max(0.0, middle - half), _mid_p(share * n, n, level))
    high = max(share, min(1.0, middle + half), 1 - _mid_p((1 - share) * n, n, level))
    return low, high


def _mid_p(x: float, n: float, level: float) -> float:
    """The share at which x or more of n successes, x itself by half, have probability (1 - level)/2."""
    if x <= 0:
        return 0.0

    def above(p: float) -> float:
        more = special.betainc(x + 1, n - x, p) if n - x > 1e-9 else 0.0
        return float(special.betainc(x, max(n - x, 0.0) + 1, p) + more - (1 - level))

    return float(optimize.brentq(above, 0.0, 1.0, xtol=1e-9))


def cluster_mean(
    values: ArrayLike,
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    share: bool | None = None,
    seed: int = 0,
) -> Metric:
    """Mean over rows with an interval that allows for clusters: t with a CR2 standard error and
    Satterthwaite's degrees of freedom. Of a share (`share`; by default where every value is 0, 1/2 or 1) the
    interval is a binomial's whose trials are what the rows are worth, at most twice their number; where all
    rows say the same, the clusters'. Clusters of a single yes or no each are plain trials.

    n counts rows. One cluster has no interval. Nothing is drawn: `seed` is taken for what calls it by name.
    DataError for values that are not finite.
    """
    x, own = _finite(values), _numbers(clusters)
    if len(x) == 0:
        return Metric(value=None, n=0, level=level, note="no data")
    k, n, centre = int(own.max()) + 1, len(x), float(x.mean())
    binary = bool(np.isin(x, (0.0, 0.5, 1.0)).all())
    share = binary if share is None else share
    if share and k == n and bool(np.isin(x, (0.0, 1.0)).all()):
        return proportion(float(x.sum()), n, level=level)
    if k == 1:
        return Metric(value=centre, n=n, level=level, note="one prompt: no interval")
    se, df = standard_error(np.full((n, 1), n**-0.5), np.array([n**-0.5]), x - centre, own)
    method = f"robust over {k} prompts"
    half = quantile(level, df) * se if se > 0 else 0.0
    low, high = centre - half, centre + half
    if share:
        variance = centre * (1 - centre)
        trials = _worth(x, own, se, df, level, variance, 2.0 * n if binary else None)
        ends = binomial_interval(centre, trials, level)
        # a binomial's ends lean to 1/2, which values of any size between 0 and 1 need not
        low, high = ends if binary else (max(0.0, min(low, ends[0])), min(1.0, max(high, ends[1])))
        method = f"share, {method}"
    return Metric(value=centre, low=low, high=high, n=n, level=level, method=method)


def _worth(
    x: Floats,
    own: NDArray[np.int64],
    se: float,
    df: float,
    level: float,
    variance: float,
    most: float | None,
) -> float:
    """How many independent trials, each of this variance, the rows are worth, fewer where the standard error
    has few degrees of freedom (Korn & Graubard 1998, section 2), at most `most`: a smaller error is chance.
    Where yes or no is rare few clusters make the error: its degrees of freedom are then those of its own
    kurtosis. Kish's number of equal clusters where all rows say the same. Values of any size have no `most`
    of their own: few that are nearly alike may only have missed those that are far off."""
    squares_K = np.bincount(own, x - float(x.mean())) ** 2
    k, level_by_chance = len(squares_K), squares_K.sum() < 1e-18
    if variance <= 0 or (level_by_chance and (most is None or np.ptp(x) == 0)):
        return len(x) ** 2 / float((np.bincount(own) ** 2).sum())
    most = k * k / 2 * max(1.0, k / 10) if most is None else most
    if level_by_chance:
        return most
    spread = float((squares_K**2).sum() / squares_K.sum() ** 2 - 1 / k)
    df = min(df, 2 / max(spread, 1e-9))
    wide = quantile(level) / quantile(level, df)
    return float(min(most, max(variance * (wide / se) ** 2, 1e-3)))


def _numbers(clusters: Sequence[Hashable] | ArrayLike) -> NDArray[np.int64]:
    keys: dict[Hashable, int] = {}
    listed: Any = clusters.tolist() if isinstance(clusters, np.ndarray) else clusters
    return np.array([keys.setdefault(c, len(keys)) for c in listed], dtype=np.int64)


def robust_mean(
    values: ArrayLike, clusters: ArrayLike, *, level: float = 0.95, share: bool | None = None
) -> Metric:
    """`cluster_mean` of columns."""
    return cluster_mean(values, np.asarray(clusters), level=level, share=share)  # type: ignore[arg-type]


def paired_difference(
    after: Sequence[float],
    before: Sequence[float],
    *,
    level: float = 0.95,
    bounded: bool = False,
    span: float = 1.0,
    clusters: Sequence[Hashable] | None = None,
) -> Metric:
    """Mean of after - before on the same prompts, with Student's t interval of the differences; of yes and no
    with that of Bonett & Price (2012), by t, wide where few or none changed. `bounded`: all values lie
    in one interval as wide as `span`; then (1 + difference/span) / 2 is a share, whose interval stays wide
    likewise. `clusters`: of each pair, where several hang together; of yes and no they are then as many pairs
    as they are worth, at most their number."""
    if len(after) != len(before):
        raise ValueError(f"paired values differ in number: {len(after)} and {len(before)}")
    apart = _finite(after) - _finite(before)
    n = len(apart)
    own = range(n) if clusters is None else clusters
    k = len(set(own))
    if k > 1 and np.isin([*after, *before], (0.0, 1.0)).all():
        return _paired_shares(apart, _numbers(own), level)
    if not bounded:
        if k == n:
            return mean(apart.tolist(), level=level)
        return cluster_mean(apart, own, level=level, share=False)
    scaled = cluster_mean((1 + apart / span) / 2, own, level=level, share=True)
    ends = {
        k: span * (2 * v - 1)
        for k in ("value", "low", "high")
        if (v := getattr(scaled, k)) is not None
    }
    return scaled.model_copy(update={**ends, "method": "paired, bounded"})


def _paired_shares(apart: Floats, own: NDArray[np.int64], level: float) -> Metric:
    """Bonett & Price's interval of differences that are -1, 0 or 1, by t, of as many pairs as these are
    worth. (1 + difference) / 2 taken for a share has an interval up to twice as wide where few changed."""
    n, k, value = len(apart), int(own.max()) + 1, float(apart.mean())
    ups, downs = (float((apart == way).mean()) for way in (1, -1))
    pairs = float(n)
    if k < n:
        se, df = standard_error(np.full((n, 1), n**-0.5), np.array([n**-0.5]), apart - value, own)
        pairs = _worth(apart, own, se, df, level, ups + downs - (ups - downs) ** 2, float(n))
    up, down = ((share * pairs + 1) / (pairs + 2) for share in (ups, downs))
    half = quantile(level, n - 1) * math.sqrt((up + down - (up - down) ** 2) / (pairs + 2))
    low, high = max(-1.0, up - down - half), min(1.0, up - down + half)
    return Metric(
        value=value, low=min(low, value), high=max(high, value), n=n, level=level,
        method="paired shares" + f", robust over {k} prompts" * (k < n),
    )  # fmt: skip


def correlation(x: Sequence[float], y: Sequence[float], *, level: float = 0.95) -> Metric:
    """Pearson's r with Fisher's z interval (Fisher 1921), which is for normal values and holds skewed ones'
    as seldom as 0.73: from 8 values on it is no narrower than the jackknife's, with degrees of freedom by its
    own kurtosis; with fewer, which can't show their tail, it is by t with n - 3: wide for normal values.
    Undefined for a constant side."""
    n = len(x)
    a, b = _finite(x), _finite(y)
    if n < 4 or a.std() == 0 or b.std() == 0:
        note = "fewer than 4 values" if n < 4 else "one side is constant"
        return Metric(value=None, n=n, level=level, note=note)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    if abs(r) == 1.0:
        return Metric(value=r, low=r, high=r, n=n, level=level, method="fisher z")
    half = quantile(level, n - 3 if n < JACKKNIFED else math.inf) / math.sqrt(n - 3)
    if n >= JACKKNIFED:
        half = max(half, _jackknifed(a, b, math.atanh(r), level))
    low, high = (math.tanh(math.atanh(r) + h) for h in (-half, half))
    return Metric(value=r, low=low, high=high, n=n, level=level, method="fisher z")


def _jackknifed(x: Floats, y: Floats, z: float, level: float) -> float:
    """Half of the interval of Fisher's z by leaving out each value once."""
    n, x, y = len(x), (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    sx, sy, sxx, syy, sxy = (s.sum() - s for s in (x, y, x * x, y * y, x * y))
    with np.errstate(divide="ignore", invalid="ignore"):
        variances = (sxx - sx**2 / (n - 1)) * (syy - sy**2 / (n - 1))
        z_N = np.arctanh((sxy - sx * sy / (n - 1)) / np.sqrt(variances))
    z_N = np.where(np.isfinite(z_N), z_N, z)  # the rest is on a line, or one side constant
    squares_N = (z_N - z_N.mean()) ** 2
    total = float(squares_N.sum())
    if total < 1e-18:
        return 0.0
    spread = float((squares_N**2).sum()) / total**2 - 1 / n
    df = min(max(2 / max(spread, 1e-9), 1.0), n - 1.0)
    return quantile(level, df) * math.sqrt((n - 1) / n * total)


def robust_slope(
    y: ArrayLike,
    x: ArrayLike,
    clusters: ArrayLike,
    *,
    level: float = 0.95,
    share: bool | None = None,
) -> Metric:
    """Least-squares slope of y on x with the same kind of t interval as `cluster_mean`. With x of 0 and 1 it
    is the difference of two means. Of shares (`share`; by default where every y is 0, 1/2 or 1) the interval
    is that of the rows with four more, a yes and a no at either end of x, each a cluster of its own (Agresti
    & Caffo 2000): where few or none differ it stays wide. n counts rows. DataError for values that are not
    finite."""
    values, along, own = _finite(y), _finite(x), _numbers(np.asarray(clusters))
    n = len(values)
    if n == 0 or np.ptp(along) == 0:
        note = "no data" if n == 0 else "nothing to compare with"
        return Metric(value=None, n=n, level=level, note=note)
    k = int(own.max()) + 1
    slope, se, df = _slope(values, along, own)
    if k < 3:
        return Metric(value=slope, n=n, level=level, note="fewer than 3 prompts: no interval")
    centre, wide = slope, se
    if bool(np.isin(values, (0.0, 0.5, 1.0)).all()) if share is None else share:
        ends = along.mean() + along.std() * np.array([-1.0, -1.0, 1.0, 1.0])
        more = np.append(values, [0.0, 1.0, 0.0, 1.0]), np.append(along, ends)
        centre, wide, _ = _slope(*more, np.append(own, np.arange(k, k + 4)))
        apart = along - along.mean()
        most = float(apart[apart > 0].sum() / (apart @ apart))  # no shares at these x rise faster
    else:
        most = math.inf
    half = quantile(level, df if np.isfinite(df) else k - 1) * wide
    low, high = min(max(centre - half, -most), slope), max(min(centre + half, most), slope)
    method = f"robust over {k} prompts"
    return Metric(value=slope, low=low, high=high, n=n, level=level, method=method)


def _slope(y: Floats, x: Floats, own: NDArray[np.int64]) -> tuple[float, float, float]:
    centred = x - x.mean()
    total = float(centred @ centred)
    slope = float(centred @ y) / total
    design = np.column_stack([np.full(len(y), len(y) ** -0.5), centred / math.sqrt(total)])
    left = y - y.mean() - slope * centred
    return slope, *standard_error(design, np.array([0.0, total**-0.5]), left, own)
