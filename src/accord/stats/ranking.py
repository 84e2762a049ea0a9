"""Bradley-Terry: strengths of items from who beat whom, with ties, covariates (style) and a ridge prior.

A comparison of items i and j has η = θ_i - θ_j + β·x, θ and β in logits, x the first item's covariates minus
the second's. θ is known up to a constant among items that are compared: values are relative to the mean of
their component. The maximum is found by Newton's method on the sums over equal comparisons (Bradley & Terry
1952; Hunter 2004 for when it exists; ties in stats.outcomes); the inverse of its curvature gives the
intervals, a sandwich where comparisons come in clusters (White 1982).

Legend: N items, C comparisons, R distinct rows, F covariates, Q = F + 1 other parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats
from scipy.sparse import csgraph

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.newton import Problem, maximise
from accord.stats.outcomes import Ties, tie_range
from accord.stats.resampling import Floats
from accord.stats.spread import covariances

__all__ = ["Strengths", "bradley_terry"]

Ints = NDArray[np.int64]
SEPARATED = 15.0  # logits per standard deviation of a covariate: no maximum, or none that matters


@dataclass(frozen=True)
class Strengths:
    """The fit. `component_N` numbers the sets within which strengths can be compared; an item whose strength
    is not defined has component -1 and NaN. `covariance_NN` is None when there are many items."""

    theta_N: Floats
    se_N: Floats
    component_N: Ints
    compared_N: Floats  # comparisons each item was in, by weight
    why_N: dict[int, str]  # for items without a strength
    beta_F: Floats
    beta_se_F: Floats
    tie: Metric
    covariance_NN: Floats | None
    log_likelihood: float
    level: float
    method: str
    notes: tuple[str, ...] = field(default=())

    def strengths(self) -> list[Metric]:
        """Strength of each item, logits above the mean of its component."""
        return [self._metric(i) for i in range(len(self.theta_N))]

    def _metric(self, i: int) -> Metric:
        n = round(float(self.compared_N[i]))
        if i in self.why_N:
            return Metric(value=None, n=n, level=self.level, note=self.why_N[i])
        return normal(self.theta_N[i], self.se_N[i], n, self.level, self.method)

    def difference(self, i: int, j: int) -> Metric:
        """θ_i - θ_j, the logit of how often i beats j."""
        n = round(float(min(self.compared_N[i], self.compared_N[j])))
        if i in self.why_N or j in self.why_N:
            why = self.why_N.get(i) or self.why_N[j]
            return Metric(value=None, n=n, level=self.level, note=why)
        if self.component_N[i] != self.component_N[j]:
            note = "no chain of comparisons joins the two"
            return Metric(value=None, n=n, level=self.level, note=note)
        value = self.theta_N[i] - self.theta_N[j]
        if self.covariance_NN is None:
            note = "too many items for an interval of a difference"
            return Metric(value=float(value), n=n, level=self.level, note=note)
        c = self.covariance_NN
        spread = c[i, i] + c[j, j] - 2 * c[i, j]
        se = np.sqrt(max(0.0, spread)) if np.isfinite(spread) else np.inf
        return normal(value, se, n, self.level, self.method)

    def covariates(self) -> list[Metric]:
        """β, logits per unit of each covariate."""
        n = round(float(self.compared_N.sum() / 2))
        return [
            normal(b, s, n, self.level, self.method)
            for b, s in zip(self.beta_F, self.beta_se_F, strict=True)
        ]


def normal(value: float, se: float, n: int, level: float, method: str) -> Metric:
    """A Metric with a normal interval; undefined when the standard error is not finite."""
    if not np.isfinite(se):
        note = "can't be told from the other effects: a covariate never varies by itself"
        return Metric(value=None, n=n, level=level, note=note)
    half = float(stats.norm.ppf(0.5 + level / 2)) * float(se)
    low, high = float(value) - half, float(value) + half
    return Metric(value=float(value), low=low, high=high, n=n, level=level, method=method)


def bradley_terry(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    *,
    items: int,
    weight: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    clusters: Sequence[Any] | None = None,
    ties: Ties = "half",
    ridge: float = 0.0,
    level: float = 0.95,
) -> Strengths:
    """Fit strengths to comparisons.

    first, second [C]: item numbers in [0, items). outcome [C]: 1 first is better, 0 second, 1/2 a tie.
    weight [C]: how much each counts, 1 by default. covariates [C, F]: first minus second. clusters [C]: what
    hangs together (a prompt); the intervals then allow for it. ridge: precision of a normal prior on θ,
    logits⁻²; with one every strength is finite and all are comparable, if only by the prior.

    Without a prior a strength is infinite where the comparisons separate items: where some set never lost to
    the rest. Then values are given within the sets that beat each other in a circle, and an item alone in
    its set says why it has none. DataError for numbers that can't be comparisons.
    """
    data = _checked(first, second, outcome, weight, covariates, items)
    compared_N = _sums(data[0], data[3], items) + _sums(data[1], data[3], items)
    component_N, why_N, kept_C = _comparable(data, items, ridge)
    notes = _notes(component_N, why_N, ridge, int((~kept_C).sum()))
    cluster_C = None
    if clusters is not None:
        cluster_C = np.unique(np.asarray(clusters), return_inverse=True)[1][data[5]][kept_C]
    data = [x[kept_C] for x in data[:5]]
    scale_F = data[4].std(0) if len(data[4]) else np.zeros(data[4].shape[1])
    scale_F[scale_F == 0] = 1.0
    problem, cluster_R = _problem(data, items, scale_F, cluster_C, ties, ridge, component_N)
    x, converged = maximise(problem)
    if not converged or (np.abs(x[items:-1]) > SEPARATED).any():
        notes.append("a covariate separates the outcomes: its coefficient has no finite maximum")
    var_N, var_Q, cov, how = covariances(problem, x, cluster_R)
    known = component_N >= 0
    return Strengths(
        theta_N=np.where(known, x[:items], np.nan),
        se_N=np.where(known, np.sqrt(np.maximum(var_N, 0.0)), np.nan),
        component_N=component_N,
        compared_N=compared_N,
        why_N=why_N,
        beta_F=x[items:-1] / scale_F,
        beta_se_F=np.sqrt(np.maximum(var_Q[:-1], 0.0)) / scale_F,
        tie=_tie(problem, x[-1], var_Q[-1], level),
        covariance_NN=cov,
        log_likelihood=problem.value(x),
        level=level,
        method=how,
        notes=tuple(notes),
    )


def _checked(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    weight: ArrayLike | None,
    covariates: ArrayLike | None,
    items: int,
) -> list[Any]:
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    y = np.asarray(outcome, dtype=float)
    w = np.ones(len(y)) if weight is None else np.asarray(weight, dtype=float)
    x = np.zeros((len(y), 0)) if covariates is None else np.asarray(covariates, dtype=float)
    if not len(a) == len(b) == len(y) == len(w) == len(x):
        raise DataError(f"columns of {len(a)}, {len(b)}, {len(y)}, {len(w)}, {len(x)} rows")
    if len(a) and (min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= items):
        raise DataError("an item's number is out of range", allowed=f"[0, {items})")
    if not np.isin(y, (0.0, 0.5, 1.0)).all():
        raise DataError("an outcome is none", allowed="1 (first), 0 (second), 1/2 (tie)")
    if not (np.isfinite(w).all() and (w >= 0).all() and np.isfinite(x).all()):
        raise DataError("a weight or covariate is negative or not finite")
    kept = np.flatnonzero((a != b) & (w > 0))  # one against itself says nothing
    return [a[kept], b[kept], y[kept], w[kept], x[kept], kept]


def _comparable(
    data: list[Any], items: int, ridge: float
) -> tuple[Ints, dict[int, str], NDArray[np.bool_]]:
    """Component of each item, why some have none, and which comparisons are inside a component."""
    a, b, y, *_ = data
    if ridge > 0:
        return np.zeros(items, np.int64), {}, np.ones(len(a), bool)
    won, lost = np.concatenate([a[y > 0], b[y < 1]]), np.concatenate([b[y > 0], a[y < 1]])
    graph = sparse.coo_array((np.ones(len(won)), (won, lost)), shape=(items, items)).tocsr()
    _, circle_N = csgraph.connected_components(graph, connection="strong")
    alone_N = np.bincount(circle_N)[circle_N] == 1
    wins, losses = np.bincount(won, minlength=items), np.bincount(lost, minlength=items)
    why_N = {
        int(i): "never compared"
        if wins[i] + losses[i] == 0
        else "won every comparison: infinite without a prior"
        if losses[i] == 0
        else "lost every comparison: infinite without a prior"
        if wins[i] == 0
        else "separated: always won against some, always lost against the rest"
        for i in np.flatnonzero(alone_N)
    }
    kept_C = circle_N[a] == circle_N[b]
    component_N = np.full(items, -1, np.int64)
    component_N[~alone_N] = np.unique(circle_N[~alone_N], return_inverse=True)[1]
    return component_N, why_N, kept_C


def _notes(component_N: Ints, why_N: dict[int, str], ridge: float, dropped: int) -> list[str]:
    parts = int(component_N.max(initial=-1)) + 1
    notes = []
    if parts > 1:
        notes.append(f"{parts} sets of items are comparable only within themselves")
    if why_N:
        notes.append(f"{len(why_N)} of {len(component_N)} items have no finite strength; add ridge")
    if dropped:
        notes.append(f"{dropped} comparisons between sets tell only which set is better")
    if ridge > 0:
        notes.append(f"normal prior on strengths, sd {ridge**-0.5:.3g} logits")
    return notes


def _problem(
    data: list[Any],
    items: int,
    scale_F: Floats,
    cluster_C: Ints | None,
    ties: Ties,
    ridge: float,
    component_N: Ints,
) -> tuple[Problem, Ints | None]:
    """Equal comparisons summed (within a cluster), as what Newton's method works on."""
    a, b, y, w, x = data
    turned = a > b  # one orientation, so that i-j and j-i are the same row
    a, b = np.where(turned, b, a), np.where(turned, a, b)
    y, x = np.where(turned, 1 - y, y), np.where(turned[:, None], -x, x) / scale_F
    if x.shape[1] == 0 and cluster_C is None:
        _, start, row_C = np.unique(a * items + b, return_index=True, return_inverse=True)
    else:
        own = np.zeros(len(a)) if cluster_C is None else cluster_C
        keys = np.column_stack([a, b, own, x])
        _, start, row_C = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    row_C, r = row_C.ravel(), len(start)
    win, loss, tie = (_sums(row_C, w * (y == v), r) for v in (1.0, 0.0, 0.5))
    if ties != "half" and (tie.sum() == 0 or win.sum() + loss.sum() == 0):
        ties = "half"  # its parameter would be infinite
    f = x.shape[1]
    where = np.repeat(np.arange(r), 2 + f)
    column = np.column_stack([a[start], b[start], np.tile(np.arange(items, items + f), (r, 1))])
    value = np.column_stack([np.ones(r), -np.ones(r), x[start]])
    shape = (r, items + f)
    design = sparse.coo_array((value.ravel(), (where, column.ravel())), shape=shape).tocsr()
    made = Problem(
        design, win, loss, tie, items, ties, ridge, component_N, lowest_tau=tie_range(ties)
    )
    return made, None if cluster_C is None else cluster_C[start]


def _sums(place: Ints, weight: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(place, weight, size), dtype=float)


def _tie(problem: Problem, tau: float, variance: float, level: float) -> Metric:
    """ν (Davidson) or κ (Rao-Kupper), with the interval of its logarithm turned back."""
    n = round(float(problem.tie.sum()))
    if problem.ties == "half":
        note = "no tie was seen, or nothing else" if n == 0 else "ties are half a win each"
        return Metric(value=None, n=n, level=level, note=note)
    log, se = tau, float(np.sqrt(variance))
    if problem.ties == "rao_kupper":
        log, se = float(np.log(tau)), se / tau
    half = float(stats.norm.ppf(0.5 + level / 2)) * se
    low, value, high = (float(np.exp(log + d)) for d in (-half, 0.0, half))
    return Metric(value=value, low=low, high=high, n=n, level=level, method=problem.ties)
