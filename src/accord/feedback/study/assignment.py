"""Which question next, in which order, and when enough people have answered. Pure functions.

A question's answers are kept as a tally: {axis: {category: n}}, in the order of the study and never in the
order shown. `compare` has the categories first, second, tie and both bad, `thumb` up and down; a rating has
an axis per criterion; of a ranking the response ranked first counts, of steps the first bad one.

Legend: K responses, M reward models.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from accord.core.types import (
    Answer,
    Preference,
    Ranking,
    Rating,
    StepLabels,
    Thumb,
)
from accord.feedback.study.definition import Arms, Overlap

__all__ = [
    "UNTOLD",
    "add_to",
    "agrees",
    "balanced_order",
    "categories",
    "choose_arm",
    "confidence",
    "disagreement",
    "information_gain",
    "state_after",
    "wins",
]

Tally = dict[str, dict[str, int]]
Floats = NDArray[np.float64]
SIDES = ({"first", "second"}, {"up", "down"})  # no third answer is expected beside these
PRIOR_SD = 1.5  # logits: of a response's quality before anybody spoke
UNTOLD = 0.2455223020041627  # nats: what a first comparison tells, `information_gain` of no votes


# -- answers as categories ------------------------------------------------------------------------


def categories(answer: Answer, order: Sequence[int]) -> dict[str, str]:
    """The category on each axis; `order[k]` is the study's index of the response shown k-th.
    A writing has none: nothing is settled by it."""
    if isinstance(answer, Preference):
        if answer.better is None:
            return {"": "both bad" if answer.both_bad else "tie"}
        return {"": "first" if order[answer.better] == 0 else "second"}
    if isinstance(answer, Thumb):
        return {"": "up" if answer.up else "down"}
    if isinstance(answer, Rating):
        return {axis: f"{score:g}" for axis, score in answer.scores.items()}
    if isinstance(answer, Ranking):
        best = sorted(order[k] for k, rank in enumerate(answer.ranks) if rank == min(answer.ranks))
        return {"": "+".join(map(str, best))}
    if isinstance(answer, StepLabels):
        bad = [k for k, label in enumerate(answer.labels) if label < 0]
        return {"": str(bad[0]) if bad else "none"}
    return {}


def add_to(tally: Tally, answer: Mapping[str, str], n: int = 1) -> Tally:
    """A new tally with `n` more of these answers; what falls to nothing leaves it."""
    total = {axis: dict(counts) for axis, counts in tally.items()}
    for axis, category in answer.items():
        counts = total.setdefault(axis, {})
        counts[category] = counts.get(category, 0) + n
        if counts[category] <= 0:
            del counts[category]
    return {axis: counts for axis, counts in total.items() if counts}


def confidence(counts: Mapping[str, int]) -> float:
    """P(the leading answer is the likeliest) under a Dirichlet(1, …) prior on the answers given and, unless
    these are two sides, one that nobody gave. So n who all say the same settle a question, whatever it is.

    Over independent gammas, whose shares have that distribution: ∫ gamma(x; a_max) Π_j F(x; a_j) dx, which
    of two is 1 - I_{1/2}(a, b).
    """
    from scipy import special

    if not counts:
        return 0.0
    unseen = [] if counts.keys() in SIDES else [0]
    alphas = np.array([*sorted(counts.values(), reverse=True), *unseen], dtype=float) + 1.0
    if len(alphas) == 2:
        return float(1 - special.betainc(*alphas, 0.5))
    return _p_largest(alphas)


def _p_largest(alphas_C: Floats) -> float:
    """P(the first of independent gammas is the largest), by Gauss-Legendre quadrature."""
    from scipy import special

    top = alphas_C[0] + 12 * math.sqrt(alphas_C[0]) + 12
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = (nodes + 1) * top / 2
    density = np.exp((alphas_C[0] - 1) * np.log(x) - x - special.gammaln(alphas_C[0]))
    below = np.prod([special.gammainc(a, x) for a in alphas_C[1:]], axis=0)
    return float((weights * density * below).sum() * top / 2)


def state_after(tally: Tally, n: int, overlap: Overlap) -> Literal["open", "settled", "disputed"]:
    """What becomes of a question that `n` people answered: ask on, enough, or an adjudicator's."""
    if n < overlap.min:
        return "open"
    if all(confidence(counts) >= overlap.confidence for counts in tally.values()):
        return "settled"
    if n < overlap.max:
        return "open"
    leads = [max(counts.values()) / sum(counts.values()) for counts in tally.values()]
    return "disputed" if n > 1 and min(leads, default=1.0) < overlap.dispute_below else "settled"


def agrees(answer: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether an answer says the same as one known, or given before; a rating may be one point off."""
    if answer.keys() != known.keys():
        return False
    return all(
        _near(answer[axis], known[axis]) if axis else answer[axis] == known[axis] for axis in known
    )


def _near(a: str, b: str) -> bool:
    return abs(float(a) - float(b)) <= 1.0


# -- the order shown ------------------------------------------------------------------------------


def balanced_order(
    k: int, before: Sequence[Sequence[int]], own: Sequence[Sequence[int]], draw: random.Random
) -> list[int]:
    """An order of K responses in which each has stood in each place about as often: least used on this
    question `before`, then least used by this rater (`own`, the orders of earlier questions), then drawn."""
    base = draw.sample(range(k), k)
    turns = [base[s:] + base[:s] for s in range(k)]

    def cost(order: list[int]) -> tuple[int, int]:
        here = sum(o[p] == r for o in before for p, r in enumerate(order) if len(o) == k)
        mine = sum(o[0] == order[0] for o in own if len(o) == k)
        return here, mine

    return min(turns, key=cost)


# -- which question -------------------------------------------------------------------------------


def choose_arm(arms: Arms, draw: random.Random) -> str:
    """random, disagreement or information, with the study's shares."""
    at = draw.random()
    if at < arms.disagreement:
        return "disagreement"
    return "information" if at < arms.disagreement + arms.information else "random"


def disagreement(scores_KM: Sequence[Sequence[float]]) -> float:
    """In [0, 1]: how far reward models disagree on which response is best. With several models: twice the
    standard deviation of P(first better) = σ(s_1 - s_2) over the models, the largest over pairs; with
    one: 1 - |2p - 1|, how undecided it is."""
    s_KM = np.asarray(scores_KM, dtype=float)
    if s_KM.ndim != 2 or s_KM.shape[0] < 2 or s_KM.shape[1] < 1:
        return 0.0
    gaps = s_KM[:, None, :] - s_KM[None, :, :]
    p_KKM = 1 / (1 + np.exp(-np.clip(gaps, -30, 30)))
    i, j = np.triu_indices(s_KM.shape[0], 1)
    if s_KM.shape[1] == 1:
        return float((1 - np.abs(2 * p_KKM[i, j, 0] - 1)).max())
    return float(min(1.0, 2 * p_KKM[i, j].std(-1).max()))


def wins(k: int, votes: Sequence[tuple[int, int, float]]) -> Floats:
    """[K, K] wins of row over column from (a, b, share of votes for a) each counted once."""
    wins_KK = np.zeros((k, k))
    for a, b, share in votes:
        wins_KK[a, b] += share
        wins_KK[b, a] += 1 - share
    return wins_KK


def information_gain(wins_KK: Floats, prior_sd: float = PRIOR_SD) -> Floats:
    """[K, K] nats one more comparison of a pair would tell about the qualities of K responses.

    Bradley-Terry with a normal prior, its posterior by Laplace's approximation: mean u and covariance
    Σ = (H + I/σ²)⁻¹ at the mode. The answer's gain about the gap d = u_i - u_j, of variance v, is
    H(E p) - E H(p), taken by Gauss-Hermite quadrature over d (Houlsby et al. 2011, eq. 2: BALD).
    """
    k = len(wins_KK)
    u_K, games_KK = np.zeros(k), wins_KK + wins_KK.T
    for _ in range(50):
        p_KK = 1 / (1 + np.exp(-(u_K[:, None] - u_K[None, :])))
        slope_K = (wins_KK - games_KK * p_KK).sum(1) - u_K / prior_sd**2
        curve_KK = games_KK * p_KK * (1 - p_KK)
        hessian_KK = np.diag(curve_KK.sum(1)) - curve_KK + np.eye(k) / prior_sd**2
        step_K = np.linalg.solve(hessian_KK, slope_K)
        u_K = u_K + step_K
        if np.abs(step_K).max() < 1e-9:
            break
    cov_KK = np.linalg.inv(hessian_KK)
    spread_KK = np.diag(cov_KK)[:, None] + np.diag(cov_KK)[None, :] - 2 * cov_KK
    nodes, weights = np.polynomial.hermite_e.hermegauss(31)
    weights = weights / weights.sum()
    d = (u_K[:, None] - u_K[None, :])[..., None]
    d = d + np.sqrt(np.maximum(spread_KK, 0))[..., None] * nodes
    p = 1 / (1 + np.exp(-np.clip(d, -30, 30)))
    return np.asarray(_entropy((p * weights).sum(-1)) - (_entropy(p) * weights).sum(-1))


def _entropy(p: Floats) -> Floats:
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-q * np.log(q) - (1 - q) * np.log(1 - q))
