"""Best-of-n: how far it moves from the policy, and what it is expected to reach.

Legend: N samples of one prompt, n of them drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["best_of_n_kl", "expected_best"]


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n ‖ policy) = log n - (n-1)/n nats, for a continuous score (Stiennon et al. 2020, G.3);
    with ties it is at most that (Beirami et al. 2024)."""
    return math.log(n) - (n - 1) / n


def expected_best(
    ranked_by: Sequence[float], n: int, value: Sequence[float] | None = None
) -> float:
    """Expected `value` of the answer with the highest `ranked_by` among n drawn without replacement from
    the N given: unbiased for fresh draws (Gao et al. 2022, eq. in appendix I; Nakano et al. 2021).
    `value` defaults to `ranked_by` itself: the expected maximum. Ties share their weight.

    ValueError unless 1 <= n <= N and all values are finite.
    """
    order_by = np.asarray(ranked_by, dtype=float)
    values = order_by if value is None else np.asarray(value, dtype=float)
    N = len(order_by)
    if not 1 <= n <= N or values.shape != order_by.shape:
        raise ValueError(f"n = {n} of {N} samples, {len(values)} values")
    if not (np.isfinite(order_by).all() and np.isfinite(values).all()):
        raise ValueError("a value is not finite")
    order = np.argsort(order_by, kind="stable")
    # the i-th smallest (1-based) is the best of C(i-1, n-1) of the C(N, n) draws
    log_all = _log_choose(N, n)
    weights = np.array(
        [math.exp(_log_choose(i - 1, n - 1) - log_all) if i >= n else 0.0 for i in range(1, N + 1)]
    )
    _, group = np.unique(order_by[order], return_inverse=True)
    shared = np.bincount(group, weights)[group] / np.bincount(group)[group]
    return float(shared @ values[order])


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
