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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, sparse
from scipy.special import expit

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.resampling import Floats, quantile
from accord.stats.votes import (
    NODES_G,
    NORMAL_G,
    PRIOR_MEAN,
    PRIOR_SD,
    Votes,
    better,
    better_slope,
    likelihoods,
    loss,
    mass,
    scores,
)

__all__ = ["Skills", "rater_skills", "reliability_of"]

FAR = 3.0  # standard errors from the centre at which a rater has no say in it
ENOUGH = 3  # raters needed to tell skill, and to tell a length bias from what is common


@dataclass(frozen=True)
class Taste:
    """γ, its slope in the parameters [3J], of how many raters it is the mean; and what it would be if all
    that they like were quality, for where they are too few to tell."""

    gamma: float
    slope: Floats
    raters: int
    instead: float


@dataclass(frozen=True)
class Skills:
    """The fit: parameters [J, 3] (skill, side, length) and their covariance [3J, 3J]; γ; for each pair
    P(first is better), given the votes. Without a pair judged twice only sides say anything, and without
    three raters a length bias can't be told from quality: such figures are undefined. `moved` says of weights
    [P] by how much each pair moved Σ weight·better through the fit [P], and how much more that would be if
    all that raters like were quality (0 where γ is known)."""

    values_J3: Floats
    covariance: Floats
    gamma: Metric
    better_P: Floats
    moved: Callable[[Floats], tuple[Floats, float]]
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
    seen_P, votes = _by_pair(pair, rater, value, side, longer)
    start_P = votes.start_P
    votes_J = np.bincount(votes.rater_R, minlength=raters)
    fit = optimize.minimize(
        lambda x: loss(x.reshape(-1, 3), votes),
        np.tile(PRIOR_MEAN, raters),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-11, "gtol": 1e-6 * max(100.0, len(votes.rater_R))},
    )
    raw_J3 = fit.x.reshape(-1, 3)
    own = np.arange(len(seen_P))
    if clusters is not None:
        own = np.unique(np.asarray(clusters)[seen_P], return_inverse=True)[1]
    raw_cov, inverse = _covariance(raw_J3, votes, own)
    taste, values_J3, turn = _common(raw_J3, raw_cov, votes_J)
    covariance = turn @ raw_cov @ turn.T
    like_PG = likelihoods(raw_J3, votes)
    mass_G = mass(like_PG, votes.mass_G)
    longer_P = votes.longer_R[start_P]
    seen_better_P = better(like_PG * mass_G, taste.gamma * longer_P)
    better_P = np.full(pairs, np.nan)
    better_P[seen_P] = seen_better_P
    shaped = replace(votes, mass_G=mass_G)

    def moved(weight_P: Floats) -> tuple[Floats, float]:
        by_P, of_P = np.zeros(pairs), weight_P[seen_P]
        by_P[seen_P] = _influence(raw_J3, inverse, taste, of_P, shaped)
        other_P = better(like_PG * mass_G, taste.instead * longer_P)
        return by_P, float(of_P @ (other_P - seen_better_P))

    most = int(np.diff(np.append(start_P, len(votes.rater_R))).max(initial=0))
    notes = (
        []
        if (votes_J > 0).sum() >= ENOUGH
        else [f"fewer than {ENOUGH} raters: skills rest on a prior"]
    )
    return Skills(
        values_J3=values_J3,
        covariance=covariance,
        gamma=_gamma(taste, raw_cov, len(seen_P), level),
        better_P=better_P,
        moved=moved,
        mass_G=mass_G,
        votes_J=votes_J,
        clusters_J=_clusters(votes, own, raters),
        judged_twice=most > 1,
        log_likelihood=-float(fit.fun),
        level=level,
        notes=tuple(notes),
    )


def _by_pair(pair: ArrayLike, *of_R: ArrayLike) -> tuple[NDArray[np.int64], Votes]:
    """The pairs there are votes on, and (rater, value, side, longer) sorted by them."""
    pair_R, *columns = (np.asarray(x) for x in (pair, *of_R))
    sizes = [len(c) for c in (pair_R, *columns)]
    if len(set(sizes)) > 1:
        raise DataError(f"columns of {', '.join(map(str, sizes))} rows")
    order = np.argsort(pair_R, kind="stable")
    seen_P, start_P = np.unique(pair_R[order].astype(np.int64), return_index=True)
    rater_R, value_R, side_R, longer_R = (c[order].astype(float) for c in columns)
    return seen_P, Votes(start_P, rater_R.astype(np.int64), value_R, side_R, longer_R, NORMAL_G)


def _clusters(votes: Votes, own_P: NDArray[np.int64], raters: int) -> NDArray[np.int64]:
    n_P = np.diff(np.append(votes.start_P, len(votes.rater_R)))
    cluster_R = np.repeat(own_P, n_P)
    met = np.unique(votes.rater_R * (int(own_P.max(initial=0)) + 1) + cluster_R)
    return np.bincount(met // (int(own_P.max(initial=0)) + 1), minlength=raters)


def _gamma(taste: Taste, cov: Floats, n: int, level: float) -> Metric:
    """t with one degree of freedom less than raters: it is a mean over them."""
    if taste.raters < ENOUGH:
        note = f"fewer than {ENOUGH} raters of known skill: a taste can't be told from quality"
        return Metric(value=None, n=n, level=level, note=note)
    half = quantile(level, taste.raters - 1) * float(np.sqrt(taste.slope @ cov @ taste.slope))
    value = taste.gamma
    return Metric(value=value, low=value - half, high=value + half, n=n, level=level)


def _covariance(x_J3: Floats, votes: Votes, cluster_P: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """H⁻¹ S H⁻¹ and H⁻¹: H the sum over pairs of their scores' squares (the information) and the prior's
    curvature, S the same by cluster."""
    size = x_J3.size
    prior = np.eye(size) / PRIOR_SD**2
    by_cluster: Any = sparse.csr_array((int(cluster_P.max(initial=-1)) + 1, size))
    information = prior.copy()
    for at in votes.chunks():
        pairs, rows, own_R = at
        _, slopes_R3 = scores(x_J3, votes, at)
        column = 3 * votes.rater_R[rows, None] + np.arange(3)
        n = pairs.stop - pairs.start
        place = (np.repeat(own_R, 3), column.ravel())
        by_pair = sparse.coo_array((slopes_R3.ravel(), place), shape=(n, size)).tocsr()
        information += (by_pair.T @ by_pair).toarray()
        member = (np.ones(n), (cluster_P[pairs], np.arange(n)))
        shape = (by_cluster.shape[0], n)
        by_cluster = by_cluster + sparse.coo_array(member, shape=shape).tocsr() @ by_pair
    k = max(by_cluster.shape[0], 2)
    middle = (by_cluster.T @ by_cluster).toarray() * (k / (k - 1)) + prior
    inverse = np.linalg.inv(information)
    cov = np.asarray(inverse @ middle @ inverse)
    short_J = np.sqrt(np.maximum(np.diag(inverse) / np.maximum(np.diag(cov), 1e-300), 1.0))
    return np.asarray(cov * np.outer(short_J, short_J)), np.asarray(inverse)


def _common(x_J3: Floats, cov: Floats, votes_J: NDArray[np.int64]) -> tuple[Taste, Floats, Floats]:
    """The taste that most raters share; parameters with length turned to what is each rater's own; and the
    matrix that turns the covariance with them."""
    raters, turn = len(x_J3), np.eye(x_J3.size)
    skill_J, length_J = x_J3[:, 0], x_J3[:, 2]
    spread_J = np.sqrt(np.diag(cov))
    known = np.flatnonzero((votes_J > 0) & (skill_J > 2 * spread_J[0::3]))
    if len(known) < ENOUGH:
        say_J = (votes_J > 0) / np.maximum(spread_J[2::3], 1e-12) ** 2
        all_of_it = float(say_J @ (skill_J * length_J) / max(say_J @ skill_J**2, 1e-12))
        return Taste(0.0, np.zeros(x_J3.size), len(known), all_of_it), x_J3.copy(), turn
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
    return Taste(centre, slope, len(known), centre), own_J3, turn


def _influence(
    x_J3: Floats, inverse: Floats, taste: Taste, weight_P: Floats, votes: Votes
) -> Floats:
    """By how much each pair moves Σ weight·better through the raters' parameters, γ among them: its score
    times H⁻¹ and the slope (Deville 1999)."""
    slope, by_gamma = better_slope(x_J3, taste.gamma, weight_P, votes)
    along_J3 = (inverse @ (slope + by_gamma * taste.slope)).reshape(-1, 3)
    influence_P = np.zeros(len(weight_P))
    for at in votes.chunks():
        pairs, rows, own_R = at
        by_R = (scores(x_J3, votes, at)[1] * along_J3[votes.rater_R[rows]]).sum(1)
        influence_P[pairs] = np.bincount(own_R, by_R, pairs.stop - pairs.start)
    return influence_P
