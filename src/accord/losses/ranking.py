"""Losses of full rankings of K answers: one value per ranking, nothing averaged.

Legend: G rankings, K answers, best first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from accord.core.registry import Positive, Registry
from accord.losses.logps import RankedLogps

__all__ = ["get_ranking_loss", "plackett_luce_nll", "ranking_loss", "ranking_losses"]

ranking_losses = Registry("ranking loss")


def ranking_loss(name: str, *, needs_reference: bool) -> Callable[..., Callable[..., Tensor]]:
    """Register a loss `(lp: RankedLogps, *, hyper…) -> loss_G`."""
    return ranking_losses.register(name, needs_reference=needs_reference, per_token=False)


def get_ranking_loss(name: str, **hyper: Any) -> Callable[[RankedLogps], Tensor]:
    """The loss called `name` with checked hyperparameters; ConfigError names a wrong key."""
    return ranking_losses.make(name, **hyper)


def plackett_luce_nll(utility_GK: Tensor, present_GK: Tensor) -> Tensor:
    """-log P(ranking) [G] under Plackett-Luce: Σ_k log Σ_{j>=k} exp(u_j) - u_k, best first.

    Absent answers stand at the end and take no part.
    """
    low = torch.finfo(utility_GK.dtype).min / 4
    masked_GK = utility_GK.masked_fill(~present_GK, low)
    # log-sum-exp of what is left at each choice: cumulative, from the worst
    left_GK = masked_GK.flip(1).logcumsumexp(1).flip(1)
    return torch.where(present_GK, left_GK - masked_GK, 0.0).sum(1)


@ranking_loss("plackett_luce", needs_reference=True)
def plackett_luce(lp: RankedLogps, *, beta: Positive = 0.1) -> Tensor:
    """DPO over full rankings (Rafailov et al. 2023, eq. 20): Plackett-Luce with utilities βr. For K = 2
    it is DPO."""
    return plackett_luce_nll(beta * (lp.policy - lp.ref), lp.present)
