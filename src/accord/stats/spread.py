"""How far a fit may be off: the covariance of strengths, from the curvature at the maximum.

Strengths are known up to a constant in each component, so theirs is the pseudo-inverse. It is exact in
components of up to EXACT items; in larger ones its diagonal is estimated with random signs (Hutchinson
1990, Bekas et al. 2007), good to about a hundredth where items are well connected; `method` says so.

Where comparisons come in clusters, it is the jackknife's over clusters in one Newton step each (CR3; Bell &
McCaffrey 2002, MacKinnon, Nielsen & Webb 2023), with degrees of freedom by how evenly the clusters inform a
parameter. An interval is never narrower than independent comparisons would have it.

Legend: N items, Q other parameters, R rows, n items of one component, K clusters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from accord.stats.newton import Problem
from accord.stats.outcomes import Outcome
from accord.stats.resampling import Floats

__all__ = ["Spread", "covariances"]

EXACT = 3000  # items of a component inverted as a matrix
KEPT = 500  # items up to which the whole covariance is kept
PROBES = 48
LEFT_OUT = 40_000_000  # numbers held to leave out each cluster by itself
DENSE = 20_000_000  # numbers of a design that is taken apart faster when it is not sparse
FLAT = 1e-11  # a curvature this small beside the largest is none


class Spread(NamedTuple):
    """Variances [N + Q], those of independent comparisons and degrees of freedom by parameter, the
    covariances [N, N] when there are few items, and how they were found."""

    variance: Floats
    least: Floats
    df: Floats
    covariance_NN: Floats | None
    least_NN: Floats | None
    how: str


def covariances(problem: Problem, x: Floats, cluster_R: NDArray[np.int64] | None) -> Spread:
    """How far each parameter may be off."""
    n, at = problem.n_items, problem.outcome(x)
    if n + problem.design.shape[1] <= EXACT:
        whole, least, df = _whole(problem, at, cluster_R)
        how = "information" if cluster_R is None else "jackknife by cluster"
        whole_NN, least_NN = (m[:n, :n] if n <= KEPT else None for m in (whole, least))
        return Spread(np.diag(whole), np.diag(least), df, whole_NN, least_NN, how)
    by_eta = problem.design * at.eta_eta[:, None]
    curve = (problem.design.T @ by_eta).tocsr()
    theta = curve[:n, :n] + sparse.eye_array(n, format="csr") * problem.ridge
    side_NQ = np.column_stack([curve[:n, n:].toarray(), (problem.design.T @ at.eta_tau)[:n]])
    var_N, solved_NQ, guessed = _diagonal(theta, side_NQ, problem)
    core_QQ = _core(problem, at, curve, n)
    cov_QQ = np.linalg.pinv(core_QQ - side_NQ.T @ solved_NQ)
    var_N = var_N + np.einsum("nq,qr,nr->n", solved_NQ, cov_QQ, solved_NQ)
    how = f"information, estimated with {PROBES} probes" if guessed else "information"
    if cluster_R is not None:
        how += ", clusters ignored: too many items"
    variance = np.append(var_N, np.diag(cov_QQ))
    return Spread(variance, variance, np.full(len(variance), np.inf), None, None, how)


def _core(problem: Problem, at: Outcome, curve: Any, n: int) -> Floats:
    """Curvature of coefficients and τ: [Q, Q]."""
    f = problem.design.shape[1] - n
    core = np.zeros((f + 1, f + 1))
    core[:f, :f] = curve[n:, n:].toarray()
    core[:f, f] = core[f, :f] = (problem.design.T @ at.eta_tau)[n:]
    core[f, f] = 1.0 if problem.ties == "half" else at.tau_tau.sum()
    return core


def _whole(
    problem: Problem, at: Outcome, cluster_R: NDArray[np.int64] | None
) -> tuple[Floats, Floats, Floats]:
    """Covariance of all parameters, by cluster and as the inverse curvature; degrees of freedom."""
    n, size = problem.n_items, problem.design.shape[1] + 1
    curve = np.zeros((size, size))
    curve[:-1, :-1] = (problem.design.T @ (problem.design * at.eta_eta[:, None])).toarray()
    curve[:-1, -1] = curve[-1, :-1] = problem.design.T @ at.eta_tau
    curve[-1, -1] = 1.0 if problem.ties == "half" else at.tau_tau.sum()
    curve[np.arange(n), np.arange(n)] += problem.ridge
    null = np.zeros((size, size))
    if problem.ridge == 0:
        own = np.append(problem.component_N, np.full(size - n, -2))
        for part in range(int(own.max(initial=-1)) + 1):
            member = own == part
            null += np.outer(member, member) / member.sum()
        null[own == -1, own == -1] = 1.0  # items without a strength
    values, vectors = np.linalg.eigh(curve + null)
    flat = values < FLAT * values.max(initial=1.0)
    kept = vectors[:, ~flat]
    inverse = (kept / values[~flat]) @ kept.T - null
    unknown = (np.abs(vectors[:, flat]) > 1e-6).any(1)
    inverse[unknown, unknown] = np.inf  # the data do not tell these apart
    k = 0 if cluster_R is None else int(cluster_R.max(initial=-1)) + 1
    if cluster_R is None or k < 2:
        return inverse, inverse, np.full(size, np.inf)
    known = np.where(unknown, 0.0, 1.0)
    by_cluster, df = _by_cluster(
        problem, at, cluster_R, k, curve + null, inverse * np.outer(known, known)
    )
    by_cluster[unknown, unknown] = np.inf
    return by_cluster, inverse, df


def _by_cluster(
    problem: Problem,
    at: Outcome,
    cluster_R: NDArray[np.int64],
    k: int,
    curve: Floats,
    inverse: Floats,
) -> tuple[Floats, Floats]:
    """Covariance over clusters, each left out once (where there are too many: its slope alone), and
    (Σ v)² / Σ v² - 1 of the variance v that each gives a parameter."""
    size = len(curve)
    rows = sparse.hstack([problem.design * at.by_eta[:, None], at.by_tau[:, None]])
    ones = (np.ones(len(cluster_R)), (cluster_R, np.arange(len(cluster_R))))
    member_KR = sparse.coo_array(ones, shape=(k, len(cluster_R))).tocsr()
    slopes_KD = (member_KR @ rows).toarray()
    scale_R = np.sqrt(np.maximum(at.eta_eta, 0.0))
    along_RD = (problem.design * scale_R[:, None]) @ inverse[:-1]
    given_KD = np.asarray(member_KR @ np.asarray(along_RD) ** 2)
    whole_D, even_D = given_KD.sum(0), (given_KD**2).sum(0)
    df_D = np.maximum(whole_D**2 / np.maximum(even_D, 1e-300) - 1, 1.0)
    df_D[whole_D == 0] = max(k - 1.0, 1.0)
    if k * size**2 > LEFT_OUT:
        moved_KD = slopes_KD @ inverse
    else:
        moved_KD = np.empty_like(slopes_KD)
        design: Any = problem.design
        design = design.toarray() if design.shape[0] * size < DENSE else design
        order = np.argsort(cluster_R, kind="stable")
        ends = np.cumsum(np.bincount(cluster_R, minlength=k))
        for g, own in enumerate(np.split(order, ends[:-1])):
            part = design[own]
            left = curve.copy()
            bent = part.T @ (part * at.eta_eta[own][:, None])
            left[:-1, :-1] -= bent if isinstance(bent, np.ndarray) else bent.toarray()
            cross = part.T @ at.eta_tau[own]
            left[:-1, -1] -= cross
            left[-1, :-1] -= cross
            if problem.ties != "half":
                left[-1, -1] -= at.tau_tau[own].sum()
            moved_KD[g] = np.linalg.pinv(left, rcond=1e-9, hermitian=True) @ slopes_KD[g]
    factor = (k - 1) / k if k * size**2 <= LEFT_OUT else k / (k - 1)
    return np.asarray(moved_KD.T @ moved_KD * factor), df_D


def _diagonal(theta: Any, side_NQ: Floats, problem: Problem) -> tuple[Floats, Floats, bool]:
    """diag(A⁺) [N], A⁺ B [N, Q], and whether the diagonal is an estimate."""
    n = problem.n_items
    var_N, solved_NQ = np.full(n, np.nan), np.zeros_like(side_NQ)
    part_N = problem.component_N
    order = np.argsort(part_N, kind="stable")
    order = order[part_N[order] >= 0]
    parts = np.split(order, np.flatnonzero(np.diff(part_N[order])) + 1) if len(order) else []
    by_size: dict[int, list[Any]] = {}
    for part in parts:
        by_size.setdefault(len(part), []).append(part)
    for size, same in by_size.items():
        if size > EXACT:
            for part in same:
                var_N[part], solved_NQ[part] = _probed(
                    theta[part][:, part], side_NQ[part], problem.ridge
                )
            continue
        for chunk in range(0, len(same), max(1, 2_000_000 // size**2)):
            member = np.array(same[chunk : chunk + max(1, 2_000_000 // size**2)])
            inverse = _inverses(theta, member, problem.ridge)
            var_N[member] = np.diagonal(inverse, axis1=1, axis2=2)
            solved_NQ[member] = inverse @ side_NQ[member]
    return var_N, solved_NQ, max(by_size, default=0) > EXACT


def _inverses(theta: Any, member: NDArray[np.int64], ridge: float) -> Floats:
    """Pseudo-inverses of equally large blocks: [parts, n, n]."""
    parts, size = member.shape
    rows, columns = np.repeat(member, size, 1).ravel(), np.tile(member, (1, size)).ravel()
    blocks = np.asarray(theta[rows, columns]).reshape(parts, size, size)
    null = np.full((size, size), 1.0 / size) if ridge == 0 else np.zeros((size, size))
    return np.asarray(np.linalg.inv(blocks + null) - null)


def _probed(block: Any, side_nQ: Floats, ridge: float) -> tuple[Floats, Floats]:
    n = block.shape[0]
    inverse = 1 / block.diagonal()
    guide = LinearOperator((n, n), matvec=lambda v: inverse * v.ravel())

    def solve(v: Floats) -> Floats:
        if not v.any():
            return v
        v = v if ridge > 0 else v - v.mean()
        solved, _ = cg(block, v, rtol=1e-4, maxiter=1000, M=guide)
        return np.asarray(solved if ridge > 0 else solved - solved.mean())

    signs = np.random.default_rng(0).choice([-1.0, 1.0], (PROBES, n))
    spread_n = np.mean([z * solve(z) for z in signs], axis=0)
    # an estimate below what the item's own comparisons allow is noise: A⁺_ii >= (1 - 1/n)² / A_ii
    floor_n = inverse * (1 - 1 / n) ** 2 if ridge == 0 else inverse
    return np.maximum(spread_n, floor_n), np.column_stack([solve(b) for b in side_nQ.T])
