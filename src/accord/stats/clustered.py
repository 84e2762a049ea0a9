"""Standard errors that hold for few clusters: CR2 with Satterthwaite's degrees of freedom.

A coefficient is v'β of a least-squares fit; its design Q [R, P] is orthonormal, so β's part of row i is
Q_i v e_i with e the residuals. Residuals are too small where a cluster pulls the fit; CR2 (Bell & McCaffrey
2002) takes (I - H_gg)^{-1/2} of each cluster's, which for such a design is (I - S_g)^{-1/2} of the sums
S_g = Σ Q_i Q_i'. The degrees of freedom are those at which the variance's own spread is that of a χ² under a
working model: rows of a cluster correlate by ρ, estimated (Imbens & Kolesár 2016, section 3). Under that
model the variance is freed of what bias is left.

Legend: R rows, P columns of the design, K clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.stats.resampling import Floats

__all__ = ["icc", "standard_error"]

ALONE = 1e-9  # what a cluster may leave of itself to the others before it says nothing of spread


def standard_error(
    design_RP: Floats, v_P: Floats, residual_R: Floats, own_R: NDArray[np.int64]
) -> tuple[float, float]:
    """Standard error of v'β and its degrees of freedom; (0, inf) where nothing varies."""
    k, p = int(own_R.max()) + 1, design_RP.shape[1]

    def sums(x_R: Floats) -> Floats:
        return np.asarray(np.bincount(own_R, x_R, k), dtype=float)

    S_KPP = np.empty((k, p, p))
    for a in range(p):
        for b in range(p):
            S_KPP[:, a, b] = sums(design_RP[:, a] * design_RP[:, b])
    slope_KP = np.column_stack([sums(design_RP[:, a] * residual_R) for a in range(p)])
    ones_KP = np.column_stack([sums(design_RP[:, a]) for a in range(p)])
    left, vectors = np.linalg.eigh(np.eye(p) - S_KPP)
    root = np.where(left > ALONE, 1 / np.sqrt(np.maximum(left, ALONE)), 0.0)
    Mv_KP = np.einsum("kab,kb,kcb,c->ka", vectors, root, vectors, v_P)
    variance = float((np.einsum("ka,ka->k", Mv_KP, slope_KP) ** 2).sum())
    rho = icc(residual_R, own_R)
    expected, squares = _moments(S_KPP, ones_KP, Mv_KP, rho)
    if variance <= 0 or expected <= 0:
        return 0.0, np.inf
    own_ones_K = ones_KP @ v_P
    true = (1 - rho) * float(v_P @ v_P) + rho * float(own_ones_K @ own_ones_K)
    return float(np.sqrt(variance * true / expected)), max(expected**2 / squares, 0.5)


def _moments(S_KPP: Floats, ones_KP: Floats, Mv_KP: Floats, rho: float) -> tuple[float, float]:
    """tr G'ΣG and tr (G'ΣG)², G the map from rows to the clusters' scores, Σ = (1-ρ)I + ρ·1 1' by cluster."""
    p = S_KPP.shape[1]
    b_KP = np.einsum("kab,kb->ka", S_KPP, Mv_KP)
    d_K = np.einsum("ka,ka->k", Mv_KP, b_KP)
    alpha_K = np.einsum("ka,ka->k", ones_KP, Mv_KP)
    Z_PP = ones_KP.T @ ones_KP
    diagonal_K = (1 - rho) * d_K + rho * alpha_K**2
    L = np.hstack([b_KP, alpha_K[:, None] * ones_KP])  # what is beside the diagonal is L C L'
    eye = np.eye(p)
    C = np.block([[rho * Z_PP - (1 - rho) * eye, -rho * eye], [-rho * eye, np.zeros((p, p))]])
    inner = C @ (L.T @ L)
    low_K = np.einsum("ka,ab,kb->k", L, C, L)
    expected = diagonal_K.sum() + np.trace(inner)
    squares = (diagonal_K**2).sum() + 2 * diagonal_K @ low_K + np.trace(inner @ inner)
    return float(expected), float(squares)


def icc(x_R: Floats, own_R: NDArray[np.int64]) -> float:
    """Correlation of two rows of a cluster, by analysis of variance, in [0, 1]."""
    n_K = np.bincount(own_R)
    k, n = len(n_K), len(x_R)
    if n == k or k < 2:
        return 0.0
    mean_K = np.bincount(own_R, x_R) / n_K
    between = float((n_K * (mean_K - x_R.mean()) ** 2).sum()) / (k - 1)
    within = float(((x_R - mean_K[own_R]) ** 2).sum()) / (n - k)
    size = (n - float((n_K**2).sum()) / n) / (k - 1)
    whole = between + (size - 1) * within
    return float(np.clip((between - within) / whole, 0.0, 1.0)) if whole > 0 else 0.0
