"""Newton's method for log-concave comparisons; the steps by conjugate gradients, for a million rows.

Legend: N items, R rows, F covariates; parameters [N + F + 1] are strengths, coefficients, τ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from accord.stats.outcomes import OUTCOMES, Outcome, TieModel
from accord.stats.resampling import Floats

__all__ = ["Problem", "centred", "maximise"]

STEPS, TOLERANCE = 100, 1e-9


@dataclass(frozen=True)
class Problem:
    """Rows of equal comparisons: the design [R, N + F], weights of wins, losses and ties [R]."""

    design: Any
    win: Floats
    loss: Floats
    tie: Floats
    n_items: int
    ties: TieModel
    ridge: float
    component_N: NDArray[np.int64]
    lowest_tau: float

    def outcome(self, x: Floats) -> Outcome:
        eta_R = self.design @ x[:-1]
        return OUTCOMES[self.ties](eta_R, float(x[-1]), self.win, self.loss, self.tie)

    def value(self, x: Floats) -> float:
        """Log-likelihood, less the prior's penalty."""
        return self._value(x, self.outcome(x))

    def _value(self, x: Floats, at: Outcome) -> float:
        return float(at.ll.sum() - self.ridge / 2 * (x[: self.n_items] ** 2).sum())

    def slope(self, x: Floats, at: Outcome) -> Floats:
        slope = np.append(self.design.T @ at.by_eta, at.by_tau.sum())
        slope[: self.n_items] -= self.ridge * x[: self.n_items]
        return np.asarray(slope)

    def curve(self, at: Outcome) -> LinearOperator:
        """The negative Hessian as an operator; a parameter that nothing depends on has curvature 1."""
        idle = self.ties == "half"

        def times(v: Floats) -> Floats:
            v = v.ravel()
            along_R = self.design @ v[:-1]
            by_eta = self.design.T @ (at.eta_eta * along_R + at.eta_tau * v[-1])
            by_tau = at.eta_tau @ along_R + (1.0 if idle else at.tau_tau.sum()) * v[-1]
            by_eta[: self.n_items] += self.ridge * v[: self.n_items]
            return np.append(by_eta, by_tau)

        size = self.design.shape[1] + 1
        return LinearOperator((size, size), matvec=times, dtype=float)

    def diagonal(self, at: Outcome) -> Floats:
        diagonal = self.design.power(2).T @ at.eta_eta
        diagonal[: self.n_items] += self.ridge
        diagonal = np.append(diagonal, 1.0 if self.ties == "half" else at.tau_tau.sum())
        return np.where(diagonal > 0, diagonal, 1.0)


def centred(theta_N: Floats, component_N: NDArray[np.int64], ridge: float) -> Floats:
    """Strengths less the mean of their component, which the likelihood does not know."""
    if ridge > 0 or not len(theta_N):
        return theta_N
    own_N = np.where(component_N < 0, component_N.max(initial=-1) + 1, component_N)
    means = np.bincount(own_N, theta_N) / np.maximum(np.bincount(own_N), 1)
    return np.asarray(theta_N - means[own_N])


def maximise(problem: Problem) -> tuple[Floats, bool]:
    """The maximum and whether it was reached: no slope above 1e-9 of what a parameter's comparisons weigh."""
    n = problem.n_items
    x = np.zeros(problem.design.shape[1] + 1)
    if problem.ties == "rao_kupper":
        x[-1] = 0.5
    scale = np.append(abs(problem.design).T @ (problem.win + problem.loss + problem.tie), 0.0)
    scale[-1] = scale[:n].sum()
    at = problem.outcome(x)
    for _ in range(STEPS):
        slope, value = problem.slope(x, at), problem._value(x, at)
        steepness = float((np.abs(slope) / (scale + 1.0)).max(initial=0.0))
        if steepness < TOLERANCE:
            return x, True
        inverse = 1 / problem.diagonal(at)
        guide = LinearOperator((len(x), len(x)), matvec=lambda v, d=inverse: d * v.ravel())
        step, _ = cg(
            problem.curve(at), slope, rtol=min(0.1, max(steepness, 1e-6)), maxiter=500, M=guide
        )
        size = 1.0
        while x[-1] + size * step[-1] <= problem.lowest_tau:
            size /= 2
        while True:
            tried = x + size * step
            tried[:n] = centred(tried[:n], problem.component_N, problem.ridge)
            at = problem.outcome(tried)
            gained = problem._value(tried, at) - value
            if gained >= 1e-4 * size * float(slope @ step) or size < 1e-6:
                break
            size /= 2
        if size < 1e-6:  # as high as arithmetic goes
            return x, steepness < 1e-6
        x = tried
    return x, False
