"""Dawid & Skene (1979): the true value of each unit and each rater's confusion, from answers alone.

    p(answers of unit u) = Σ_v prior[v] Π_{(j, k) in u} confusion[j, v, k]

fitted by EM. With `smoothing` s the prior and every row of a confusion matrix have a Dirichlet(1 + s): what
is climbed is then the log-likelihood and that prior's, and no entry is ever 0. Answers to one unit are taken
to be independent given its truth: hard units, on which raters err together, make all look better.

Legend: U units, R answers, J raters, V values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import logsumexp

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.intervals import binomial_interval
from accord.stats.resampling import Floats, quantile

__all__ = ["DawidSkene", "dawid_skene"]

MOST = 3000  # parameters up to which intervals are computed
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class DawidSkene:
    """The fit. `climb` is the objective after each step; it never falls."""

    prior_V: Floats
    confusion_JVV: Floats  # [rater, truth, answer]
    posterior_UV: Floats
    climb: tuple[float, ...]
    reliability: list[Metric]  # P(answer is the truth) of each rater, under the prior


def dawid_skene(
    unit: ArrayLike,
    rater: ArrayLike,
    value: ArrayLike,
    *,
    units: int,
    raters: int,
    values: int,
    smoothing: float = 0.5,
    steps: int = 500,
    tolerance: float = 1e-9,
    level: float = 0.95,
) -> DawidSkene:
    """Fit to answers: unit, rater, value [R] are numbers below `units`, `raters`, `values`. Starts from the
    shares of votes. Intervals are a binomial's of as many trials as the information in the units' scores has
    them (Louis 1982; Berndt et al. 1974), at most the answers, with t. They are around the share without
    smoothing, whose pull is as large as the error. DataError for columns of unlike length or without
    answers."""
    u, j, k = (np.asarray(x, dtype=np.int64) for x in (unit, rater, value))
    if not len(u) == len(j) == len(k):
        raise DataError(f"columns of {len(u)}, {len(j)}, {len(k)} rows")
    if not len(u):
        raise DataError("there are no answers")
    shares_UV = np.bincount(u * values + k, minlength=units * values).reshape(units, values) + 1e-3
    posterior_UV = shares_UV / shares_UV.sum(1, keepdims=True)
    answered = np.bincount(u, minlength=units) > 0
    climb: list[float] = []
    for _ in range(steps):
        prior_V, confusion_JVV = _maximise(
            posterior_UV[answered], posterior_UV, u, j, k, raters, smoothing
        )
        joint_UV = _joint(prior_V, confusion_JVV, u, j, k, units)
        whole_U = logsumexp(joint_UV, axis=1)
        posterior_UV = np.exp(joint_UV - whole_U[:, None])
        penalty = (
            smoothing * (np.log(confusion_JVV).sum() + np.log(prior_V).sum()) if smoothing else 0.0
        )
        climb.append(float(whole_U[answered].sum() + penalty))
        if len(climb) > 1 and climb[-1] - climb[-2] < tolerance * abs(climb[-1]):
            break
    reliability = _reliability(prior_V, confusion_JVV, posterior_UV, u, j, k, smoothing, level)
    return DawidSkene(prior_V, confusion_JVV, posterior_UV, tuple(climb), reliability)


def _maximise(
    seen_UV: Floats, posterior_UV: Floats, u: Ints, j: Ints, k: Ints, raters: int, smoothing: float
) -> tuple[Floats, Floats]:
    v = posterior_UV.shape[1]
    prior_V = seen_UV.sum(0) + smoothing
    counts_JVV = np.stack(
        [
            np.bincount(j * v + k, posterior_UV[u, t], raters * v).reshape(raters, v)
            for t in range(v)
        ],
        1,
    )
    rows_JV1 = counts_JVV.sum(2, keepdims=True) + smoothing * v
    even = np.full_like(counts_JVV, 1 / v)  # a row nobody speaks of
    confusion_JVV = np.divide(counts_JVV + smoothing, rows_JV1, out=even, where=rows_JV1 > 0)
    return prior_V / prior_V.sum(), confusion_JVV


def _joint(prior_V: Floats, confusion_JVV: Floats, u: Ints, j: Ints, k: Ints, units: int) -> Floats:
    """log p(truth = v, answers of u): [U, V]."""
    with np.errstate(divide="ignore"):
        log_JVV, log_V = np.log(confusion_JVV), np.log(prior_V)
    by_value = [np.bincount(u, log_JVV[j, t, k], units) for t in range(len(prior_V))]
    return np.asarray(np.column_stack(by_value) + log_V, dtype=float)


def _reliability(
    prior_V: Floats,
    confusion_JVV: Floats,
    posterior_UV: Floats,
    u: Ints,
    j: Ints,
    k: Ints,
    smoothing: float,
    level: float,
) -> list[Metric]:
    """Σ_v prior[v]·confusion[j, v, v], its error by the delta method from the logits of all rows."""
    raters, v, _ = confusion_JVV.shape
    answers_J = np.bincount(j, minlength=raters)
    value_J = np.einsum("v,jvv->j", prior_V, confusion_JVV)
    size = raters * v * v + v
    if size > MOST:
        note = f"no interval: {size} parameters"
        return [
            Metric(value=float(value_J[i]), n=int(answers_J[i]), level=level, note=note)
            for i in range(raters)
        ]
    scores = _scores(prior_V, confusion_JVV, posterior_UV, u, j, k)
    information = (scores.T @ scores).toarray()
    rows = np.concatenate([confusion_JVV.reshape(-1, v), prior_V[None]])
    for row, p in enumerate(
        rows
    ):  # the Dirichlet's curvature, and a hair for what no answer speaks of
        at = slice(row * v, row * v + v)
        information[at, at] += max(smoothing, 1e-6) * v * (np.diag(p) - np.outer(p, p))
    covariance = np.linalg.pinv(information, rcond=1e-12, hermitian=True)
    right_J = np.bincount(j, posterior_UV[u, k], raters)
    metrics = []
    for i in range(raters):
        slope = np.zeros(size)
        for t in range(v):
            p, at = confusion_JVV[i, t], (i * v + t) * v
            slope[at : at + v] = prior_V[t] * p[t] * ((np.arange(v) == t) - p)
        slope[-v:] = prior_V * (np.diag(confusion_JVV[i]) - value_J[i])
        value, n = float(value_J[i]), int(answers_J[i])
        if n == 0:
            metrics.append(Metric(value=None, n=0, level=level, note="no answers"))
            continue
        variance = max(float(slope @ covariance @ slope), 1e-12)
        # with few units the curvature is as uncertain as what it is of: at most the trials answered, t
        wide = quantile(level) / quantile(level, max(n - 1, 1))
        trials = max(min(value * (1 - value) / variance, n) * wide**2, 1e-3)
        low, high = binomial_interval(min(float(right_J[i]) / n, 1.0), trials, level)
        metrics.append(
            Metric(
                value=value, low=min(low, value), high=max(high, value), n=n, level=level,
                method="information",
            )
        )  # fmt: skip
    return metrics


def _scores(
    prior_V: Floats, confusion_JVV: Floats, posterior_UV: Floats, u: Ints, j: Ints, k: Ints
) -> Any:
    """Slope of each unit's log-likelihood in the logits of all probabilities: sparse [U, J·V·V + V]."""
    raters, v, _ = confusion_JVV.shape
    units, size = len(posterior_UV), raters * v * v + v
    weight_RV = posterior_UV[u]
    slope_RVV = -weight_RV[:, :, None] * confusion_JVV[j]
    slope_RVV[np.arange(len(u)), :, k] += weight_RV
    column = (j[:, None, None] * v + np.arange(v)[:, None]) * v + np.arange(v)
    row = np.broadcast_to(u[:, None, None], column.shape)
    answered = np.bincount(u, minlength=units) > 0
    own = sparse.coo_array(
        ((posterior_UV - prior_V)[answered].ravel(),
         (np.repeat(np.flatnonzero(answered), v), np.tile(np.arange(size - v, size), answered.sum()))),
        shape=(units, size),
    )  # fmt: skip
    by_answer = sparse.coo_array(
        (slope_RVV.ravel(), (row.ravel(), column.ravel())), shape=(units, size)
    )
    return (by_answer.tocsr() + own.tocsr()).tocsr()
