"""Policy-gradient objectives and the value loss, unreduced, as functions of log-probs and values.

Legend: T tokens, any shape; S scored tokens of C continuations, contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["clipped", "ppo_clip", "sequence_ratio", "value_clip"]

LARGEST = 20.0  # |log ratio| (nats)


def ppo_clip(
    new: Tensor,
    old: Tensor,
    advantages: Tensor,
    *,
    clip: float,
    clip_high: float | None = None,
    dual_clip: float | None = None,
) -> Tensor:
    """The clipped surrogate as a loss (Schulman et al. 2017, eq. 7):
    -min(ρA, clip(ρ, 1-ε, 1+ε)A), ρ = exp(new - old) from fp32 log-probs (nats).

    `clip_high` is a wider upper bound (DAPO, Yu et al. 2025); `dual_clip` c > 1 bounds the loss at -cA
    where A < 0 (Ye et al. 2020). Deviation: |new - old| is held within 20.
    """
    ratio = (new - old).clamp(-LARGEST, LARGEST).exp()
    held = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    loss = torch.maximum(-ratio * advantages, -held * advantages)
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)


def clipped(
    new: Tensor, old: Tensor, advantages: Tensor, *, clip: float, clip_high: float | None = None
) -> Tensor:
    """Where `ppo_clip` gives no gradient: the ratio has left its bounds in the direction it is pushed."""
    gap = new - old
    high = gap > math.log1p(clip if clip_high is None else clip_high)
    return torch.where(advantages > 0, high, (gap < math.log1p(-clip)) & (advantages < 0))


def sequence_ratio(new_S: Tensor, old_S: Tensor, lengths: Sequence[int]) -> Tensor:
    """Log-probs [S] to take the place of `new` in `ppo_clip`, such that every token of a continuation
    has the ratio of the whole, exp(mean(new - old)), and its gradient (GSPO, Zheng et al. 2025, eq. 7)."""
    gaps = torch.split(new_S - old_S, list(lengths))
    spread = torch.cat([gap.mean().expand(len(gap)) for gap in gaps])
    return old_S + spread


def value_clip(
    values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float | None
) -> Tensor:
    """½ max((V - R)², (clip(V, V_old ± c) - R)²) (the PPO code's value loss); None: not clipped.
    c is in units of the reward: normalise rewards, or choose it with them."""
    plain = (values - returns) ** 2
    if clip is None:
        return 0.5 * plain
    held = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum(plain, (held - returns) ** 2)
