"""The likelihood of raters' votes with the quality of pairs integrated out, and its slopes (stats.raters).

Legend: R votes, P pairs, J raters, G nodes of the integral.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logsumexp

from accord.stats.resampling import Floats

__all__ = [
    "NODES_G", "NORMAL_G", "PRIOR_MEAN", "PRIOR_SD", "Votes", "better", "better_slope", "likelihoods", "loss",
    "mass", "scores",
]  # fmt: skip

NODES_G = np.linspace(-4.2, 4.2, 29)
STEP = NODES_G[1] - NODES_G[0]
NORMAL_G = stats.norm.pdf(NODES_G) / stats.norm.pdf(NODES_G).sum()
PSEUDO_PAIRS, MASS_STEPS = 10.0, 25  # of the distribution of m, once raters are known
PRIOR_MEAN, PRIOR_SD = (
    np.array([1.0, 0.0, 0.0]),
    3.0,
)  # says little, keeps a rater of five votes finite
CHUNK = 40_000  # votes at a time


@dataclass(frozen=True)
class Votes:
    """Sorted by pair; `start_P` is where each pair begins."""

    start_P: NDArray[np.int64]
    rater_R: NDArray[np.int64]
    value_R: Floats
    side_R: Floats
    longer_R: Floats
    mass_G: Floats  # distribution of m

    def chunks(self) -> Iterator[tuple[slice, slice, NDArray[np.int64]]]:
        """(pairs, votes, the votes' pair counted from the chunk's first)."""
        ends_P = np.append(self.start_P[1:], len(self.rater_R))
        low = 0
        while low < len(ends_P):
            high = max(low + 1, int(np.searchsorted(ends_P, self.start_P[low] + CHUNK, "right")))
            n_P = ends_P[low:high] - self.start_P[low:high]
            votes = slice(int(self.start_P[low]), int(ends_P[high - 1]))
            yield slice(low, high), votes, np.repeat(np.arange(high - low), n_P)
            low = high


def _nodes(x_J3: Floats, votes: Votes, at: tuple[Any, ...]) -> tuple[Floats, Floats]:
    """For a chunk: log P(votes, m) [P, G], and 'value less expected' [R, G]."""
    pairs, rows, _ = at
    skill_R, side_R, length_R = x_J3[votes.rater_R[rows]].T
    bias_R = side_R * votes.side_R[rows] + length_R * votes.longer_R[rows]
    eta_RG = skill_R[:, None] * NODES_G + bias_R[:, None]
    y_R1 = votes.value_R[rows, None]
    small_RG = np.exp(
        -np.abs(eta_RG)
    )  # numpy's exp and log are several times as fast as scipy's expit
    ll_RG = np.maximum(-eta_RG, 0.0)
    ll_RG += np.log(1 + small_RG)
    ll_RG += (1 - y_R1) * eta_RG  # -[y·log σ(η) + (1-y)·log σ(-η)]
    first = votes.start_P[pairs] - rows.start
    joint_PG = np.log(votes.mass_G) - np.add.reduceat(ll_RG, first, axis=0)
    win_RG = np.where(eta_RG > 0, 1.0, small_RG) / (1 + small_RG)
    return joint_PG, y_R1 - win_RG


def likelihoods(x_J3: Floats, votes: Votes) -> Floats:
    """P(votes of a pair | m) at each node, as a share of the pair's largest: [P, G]."""
    blocks = [np.zeros((0, len(NODES_G)))]
    for at in votes.chunks():
        log_PG = _nodes(x_J3, votes, at)[0] - np.log(votes.mass_G)
        blocks.append(np.exp(log_PG - log_PG.max(1, keepdims=True)))
    return np.concatenate(blocks)


def mass(like_PG: Floats, mass_G: Floats) -> Floats:
    """The distribution of m: the mean posterior, made symmetric, with a few pairs of the normal, until it
    stays."""
    for _ in range(MASS_STEPS):
        before_G = mass_G
        total_G = PSEUDO_PAIRS * NORMAL_G + mass_G * ((1 / (like_PG @ mass_G)) @ like_PG)
        mass_G = (total_G + total_G[::-1]) / (2 * total_G.sum())
        if np.abs(mass_G - before_G).sum() < 2e-3:
            break
    return np.asarray(mass_G)


def scores(x_J3: Floats, votes: Votes, at: tuple[Any, ...]) -> tuple[Floats, Floats]:
    """Log-likelihood of each pair [P], and the slope in (skill, side, length) of each vote's rater [R, 3]."""
    _, rows, own_R = at
    joint_PG, miss_RG = _nodes(x_J3, votes, at)
    ll_P = logsumexp(joint_PG, axis=1)
    return ll_P, _slopes(np.exp(joint_PG - ll_P[:, None])[own_R] * miss_RG, votes, rows)


def _slopes(weighted_RG: Floats, votes: Votes, rows: slice) -> Floats:
    """Of each vote in its rater's (skill, side, length), misses weighted over the nodes: [R, 3]."""
    miss_R = weighted_RG.sum(1)
    return np.column_stack(
        (weighted_RG @ NODES_G, miss_R * votes.side_R[rows], miss_R * votes.longer_R[rows])
    )


def loss(x_J3: Floats, votes: Votes) -> tuple[float, Floats]:
    away_J3 = (x_J3 - PRIOR_MEAN) / PRIOR_SD
    total, slope_J3 = (away_J3**2).sum() / 2, away_J3 / PRIOR_SD
    for at in votes.chunks():
        ll_P, slopes_R3 = scores(x_J3, votes, at)
        total -= ll_P.sum()
        for kind in range(3):
            slope_J3[:, kind] -= np.bincount(votes.rater_R[at[1]], slopes_R3[:, kind], len(x_J3))
    return float(total), slope_J3.ravel()


def better(joint_PG: Floats, gained_P: Floats) -> Floats:
    """P(m + gained > 0 | votes) by pair; the node that 0 falls on is shared."""
    right_PG = np.clip((NODES_G + gained_P[:, None]) / STEP + 0.5, 0.0, 1.0)
    return np.asarray(np.einsum("pg,pg->p", joint_PG, right_PG) / joint_PG.sum(1))


def better_slope(
    x_J3: Floats, gamma: float, weight_P: Floats, votes: Votes
) -> tuple[Floats, float]:
    """Of Σ weight·better in the raters' parameters [3J], and in γ."""
    slope_J3 = np.zeros_like(x_J3)
    longer_P, by_gamma = votes.longer_R[votes.start_P], 0.0
    for at in votes.chunks():
        pairs, rows, own_R = at
        joint_PG, miss_RG = _nodes(x_J3, votes, at)
        post_PG = np.exp(joint_PG - logsumexp(joint_PG, axis=1)[:, None])
        ahead_PG = (NODES_G + gamma * longer_P[pairs, None]) / STEP + 0.5
        right_PG = np.clip(ahead_PG, 0.0, 1.0)
        density_P = (post_PG * ((ahead_PG > 0) & (ahead_PG < 1))).sum(1) / STEP
        by_gamma += float(weight_P[pairs] @ (density_P * longer_P[pairs]))
        better_P1 = (post_PG * right_PG).sum(1, keepdims=True)
        tilt_PG = weight_P[pairs, None] * post_PG * (right_PG - better_P1)
        slopes_R3 = _slopes(tilt_PG[own_R] * miss_RG, votes, rows)
        for kind in range(3):
            slope_J3[:, kind] += np.bincount(votes.rater_R[rows], slopes_R3[:, kind], len(x_J3))
    return slope_J3.ravel(), by_gamma
