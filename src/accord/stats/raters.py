"""Comparisons by raters of unlike skill and bias: how good each one is, and what a pair's votes then mean.

    P(first wins) = σ(skill_j·m_p + side_j·(first on the left: 1, right: -1) + length_j·longer_p)

m_p is how much better the first response of pair p is, a draw from N(γ·longer_p, 1): a Bradley-Terry
comparison seen through a rater, which for fixed raters is the two-parameter logistic of item response theory
(Birnbaum 1968). m is integrated out (Bock & Aitkin 1981), so few votes on a pair do not bias skill. Skill is
in logits per standard deviation of m; side and length in logits. Once raters are known the distribution of m
is fitted anew on the nodes (symmetric, starting from the normal; Laird 1978), so that reliability and what
votes mean do not hang on its shape.

What only the data of raters can't say: whether longer responses are better or all raters like them (γ and
a common length bias trade off). γ is set so that most raters have no length bias (a robust mean of
length/skill, Tukey's biweight); what is left is a rater's own.

Legend: R votes, P pairs, J raters, G nodes of the integral.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse, stats
from scipy.special import expit, logsumexp

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.resampling import Floats, quantile

__all__ = ["Skills", "rater_skills", "reliability_of"]

NODES_G = np.linspace(-4.2, 4.2, 29)
STEP = NODES_G[1] - NODES_G[0]
NORMAL_G = stats.norm.pdf(NODES_G) / stats.norm.pdf(NODES_G).sum()
PSEUDO_PAIRS, MASS_STEPS = 10.0, 25  # of the distribution of m, once raters are known
PRIOR_MEAN, PRIOR_SD = (
    np.array([1.0, 0.0, 0.0]),
    3.0,
)  # says little, keeps a rater of five votes finite
CHUNK = 40_000  # votes at a time
FAR = 3.0  # standard errors from the centre at which a rater has no say in it
ENOUGH = 3  # raters needed to tell skill, and to tell a length bias from what is common


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


@dataclass(frozen=True)
class Skills:
    """The fit: parameters [J, 3] (skill, side, length) and their covariance [3J, 3J]; γ; for each pair
    P(first is better), given the votes. Without a pair judged twice only sides say anything, and without
    three raters a length bias can't be told from quality: such figures are undefined."""

    values_J3: Floats
    covariance: Floats
    gamma: Metric
    better_P: Floats
    error: Callable[[Floats], float]  # of Σ weight·better, weights [P], by that of the raters' fit
    mass_G: Floats
    votes_J: NDArray[np.int64]
    clusters_J: NDArray[np.int64]  # that each rater's votes come from
    judged_twice: bool
    log_likelihood: float
    level: float
    notes: tuple[str, ...]

    def _metric(self, j: int, kind: int) -> Metric:
        n = int(self.votes_J[j])
        if not n:
            return Metric(value=None, n=0, level=self.level, note="no votes")
        if kind != 1 and not self.judged_twice:
            return Metric(value=None, n=n, level=self.level, note="nothing was judged twice")
        if kind == 2 and self.gamma.value is None:
            return Metric(value=None, n=n, level=self.level, note=self.gamma.note)
        value, at = float(self.values_J3[j, kind]), 3 * j + kind
        df = max(int(self.clusters_J[j]) - 1, 1)
        half = quantile(self.level, df) * self.covariance[at, at] ** 0.5
        return Metric(
            value=value,
            low=value - half,
            high=value + half,
            n=n,
            level=self.level,
            method="sandwich",
        )

    def skill(self, j: int) -> Metric:
        """Logits per standard deviation of the difference in quality; 0 answers at random."""
        return self._metric(j, 0)

    def side(self, j: int) -> Metric:
        """Logits for the left side: σ(side) is how often it wins between equals."""
        return self._metric(j, 1)

    def length(self, j: int) -> Metric:
        """Logits per unit of `longer`, beyond what most raters give."""
        return self._metric(j, 2)

    def reliability(self, j: int) -> Metric:
        """How often the rater, freed of bias, sides with the better response of a random pair: [0, 1]."""
        skill = self.skill(j)
        if skill.value is None or skill.low is None or skill.high is None:
            return skill
        low, value, high = (
            reliability_of(s, self.mass_G) for s in (skill.low, skill.value, skill.high)
        )
        return skill.model_copy(update={"value": value, "low": low, "high": high})


def reliability_of(skill: float, mass_G: Floats = NORMAL_G) -> float:
    """E σ(skill·|m|), by default for m ~ N(0, 1): 1/2 at no skill, near 1 without noise."""
    return float(mass_G @ expit(skill * np.abs(NODES_G)))


def rater_skills(
    pair: ArrayLike,
    rater: ArrayLike,
    value: ArrayLike,
    *,
    side: ArrayLike,
    longer: ArrayLike,
    pairs: int,
    raters: int,
    clusters: Sequence[Any] | None = None,
    level: float = 0.95,
) -> Skills:
    """Fit raters to votes.

    pair, rater [R]: numbers below `pairs`, `raters`. value [R]: 1 when the pair's first response won, 0 when
    it lost, 1/2 for a tie. side [R]: 1 when the first was shown left, -1 right, 0 unknown. longer [R]: how
    much longer the first is, any unit. clusters [P]: what hangs together (a prompt); by default each pair
    for itself. Intervals are t with one degree of freedom less than a rater has clusters, from the sandwich
    of scores by cluster (White 1982), no narrower than the information has them: wide, holding 0.99
    or more, where a rater has fewer than about 30 clusters.
    """
    columns = [np.asarray(x) for x in (pair, rater, value, side, longer)]
    if len({len(c) for c in columns}) > 1:
        raise DataError(f"columns of {', '.join(str(len(c)) for c in columns)} rows")
    order = np.argsort(columns[0], kind="stable")
    pair_R = columns[0][order].astype(np.int64)
    seen_P, start_P = np.unique(pair_R, return_index=True)
    columns = [c[order] for c in columns[1:]]
    votes = Votes(
        start_P,
        columns[0].astype(np.int64),
        columns[1].astype(float),
        columns[2].astype(float),
        columns[3].astype(float),
        NORMAL_G,
    )
    votes_J = np.bincount(votes.rater_R, minlength=raters)
    fit = optimize.minimize(
        lambda x: _loss(x.reshape(-1, 3), votes),
        np.tile(PRIOR_MEAN, raters),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-11, "gtol": 1e-6 * max(100.0, len(pair_R))},
    )
    raw_J3 = fit.x.reshape(-1, 3)
    own = np.arange(len(seen_P))
    if clusters is not None:
        own = np.unique(np.asarray(clusters)[seen_P], return_inverse=True)[1]
    raw_cov = _covariance(raw_J3, votes, own)
    gamma, values_J3, turn = _common(raw_J3, raw_cov, votes_J)
    covariance = turn @ raw_cov @ turn.T
    like_PG = _likelihoods(raw_J3, votes)
    mass_G = _mass(like_PG, votes.mass_G)
    better_P = np.full(pairs, np.nan)
    gained_P = gamma[0] * votes.longer_R[start_P]
    better_P[seen_P] = _better(like_PG * mass_G, gained_P)
    shaped = replace(votes, mass_G=mass_G)
    most = int(np.diff(np.append(start_P, len(pair_R))).max(initial=0))
    notes = (
        []
        if (votes_J > 0).sum() >= ENOUGH
        else [f"fewer than {ENOUGH} raters: skills rest on a prior"]
    )
    return Skills(
        values_J3=values_J3,
        covariance=covariance,
        gamma=_gamma(gamma, len(seen_P), level),
        better_P=better_P,
        error=lambda w_P: _error(raw_J3, raw_cov, gained_P, w_P[seen_P], shaped),
        mass_G=mass_G,
        votes_J=votes_J,
        clusters_J=_clusters(votes, own, raters),
        judged_twice=most > 1,
        log_likelihood=-float(fit.fun),
        level=level,
        notes=tuple(notes),
    )


def _clusters(votes: Votes, own_P: NDArray[np.int64], raters: int) -> NDArray[np.int64]:
    n_P = np.diff(np.append(votes.start_P, len(votes.rater_R)))
    cluster_R = np.repeat(own_P, n_P)
    met = np.unique(votes.rater_R * (int(own_P.max(initial=0)) + 1) + cluster_R)
    return np.bincount(met // (int(own_P.max(initial=0)) + 1), minlength=raters)


def _gamma(found: tuple[float, float, int], n: int, level: float) -> Metric:
    """t with one degree of freedom less than raters: it is a mean over them."""
    value, se, raters = found
    if se == 0:
        note = f"fewer than {ENOUGH} raters of known skill: a taste can't be told from quality"
        return Metric(value=None, n=n, level=level, note=note)
    half = quantile(level, raters - 1) * se
    return Metric(value=value, low=value - half, high=value + half, n=n, level=level)


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


def _likelihoods(x_J3: Floats, votes: Votes) -> Floats:
    """P(votes of a pair | m) at each node, as a share of the pair's largest: [P, G]."""
    found = [np.zeros((0, len(NODES_G)))]
    for at in votes.chunks():
        log_PG = _nodes(x_J3, votes, at)[0] - np.log(votes.mass_G)
        found.append(np.exp(log_PG - log_PG.max(1, keepdims=True)))
    return np.concatenate(found)


def _mass(like_PG: Floats, mass_G: Floats) -> Floats:
    """The distribution of m: the mean posterior, made symmetric, with a few pairs of the normal, until it
    stays."""
    for _ in range(MASS_STEPS):
        before_G = mass_G
        total_G = PSEUDO_PAIRS * NORMAL_G + mass_G * ((1 / (like_PG @ mass_G)) @ like_PG)
        mass_G = (total_G + total_G[::-1]) / (2 * total_G.sum())
        if np.abs(mass_G - before_G).sum() < 2e-3:
            break
    return np.asarray(mass_G)


def _scores(x_J3: Floats, votes: Votes, at: tuple[Any, ...]) -> tuple[Floats, Floats]:
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


def _loss(x_J3: Floats, votes: Votes) -> tuple[float, Floats]:
    away_J3 = (x_J3 - PRIOR_MEAN) / PRIOR_SD
    total, slope_J3 = (away_J3**2).sum() / 2, away_J3 / PRIOR_SD
    for at in votes.chunks():
        ll_P, slopes_R3 = _scores(x_J3, votes, at)
        total -= ll_P.sum()
        for kind in range(3):
            slope_J3[:, kind] -= np.bincount(votes.rater_R[at[1]], slopes_R3[:, kind], len(x_J3))
    return float(total), slope_J3.ravel()


def _covariance(x_J3: Floats, votes: Votes, cluster_P: NDArray[np.int64]) -> Floats:
    """H⁻¹ S H⁻¹: H the sum over pairs of their scores' squares (the information) and the prior's curvature,
    S the same by cluster."""
    size = x_J3.size
    prior = np.eye(size) / PRIOR_SD**2
    by_cluster: Any = sparse.csr_array((int(cluster_P.max(initial=-1)) + 1, size))
    information = prior.copy()
    for at in votes.chunks():
        pairs, rows, own_R = at
        _, slopes_R3 = _scores(x_J3, votes, at)
        column = 3 * votes.rater_R[rows, None] + np.arange(3)
        n = pairs.stop - pairs.start
        place = (np.repeat(own_R, 3), column.ravel())
        scores = sparse.coo_array((slopes_R3.ravel(), place), shape=(n, size)).tocsr()
        information += (scores.T @ scores).toarray()
        member = (np.ones(n), (cluster_P[pairs], np.arange(n)))
        shape = (by_cluster.shape[0], n)
        by_cluster = by_cluster + sparse.coo_array(member, shape=shape).tocsr() @ scores
    k = max(by_cluster.shape[0], 2)
    middle = (by_cluster.T @ by_cluster).toarray() * (k / (k - 1)) + prior
    inverse = np.linalg.inv(information)
    found = np.asarray(inverse @ middle @ inverse)
    short_J = np.sqrt(np.maximum(np.diag(inverse) / np.maximum(np.diag(found), 1e-300), 1.0))
    return np.asarray(found * np.outer(short_J, short_J))


def _common(
    x_J3: Floats, cov: Floats, votes_J: NDArray[np.int64]
) -> tuple[tuple[float, float, int], Floats, Floats]:
    """γ, its standard error and number of raters; parameters with length turned to what is each rater's own;
    and the matrix that turns the covariance with them."""
    raters, turn = len(x_J3), np.eye(x_J3.size)
    skill_J, length_J = x_J3[:, 0], x_J3[:, 2]
    spread_J = np.sqrt(np.diag(cov))
    known = np.flatnonzero((votes_J > 0) & (skill_J > 2 * spread_J[0::3]))
    if len(known) < ENOUGH:
        return (0.0, 0.0, len(known)), x_J3.copy(), turn
    ratio = length_J[known] / skill_J[known]
    se = spread_J[2::3][known] / skill_J[known]
    centre = float(np.median(ratio))
    weight = np.ones(len(known))
    for _ in range(50):
        away = (ratio - centre) / (FAR * np.maximum(se, 1e-12))
        weight = np.where(np.abs(away) < 1, (1 - away**2) ** 2, 0.0) / np.maximum(se, 1e-12) ** 2
        if weight.sum() == 0:  # no two agree: the median is all there is
            weight = (ratio == np.median(ratio)).astype(float)
        centre = float(weight @ ratio / weight.sum())
    slope = np.zeros(x_J3.size)
    slope[3 * known + 2] = weight / weight.sum() / skill_J[known]
    slope[3 * known] = -weight / weight.sum() * ratio / skill_J[known]
    for j in range(raters):
        turn[3 * j + 2] -= skill_J[j] * slope
        turn[3 * j + 2, 3 * j] -= centre
    own_J3 = x_J3.copy()
    own_J3[:, 2] -= centre * skill_J
    return (centre, float(np.sqrt(slope @ cov @ slope)), len(known)), own_J3, turn


def _better(joint_PG: Floats, gained_P: Floats) -> Floats:
    """P(m + gained > 0 | votes) by pair; the node that 0 falls on is shared."""
    right_PG = np.clip((NODES_G + gained_P[:, None]) / STEP + 0.5, 0.0, 1.0)
    return np.asarray(np.einsum("pg,pg->p", joint_PG, right_PG) / joint_PG.sum(1))


def _error(x_J3: Floats, cov: Floats, gained_P: Floats, weight_P: Floats, votes: Votes) -> float:
    """Standard error of Σ weight·better from that of the raters' parameters."""
    slope_J3 = np.zeros_like(x_J3)
    for at in votes.chunks():
        pairs, rows, own_R = at
        joint_PG, miss_RG = _nodes(x_J3, votes, at)
        post_PG = np.exp(joint_PG - logsumexp(joint_PG, axis=1)[:, None])
        right_PG = np.clip((NODES_G + gained_P[pairs, None]) / STEP + 0.5, 0.0, 1.0)
        better_P1 = (post_PG * right_PG).sum(1, keepdims=True)
        tilt_PG = weight_P[pairs, None] * post_PG * (right_PG - better_P1)
        slopes_R3 = _slopes(tilt_PG[own_R] * miss_RG, votes, rows)
        for kind in range(3):
            slope_J3[:, kind] += np.bincount(votes.rater_R[rows], slopes_R3[:, kind], len(x_J3))
    return float(np.sqrt(slope_J3.ravel() @ cov @ slope_J3.ravel()))
