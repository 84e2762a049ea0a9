"""What strengths may be under their prior: draws from the posterior, for intervals where it is skewed.

An item that never lost, or that only the prior joins to another, has a posterior far from normal. Draws are
by Hamiltonian Monte Carlo (Neal 2011) side by side in many chains, in coordinates in which the curvature at
the maximum is one; every chain starts from the normal approximation. Parameters other than strengths have the
prior's width too, so that the posterior is proper. `temper` counts the likelihood less where comparisons come
in clusters (Pauli, Racugno & Ventura 2011).

Legend: B chains, D parameters [strengths, coefficients, τ], R rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from accord.stats.newton import Problem
from accord.stats.outcomes import OUTCOMES
from accord.stats.resampling import Floats

__all__ = ["draws"]

ITEMS, ROWS = 200, 50_000  # up to which draws are made
WANTED, BURN, LEAPS = 6000, 25, 6
DENSE = 2000  # numbers of a design that are multiplied faster as they are than sparse


def draws(problem: Problem, x: Floats, temper: float = 1.0, seed: int = 0) -> Floats | None:
    """Draws [B, D] around the maximum x; None for a problem too large, or without a prior."""
    rows, size = problem.design.shape[0], len(x)
    if problem.ridge == 0 or size - 1 > ITEMS or rows > ROWS or not np.isfinite(x).all():
        return None
    design, idle = problem.design, problem.ties == "half"
    prior_D = np.full(size, problem.ridge)
    at = problem.outcome(x)
    curve = np.zeros((size, size))
    curve[:-1, :-1] = (design.T @ (design * at.eta_eta[:, None])).toarray()
    curve[:-1, -1] = curve[-1, :-1] = design.T @ at.eta_tau
    curve[-1, -1] = at.tau_tau.sum()
    if rows * size < DENSE:
        design = design.toarray()
    root_DD = np.linalg.cholesky(np.linalg.inv(curve * temper + np.diag(prior_D)))

    def density(z_BD: Floats) -> tuple[Floats, Floats]:
        x_BD = x + z_BD @ root_DD.T
        tau_B1 = x_BD[:, -1:]
        inside_B = tau_B1[:, 0] > problem.lowest_tau
        tau_B1 = np.where(inside_B[:, None], tau_B1, 1.0)
        eta_BR = (design @ x_BD[:, :-1].T).T
        with np.errstate(over="ignore"):
            outcome = OUTCOMES[problem.ties](eta_BR, tau_B1, problem.win, problem.loss, problem.tie)  # type: ignore[arg-type]
        value_B = temper * outcome.ll.sum(1) - (prior_D * x_BD**2).sum(1) / 2
        by_eta_BD = (design.T @ outcome.by_eta.T).T
        slope_BD = temper * np.column_stack([by_eta_BD, outcome.by_tau.sum(1)]) - prior_D * x_BD
        if idle:
            slope_BD[:, -1] = -prior_D[-1] * x_BD[:, -1]
        return np.where(inside_B, value_B, -np.inf), slope_BD @ root_DD

    return _sampled(density, x, root_DD, rows, seed)


def _sampled(
    density: Callable[[Floats], tuple[Floats, Floats]],
    x: Floats,
    root_DD: Floats,
    rows: int,
    seed: int,
) -> Floats:
    generator = np.random.default_rng(seed)
    chains = int(np.clip(400_000 // max(rows, 1), 16, 400))
    z_BD = generator.standard_normal((chains, len(x)))
    value_B, slope_BD = density(z_BD)
    kept = []
    for step in range(BURN + -(-WANTED // chains)):
        length = 0.35 * generator.uniform(0.6, 1.2) * len(x) ** -0.25
        speed_BD = generator.standard_normal(z_BD.shape)
        before_B = value_B - (speed_BD**2).sum(1) / 2
        place_BD, push_BD = z_BD, slope_BD
        for _ in range(LEAPS):
            half_BD = speed_BD + length / 2 * push_BD
            place_BD = place_BD + length * half_BD
            now_B, push_BD = density(place_BD)
            speed_BD = half_BD + length / 2 * push_BD
        after_B = now_B - (speed_BD**2).sum(1) / 2
        taken_B = np.log(generator.random(chains)) < after_B - before_B
        z_BD = np.where(taken_B[:, None], place_BD, z_BD)
        slope_BD = np.where(taken_B[:, None], push_BD, slope_BD)
        value_B = np.where(taken_B, now_B, value_B)
        if step >= BURN:
            kept.append(x + z_BD @ root_DD.T)
    return np.concatenate(kept)
