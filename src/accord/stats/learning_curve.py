"""Learning curves: accuracy against the number of comparisons, and what more of them would buy.

    accuracy(n) = c - a·n^-b,   c at most the noise ceiling, a >= 0, b in [0.1, 1.5]

The power law of generalisation error (Hestness et al. 2017, section 3; Mukherjee et al. 2003 for error curves
with an asymptote). Points are shares of held-out comparisons, so each weighs by its binomial variance; the
interval refits the curve to accuracies drawn from the fitted binomials.

Legend: P points, B draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accord.core.errors import DataError
from accord.core.types import Metric

__all__ = ["Curve", "Point", "fit_curve", "power_law"]

RATES = np.geomspace(0.1, 1.5, 40)
DRAWS = 400
LEAST_SIZES = 4
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """Accuracy on `of` held-out comparisons after learning from n."""

    n: int
    accuracy: float
    of: int


def power_law(n: Array, c: float, a: float, b: float) -> Array:
    """c - a·n^-b."""
    return np.asarray(c - a * np.power(n, -b), dtype=float)


@dataclass(frozen=True)
class Curve:
    """The fit (c, a, b) and its draws [B, 3]; `largest` is the most comparisons that were tried."""

    c: float
    a: float
    b: float
    draws: Array
    points: tuple[Point, ...]
    level: float

    @property
    def largest(self) -> int:
        return max(p.n for p in self.points)

    def at(self, n: float) -> Metric:
        """Expected accuracy after n comparisons."""
        drawn_B = self._drawn(n)
        value = float(power_law(np.array([float(n)]), self.c, self.a, self.b)[0])
        return self._metric(value, drawn_B)

    def buys(self, more: float, start: float | None = None) -> Metric:
        """What `more` comparisons on top of `start` (the most tried) add to the accuracy."""
        begin = float(start or self.largest)
        drawn_B = self._drawn(begin + more) - self._drawn(begin)
        both = power_law(np.array([begin, begin + more]), self.c, self.a, self.b)
        return self._metric(float(both[1] - both[0]), drawn_B)

    def _drawn(self, n: float) -> Array:
        c_B, a_B, b_B = self.draws.T
        return np.asarray(c_B - a_B * float(n) ** -b_B, dtype=float)

    def _metric(self, value: float, drawn_B: Array) -> Metric:
        ends = [0.5 - self.level / 2, 0.5 + self.level / 2]
        low, high = np.quantile(drawn_B, ends, method="weibull")
        return Metric(
            value=value,
            low=min(float(low), value),
            high=max(float(high), value),
            n=len(self.points),
            level=self.level,
            method=f"power law, {len(self.draws)} refits",
        )


def fit_curve(
    points: Sequence[Point], *, ceiling: float = 1.0, level: float = 0.95, seed: int = 0
) -> Curve:
    """The curve through points of at least four sizes; `ceiling` bounds c (what label noise leaves).

    DataError with fewer sizes, or for a point that is no share.
    """
    for p in points:
        if p.n < 1 or p.of < 1 or not 0.0 <= p.accuracy <= 1.0:
            raise DataError(
                f"n={p.n}, accuracy={p.accuracy}, of={p.of}", where="a point of the curve",
                mend="n and of are counts, accuracy a share",
            )  # fmt: skip
    sizes = len({p.n for p in points})
    if sizes < LEAST_SIZES:
        raise DataError(
            f"{sizes} sizes say nothing about a curve", mend=f"measure at least {LEAST_SIZES}"
        )
    n_P = np.array([p.n for p in points], dtype=float)
    of_P = np.array([p.of for p in points], dtype=float)
    shares_P = np.array([p.accuracy for p in points], dtype=float)
    best = _fit(n_P, shares_P[None], of_P, ceiling)[0]
    fitted_P = np.clip(power_law(n_P, *best), 0.0, 1.0)
    # points may scatter more than held-out sampling alone (training seeds, which data): draw so
    scatter = float(np.mean((shares_P - fitted_P) ** 2 / _variance(fitted_P, of_P)))
    spread = max(1.0, scatter * len(n_P) / max(1, len(n_P) - 3))
    generator = np.random.default_rng(seed)
    noise_BP = generator.standard_normal((DRAWS, len(n_P)))
    drawn_BP = fitted_P + noise_BP * np.sqrt(spread * _variance(fitted_P, of_P))
    draws = _fit(n_P, np.clip(drawn_BP, 0.0, 1.0), of_P, ceiling)
    c, a, b = (float(x) for x in best)
    return Curve(c, a, b, draws, tuple(points), level)


def _variance(share_P: Array, of_P: Array) -> Array:
    """Binomial variance of a share, never 0."""
    inside = np.clip(share_P, 0.02, 0.98)
    return np.asarray(inside * (1 - inside) / of_P, dtype=float)


def _fit(n_P: Array, shares_BP: Array, of_P: Array, ceiling: float) -> Array:
    """(c, a, b) [B, 3] by weighted least squares: c and a in closed form for each rate b of a grid, c
    held at the ceiling where it would pass it and a at 0 where it would fall below."""
    weight_BP = 1.0 / _variance(shares_BP, of_P)
    fit_B3 = np.full((len(shares_BP), 3), np.nan)
    least_B = np.full(len(shares_BP), np.inf)
    total_B = weight_BP.sum(1)
    for b in RATES:
        x_P = n_P**-b
        mean_x, mean_y = weight_BP @ x_P / total_B, (weight_BP * shares_BP).sum(1) / total_B
        centred = x_P - mean_x[:, None]
        covariance = (weight_BP * centred * (shares_BP - mean_y[:, None])).sum(1)
        a_B = np.maximum(-covariance / (weight_BP * centred**2).sum(1), 0.0)
        c_B = mean_y + a_B * mean_x
        over = c_B > ceiling  # c is then the ceiling, and a the slope through it
        through = (weight_BP * x_P * (ceiling - shares_BP)).sum(1) / (weight_BP @ x_P**2)
        a_B = np.where(over, np.maximum(through, 0.0), a_B)
        c_B = np.where(over, ceiling, c_B)
        left = shares_BP - (c_B[:, None] - a_B[:, None] * x_P)
        loss_B = (weight_BP * left**2).sum(1)
        better = loss_B < least_B
        least_B = np.where(better, loss_B, least_B)
        fit_B3[better] = np.stack([c_B, a_B, np.full_like(a_B, b)], 1)[better]
    return fit_B3
