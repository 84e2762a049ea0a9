"""Bradley-Terry: strengths of items from who beat whom, with ties, covariates (style) and a ridge prior.

A comparison of items i and j has η = θ_i - θ_j + β·x, θ and β in logits, x the first item's covariates minus
the second's. θ is known up to a constant among items that are compared: values are relative to the mean of
their component. The maximum is found by Newton's method on the sums over equal comparisons (Bradley & Terry
1952; Hunter 2004 for when it exists; ties in stats.outcomes); the inverse of its curvature gives the
intervals, a jackknife over clusters where comparisons come in such (stats.spread). Under a prior they are
the posterior's own quantiles (stats.posterior): an item that never lost has no normal one.

Legend: N items, C comparisons, R distinct rows, F covariates, Q = F + 1 other parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import csgraph

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.newton import Problem, maximise
from accord.stats.outcomes import TieModel, tie_range
from accord.stats.posterior import draws
from accord.stats.resampling import Floats, quantile
from accord.stats.spread import Spread, covariances

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
    spread: Spread
    joined_N: Ints  # numbers the sets that comparisons join, whatever a prior does
    posterior: Callable[[], Floats | None]  # draws, made when an interval is asked for
    log_likelihood: float
    level: float
    method: str
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def draws_BN(self) -> Floats | None:
        """Draws of strengths from the posterior, where there is a prior."""
        return self.posterior()

    def strengths(self) -> list[Metric]:
        """Strength of each item, logits above the mean of its component."""
        return [self._metric(i) for i in range(len(self.theta_N))]

    def _metric(self, i: int) -> Metric:
        n = round(float(self.compared_N[i]))
        if i in self.why_N:
            return Metric(value=None, n=n, level=self.level, note=self.why_N[i])
        return self._interval(self.theta_N[i], i, n)

    def _interval(self, value: float, at: int, n: int) -> Metric:
        """Of the parameter number `at`."""
        if self.draws_BN is not None and at < self.draws_BN.shape[1]:
            return self._drawn(value, self.draws_BN[:, at], n)
        spread = self.spread
        se, least, df = spread.variance[at] ** 0.5, spread.least[at] ** 0.5, spread.df[at]
        return normal(value, se, n, self.level, self.method, least=least, df=df)

    def _drawn(self, value: float, drawn_B: Floats, n: int) -> Metric:
        low, high = np.quantile(drawn_B, [0.5 - self.level / 2, 0.5 + self.level / 2])
        return Metric(
            value=float(value), low=float(min(low, value)), high=float(max(high, value)), n=n,
            level=self.level, method="posterior",
        )  # fmt: skip

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
        if self.draws_BN is not None:
            return self._drawn(value, self.draws_BN[:, i] - self.draws_BN[:, j], n)
        least_NN = self.spread.least_NN
        assert least_NN is not None
        c, least = (_apart(m, i, j) for m in (self.covariance_NN, least_NN))
        df = min(self.spread.df[i], self.spread.df[j])
        return normal(value, c, n, self.level, self.method, least=least, df=df)

    def covariates(self) -> list[Metric]:
        """β, logits per unit of each covariate."""
        n = round(float(self.compared_N.sum() / 2))
        items = len(self.theta_N)
        with np.errstate(invalid="ignore"):  # what can't be told is infinite in both
            scale_F = self.beta_se_F / np.sqrt(np.maximum(self.spread.variance[items:-1], 1e-300))
        return [
            normal(
                b, se, n, self.level, self.method,
                least=self.spread.least[items + i] ** 0.5 * scale_F[i], df=self.spread.df[items + i],
            )
            for i, (b, se) in enumerate(zip(self.beta_F, self.beta_se_F, strict=True))
        ]  # fmt: skip


def _apart(covariance_NN: Floats, i: int, j: int) -> float:
    """Standard error of a difference."""
    c = covariance_NN
    spread = c[i, i] + c[j, j] - 2 * c[i, j]
    return float(np.sqrt(max(0.0, spread))) if np.isfinite(spread) else float("inf")


def normal(
    value: float, se: float, n: int, level: float, method: str, *, least: float = 0.0,
    df: float = np.inf,
) -> Metric:  # fmt: skip
    """A Metric with a t interval, at least the normal one of the standard error `least`; undefined when the
    standard error is not finite."""
    if not np.isfinite(se):
        note = "can't be told from the other effects: a covariate never varies by itself"
        return Metric(value=None, n=n, level=level, note=note)
    half = max(quantile(level, df) * float(se), quantile(level) * float(least))
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
    ties: TieModel = "half",
    ridge: float = 0.0,
    level: float = 0.95,
) -> Strengths:
    """Fit strengths to comparisons.

    first, second [C]: item numbers in [0, items). outcome [C]: 1 first is better, 0 second, 1/2 a tie.
    weight [C]: how much each counts, 1 by default. covariates [C, F]: first minus second. clusters [C]: what
    hangs together (a prompt); the intervals then allow for it. ridge: precision of a normal prior on θ,
    logits⁻²; with one every strength is finite and all are comparable, if only by the prior; intervals are
    then the posterior's, the likelihood counted less by what clusters add to its spread.

    Without a prior a strength is infinite where the comparisons separate items: where some set never lost to
    the rest. Then values are given within the sets that beat each other in a circle, and an item alone in
    its set says why it has none. DataError for numbers that can't be comparisons.
    """
    data = _checked(first, second, outcome, weight, covariates, items)
    compared_N = _sums(data[0], data[3], items) + _sums(data[1], data[3], items)
    component_N, why_N, kept_C = _comparable(data, items, ridge)
    notes = _notes(component_N, why_N, ridge, int((~kept_C).sum()))
    joined_N = _joined(data, items)
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
    spread = covariances(problem, x, cluster_R)

    def posterior() -> Floats | None:
        if ridge == 0:
            return None
        summed, _ = _problem(data, items, scale_F, None, ties, ridge, component_N)
        drawn = draws(summed, x, _temper(problem, x, cluster_R))
        return None if drawn is None else _centred(drawn[:, :items])

    var_N, var_Q = spread.variance[:items], spread.variance[items:]
    known = component_N >= 0
    return Strengths(
        theta_N=np.where(known, x[:items], np.nan),
        se_N=np.where(known, np.sqrt(np.maximum(var_N, 0.0)), np.nan),
        spread=spread,
        joined_N=joined_N,
        posterior=posterior,
        component_N=component_N,
        compared_N=compared_N,
        why_N=why_N,
        beta_F=x[items:-1] / scale_F,
        beta_se_F=np.sqrt(np.maximum(var_Q[:-1], 0.0)) / scale_F,
        tie=_tie(problem, x[-1], spread, level),
        covariance_NN=spread.covariance_NN,
        log_likelihood=problem.value(x),
        level=level,
        method=spread.how,
        notes=tuple(notes),
    )


def _centred(drawn_BN: Floats) -> Floats:
    """Draws less their mean over items, which strengths are said above."""
    return np.asarray(drawn_BN - drawn_BN.mean(1, keepdims=True))


def _joined(data: list[Any], items: int) -> Ints:
    """Numbers the sets of items that comparisons join."""
    a, b = data[0], data[1]
    graph = sparse.coo_array((np.ones(len(a)), (a, b)), shape=(items, items)).tocsr()
    return np.asarray(csgraph.connected_components(graph, directed=False)[1], np.int64)


def _temper(problem: Problem, x: Floats, cluster_R: Ints | None) -> float:
    """What the likelihood counts: 1, or less where slopes of clusters vary more than the curvature says,
    1 / mean eigenvalue of their ratio."""
    if cluster_R is None or cluster_R.max(initial=-1) < 1:
        return 1.0
    at = problem.outcome(x)
    k, design = int(cluster_R.max()) + 1, problem.design
    ones = (np.ones(len(cluster_R)), (cluster_R, np.arange(len(cluster_R))))
    member = sparse.coo_array(ones, shape=(k, len(cluster_R))).tocsr()
    if np.bincount(cluster_R).max() == 1 or design.shape[1] > 1000:
        return 1.0
    slopes = (member @ (design * at.by_eta[:, None])).toarray()
    curve = (design.T @ (design * at.eta_eta[:, None])).toarray()
    inverse = np.linalg.pinv(curve, rcond=1e-9, hermitian=True)
    rank = round(float(np.trace(inverse @ curve)))
    ratio = float(np.einsum("kd,de,ke->", slopes, inverse, slopes)) / max(rank, 1) * k / (k - 1)
    wide = (quantile(0.95, k - 1) / quantile(0.95)) ** 2
    return 1 / (max(ratio, 1.0) * wide)


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
    ties: TieModel,
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
    problem = Problem(
        design, win, loss, tie, items, ties, ridge, component_N, lowest_tau=tie_range(ties)
    )
    return problem, None if cluster_C is None else cluster_C[start]


def _sums(place: Ints, weight: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(place, weight, size), dtype=float)


def _tie(problem: Problem, tau: float, spread: Spread, level: float) -> Metric:
    """ν (Davidson) or κ (Rao-Kupper), with the interval of its logarithm turned back."""
    n = round(float(problem.tie.sum()))
    if problem.ties == "half":
        note = "no tie was seen, or nothing else" if n == 0 else "ties are half a win each"
        return Metric(value=None, n=n, level=level, note=note)
    se, least, df = spread.variance[-1] ** 0.5, spread.least[-1] ** 0.5, spread.df[-1]
    log, scale = (float(np.log(tau)), tau) if problem.ties == "rao_kupper" else (tau, 1.0)
    metric = normal(log, se / scale, n, level, problem.ties, least=least / scale, df=df)
    ends = {
        k: float(np.exp(v))
        for k in ("value", "low", "high")
        if (v := getattr(metric, k)) is not None
    }
    return metric.model_copy(update=ends)
