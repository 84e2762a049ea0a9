"""How a comparison ends, given the difference η of two strengths (in logits) and a tie parameter τ.

    half         σ(η); a tie is half a win for each            τ is not used          Bradley & Terry 1952
    davidson     e^{η/2} : e^{-η/2} : ν                        τ = log ν              Davidson 1970
    rao_kupper   σ(η - κ), σ(-η - κ), and a tie otherwise      τ = κ > 0              Rao & Kupper 1967

(Rao and Kupper's own parameter is e^κ.) All three are log-concave in (η, τ). Each function takes η and the
weights of wins, losses and ties by row [R], and gives the log-likelihood and its derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit, log_expit

from accord.stats.resampling import Floats

__all__ = ["OUTCOMES", "Outcome", "TieModel", "tie_range"]

TieModel = Literal["half", "davidson", "rao_kupper"]


class Outcome(NamedTuple):
    """Log-likelihood by row, its slopes in η and τ, and its curvatures with the sign turned; each [R]."""

    ll: Floats
    by_eta: Floats
    by_tau: Floats
    eta_eta: Floats
    eta_tau: Floats
    tau_tau: Floats


def _half(eta: Floats, tau: float, win: Floats, loss: Floats, tie: Floats) -> Outcome:
    w, n, log = win + tie / 2, win + loss + tie, log_expit(eta)
    zero, p = np.zeros_like(eta), np.exp(log)
    ll = n * log - (n - w) * eta  # log σ(-η) = log σ(η) - η
    return Outcome(ll, w - n * p, zero, n * p * (1 - p), zero, zero)


def _davidson(eta: Floats, tau: float, win: Floats, loss: Floats, tie: Floats) -> Outcome:
    n = win + loss + tie
    whole = np.logaddexp(np.logaddexp(eta / 2, -eta / 2), tau)
    first, second, tied = (np.exp(x - whole) for x in (eta / 2, -eta / 2, tau))
    lead = first - second
    return Outcome(
        ll=(win - loss) * eta / 2 + tie * tau - n * whole,
        by_eta=(win - loss - n * lead) / 2,
        by_tau=tie - n * tied,
        eta_eta=n * (first + second - lead**2) / 4,
        eta_tau=-n * tied * lead / 2,
        tau_tau=n * tied * (1 - tied),
    )


def _rao_kupper(eta: Floats, tau: float, win: Floats, loss: Floats, tie: Floats) -> Outcome:
    a, b, gap = expit(eta - tau), expit(-eta - tau), np.expm1(2 * tau)
    spread_a, spread_b = (win + tie) * a * (1 - a), (loss + tie) * b * (1 - b)
    tied = log_expit(eta + tau) + log_expit(tau - eta) + np.log(-np.expm1(-2 * tau))
    return Outcome(
        ll=win * log_expit(eta - tau) + loss * log_expit(-eta - tau) + tie * tied,
        by_eta=win * (1 - a) - loss * (1 - b) + tie * (b - a),
        by_tau=-win * (1 - a) - loss * (1 - b) + tie * (a + b + 2 / gap),
        eta_eta=spread_a + spread_b,
        eta_tau=spread_b - spread_a,
        tau_tau=spread_a + spread_b + tie * 4 * np.exp(2 * tau) / gap**2,
    )


OUTCOMES: dict[TieModel, Callable[[Floats, float, Floats, Floats, Floats], Outcome]] = {
    "half": _half,
    "davidson": _davidson,
    "rao_kupper": _rao_kupper,
}


def tie_range(ties: TieModel) -> float:
    """What τ must stay above."""
    return 0.0 if ties == "rao_kupper" else -np.inf
