"""Reward-model losses: functions of scalar scores, one value per pair, nothing averaged.

Legend: B pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from accord.core.registry import NonNegative, Registry

__all__ = ["PairScores", "get_reward_loss", "reward_loss", "reward_losses"]

reward_losses = Registry("reward loss")


@dataclass(frozen=True)
class PairScores:
    """Scores of B pairs and the margin by which chosen should win, each [B]."""

    chosen: Tensor
    rejected: Tensor
    margin: Tensor

    def swap(self) -> PairScores:
        """The same pairs exchanged; P(chosen wins) = σ(Δ - m), so the margin changes its sign."""
        return PairScores(self.rejected, self.chosen, -self.margin)


def reward_loss(name: str) -> Callable[..., Callable[..., Tensor]]:
    """Register a loss `(scores: PairScores, *, hyper…) -> loss_B`."""
    return reward_losses.register(name)


def get_reward_loss(name: str, **hyper: Any) -> Callable[[PairScores], Tensor]:
    """The loss called `name` with checked hyperparameters; ConfigError names a wrong key."""
    return reward_losses.make(name, **hyper)


@reward_loss("bradley_terry")
def bradley_terry(
    scores: PairScores,
    *,
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0,
    centering: NonNegative = 0.0,
) -> Tensor:
    """Bradley-Terry negative log-likelihood: -log σ(r_w - r_l - m) (Christiano et al. 2017, eq. 1;
    the margin as in Llama 2, Touvron et al. 2023, eq. 2).

    label_smoothing ε mixes in the opposite label. `centering` adds c·(r_w + r_l)² (Eisenstein et
    al. 2023), which pins the scores' free constant.
    """
    h_B = scores.chosen - scores.rejected - scores.margin
    loss_B = -(1 - label_smoothing) * F.logsigmoid(h_B) - label_smoothing * F.logsigmoid(-h_B)
    if centering:
        loss_B = loss_B + centering * (scores.chosen + scores.rejected) ** 2
    return loss_B
