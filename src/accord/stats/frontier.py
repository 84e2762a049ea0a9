"""Policies on two axes: which are on the Pareto front, and how surely.

One bootstrap for all: each draw weighs the clusters anew (Rubin 1981), the same for every policy and axis, so
that what policies share on the same prompts and what one prompt says of both axes stays shared. Each draw has
one cluster more, of prior weight: a policy's value there is drawn from Jeffreys' Beta(1/2, 1/2), so that
"none of 40" is not "never" and a share of independent trials has the posterior Beta(y + 1/2, n - y + 1/2).
Unbounded values have no such cluster.

Legend: D draws, P policies, N prompts, K clusters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from accord.stats.resampling import Floats

__all__ = ["AxisScores", "Frontier", "dominators", "frontier"]

DRAWS = 4000


@dataclass(frozen=True)
class AxisScores:
    """One axis: every policy's value at the same prompts, and each prompt's cluster."""

    values_PN: Floats
    clusters: Sequence[Hashable]
    better: Literal["more", "less"]
    bounded: bool = True

    @property
    def sign(self) -> int:
        return 1 if self.better == "more" else -1


@dataclass(frozen=True)
class Frontier:
    """By policy: P(on the front), P(within the limit), P(the rule picks it); and what the values say: who is
    dominated by whom, and whom the rule picks (None: no policy is within the limit)."""

    on_front: list[float]
    within: list[float]
    picked: list[float]
    dominated_by: list[list[int]]
    pick: int | None


def frontier(
    axes: tuple[AxisScores, AxisScores],
    limit: float | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 17,
) -> Frontier:
    """The front of two axes. The rule: the first axis no worse than `limit`, then the best on the second."""
    rng = np.random.default_rng(seed)
    names = list(dict.fromkeys(c for axis in axes for c in axis.clusters))
    number = {c: i for i, c in enumerate(names)}
    weights_DK = rng.standard_exponential((draws, len(names)))
    prior_D = rng.standard_exponential(draws)
    drawn, values = [], []
    for axis in axes:
        own_N = np.array([number[c] for c in axis.clusters], dtype=np.int64)
        n_K = np.bincount(own_N, minlength=len(names)).astype(float)
        sums_KP = np.stack([np.bincount(own_N, x_N, len(names)) for x_N in axis.values_PN], axis=1)
        top_DP, below_D = weights_DK @ sums_KP, weights_DK @ n_K
        if axis.bounded:
            heavy_D = prior_D * n_K.sum() / max((n_K > 0).sum(), 1)
            top_DP = top_DP + heavy_D[:, None] * rng.beta(0.5, 0.5, top_DP.shape)
            below_D = below_D + heavy_D
        drawn.append(axis.sign * top_DP / below_D[:, None])
        values.append(axis.sign * axis.values_PN.mean(1))
    bound = -np.inf if limit is None else axes[0].sign * limit
    chosen_D = _rule(drawn[0], drawn[1], bound)
    (chosen,) = _rule(values[0][None], values[1][None], bound)
    count = len(values[0])
    return Frontier(
        on_front=(1 - _dominated(drawn[0], drawn[1]).mean(0)).tolist(),
        within=(drawn[0] >= bound).mean(0).tolist(),
        picked=[float((chosen_D == i).mean()) for i in range(count)],
        dominated_by=dominators(values[0], values[1]),
        pick=None if chosen < 0 else int(chosen),
    )


def dominators(a_P: Floats, b_P: Floats) -> list[list[int]]:
    """For each policy those that are as good on both axes (more is better) and better on one."""
    over = _over(a_P[None], b_P[None])[0]
    return [np.flatnonzero(row).tolist() for row in over]


def _over(a_DP: Floats, b_DP: Floats) -> NDArray[np.bool_]:
    """[d, i, j]: whether j dominates i."""
    mine, theirs = (slice(None), slice(None), None), (slice(None), None, slice(None))
    as_good = (a_DP[theirs] >= a_DP[mine]) & (b_DP[theirs] >= b_DP[mine])
    return np.asarray(as_good & ((a_DP[theirs] > a_DP[mine]) | (b_DP[theirs] > b_DP[mine])))


def _dominated(a_DP: Floats, b_DP: Floats) -> NDArray[np.bool_]:
    return np.asarray(_over(a_DP, b_DP).any(2))


def _rule(a_DP: Floats, b_DP: Floats, bound: float) -> NDArray[np.int64]:
    """In each draw the policy with the best b of those with a at the bound or better, of these the best a; -1
    where there is none."""
    inside = a_DP >= bound
    best_D1 = np.where(inside, b_DP, -np.inf).max(1, keepdims=True)
    ties = np.where(inside & (b_DP == best_D1), a_DP, -np.inf)
    return np.where(inside.any(1), ties.argmax(1), -1)
