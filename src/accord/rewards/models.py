"""Rewards that are learned: one reward model, or several that must agree.

Legend: E exchanges, M models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from accord.core.registry import NonNegative, UnitInterval
from accord.core.types import Exchange
from accord.rewards.base import Context, Reward, Together, reward

__all__ = ["combined"]


@reward("learned")
def learned(context: Context, *, model: str) -> Reward:
    """The score of a reward model: a reward stage of the recipe, or a folder by its path (./folder)."""
    reward_model: Reward = context.model(model)
    return reward_model


@reward("length_residual")
def length_residual(context: Context, *, model: str) -> Reward:
    """A reward model's score less what the answer's length foretells: the slope is fitted by least squares to
    the answers scored together that have a score (the policy's tokens), and their mean score stays."""

    def residual(exchanges: Sequence[Exchange], scores: Sequence[float]) -> list[float]:
        scores_E = torch.tensor(scores, dtype=torch.float64)
        lengths = [context.count_tokens(e.response.text) for e in exchanges]
        lengths_E, there_E = torch.tensor(lengths, dtype=torch.float64), scores_E.isfinite()
        centred_E = lengths_E - lengths_E[there_E].mean()
        spread = (centred_E[there_E] ** 2).sum()
        slope = (centred_E * scores_E)[there_E].sum() / spread if float(spread) > 0 else 0.0
        return (scores_E - slope * centred_E).tolist()

    return Together(context.model(model), residual)


Combine = Literal["mean", "minimum", "lcb", "quantile"]


@reward("ensemble")
def ensemble(
    context: Context,
    *,
    models: Annotated[list[str], Field(min_length=2)],
    combine: Combine = "lcb",
    k: NonNegative = 1.0,
    q: UnitInterval = 0.25,
) -> Reward:
    """Several reward models as one cautious score (Coste et al. 2023): what a single one is wrong about,
    the others may not be. lcb: mean - k·std (unbiased) over the models; quantile: their q-quantile."""
    members = [context.model(name) for name in models]

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        scores_ME = torch.tensor([list(member(exchanges)) for member in members])
        scores: list[float] = combined(scores_ME, combine, k=k, q=q).tolist()
        return scores

    return score


def combined(scores_ME: Tensor, combine: Combine, *, k: float = 1.0, q: float = 0.25) -> Tensor:
    """Scores [E] of M models as one. NaN in any member is NaN."""
    if combine == "mean":
        return scores_ME.mean(0)
    if combine == "minimum":
        return scores_ME.amin(0)
    if combine == "quantile":
        return scores_ME.quantile(q, dim=0)
    return scores_ME.mean(0) - k * scores_ME.std(0)
