"""Elo: ratings that move after each game, made free of the order the games happened to come in.

After a game r_i += k·(outcome - E) and r_j -= the same, with E = 1 / (1 + 10^((r_j - r_i)/400)) (Elo 1978).
Where games don't come in time, the order is arbitrary and the last ones count most: the value here is the
mean over random orders. The interval is that of the ratings such games would come to if strengths were as
draws from their posterior have them (Bradley-Terry with a normal prior of sd 3 logits, clusters allowed for),
each in an order of its own: an item that won every game is then not thought to win for ever. With very many
items it resamples games.

Legend: N items, C games, B orders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from accord.core.types import Metric
from accord.stats.ranking import bradley_terry
from accord.stats.resampling import Floats

__all__ = ["elo", "play"]

SCALE, START = 400.0, 1000.0


def play(
    first_BC: NDArray[np.int64],
    second_BC: NDArray[np.int64],
    outcome_BC: Floats,
    items: int,
    *,
    k: float = 16.0,
) -> Floats:
    """Ratings [B, N] after B sequences of C games played side by side; all start at 1000."""
    ratings_BN = np.full((len(first_BC), items), START)
    row = np.arange(len(first_BC))
    for a, b, y in zip(first_BC.T, second_BC.T, outcome_BC.T, strict=True):
        lead = ratings_BN[row, a] - ratings_BN[row, b]
        moved = k * (y - 1 / (1 + 10 ** (-lead / SCALE)))
        ratings_BN[row, a] += moved
        ratings_BN[row, b] -= moved
    return ratings_BN


def elo(
    first: ArrayLike,
    second: ArrayLike,
    outcome: ArrayLike,
    *,
    items: int,
    k: float = 16.0,
    orders: int = 200,
    clusters: Sequence[Any] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> list[Metric]:
    """Elo rating of each item: the mean over `orders` random orders of all games, with an interval of as many
    draws. Outcomes and clusters as in `bradley_terry`. n counts an item's games."""
    a, b = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    y = np.asarray(outcome, dtype=float)
    played_N = np.bincount(np.append(a, b), minlength=items)
    if not len(a):
        return [Metric(value=None, n=0, level=level, note="never compared")] * items
    generator = np.random.default_rng(seed)
    shuffled = np.array([generator.permutation(len(a)) for _ in range(orders)])
    value_N = play(a[shuffled], b[shuffled], y[shuffled], items, k=k).mean(0)
    theta_BN = bradley_terry(a, b, y, items=items, clusters=clusters, ridge=1 / 9).draws_BN
    if theta_BN is None:
        drawn, how = (
            generator.integers(0, len(a), (orders, len(a))),
            f"bootstrap over {len(a)} games",
        )
        outcome_BC = y[drawn]
    else:
        theta_BN = theta_BN[generator.integers(0, len(theta_BN), orders)]
        drawn, how = shuffled, "posterior of strengths"
        row = np.arange(orders)[:, None]
        outcome_BC = expit(theta_BN[row, a[drawn]] - theta_BN[row, b[drawn]])
    spread_BN = play(a[drawn], b[drawn], outcome_BC, items, k=k)
    # of so few draws the usual quantiles hold less than `level` (Hyndman & Fan 1996, type 6)
    ends = [0.5 - level / 2, 0.5 + level / 2]
    low_N, high_N = np.quantile(spread_BN, ends, axis=0, method="weibull")
    if (
        theta_BN is not None
    ):  # who won or lost nearly all may be off by more than likely strengths differ
        won_BC = (generator.random(outcome_BC.shape) < outcome_BC).astype(float)
        chance_BN = play(a[drawn], b[drawn], won_BC, items, k=k) - spread_BN
        below_N, above_N = np.quantile(chance_BN, ends, axis=0, method="weibull")
        low_N, high_N = np.minimum(low_N, value_N - above_N), np.maximum(high_N, value_N - below_N)
    return [
        Metric(
            value=float(value_N[i]),
            low=float(min(low_N[i], value_N[i])),
            high=float(max(high_N[i], value_N[i])),
            n=int(played_N[i]),
            level=level,
            method=f"{orders} orders, {how}",
        )
        if played_N[i]
        else Metric(value=None, n=0, level=level, note="never compared")
        for i in range(items)
    ]
