"""Preference losses: functions of log-probs, one value per pair, nothing averaged.

Legend: B pairs. Log-probs are sums over completion tokens, fp32 or fp64.
A soft label p = P(chosen is better) needs no loss of its own: `soft` weighs a loss by p and the same
loss with the two sides swapped by 1 - p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from accord.core.registry import NonNegative, Positive, Registry

__all__ = ["PairLogps", "get_preference_loss", "preference_loss", "preference_losses"]

preference_losses = Registry("preference loss")


@dataclass(frozen=True)
class PairLogps:
    """Summed log-probs of B pairs under policy and reference, and token counts, each [B]."""

    policy_chosen: Tensor
    policy_rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    def margin_B(self) -> Tensor:
        """Log-ratio of chosen minus log-ratio of rejected (nats)."""
        return (self.policy_chosen - self.ref_chosen) - (self.policy_rejected - self.ref_rejected)

    def mean_margin_B(self) -> Tensor:
        """The margin of per-token mean log-ratios (nats per token)."""
        chosen_B = (self.policy_chosen - self.ref_chosen) / self.chosen_tokens
        return chosen_B - (self.policy_rejected - self.ref_rejected) / self.rejected_tokens

    def swap(self) -> PairLogps:
        """The same pairs with chosen and rejected exchanged."""
        return PairLogps(
            self.policy_rejected,
            self.policy_chosen,
            self.ref_rejected,
            self.ref_chosen,
            self.rejected_tokens,
            self.chosen_tokens,
        )


def preference_loss(name: str, *, needs_reference: bool) -> Callable[..., Callable[..., Tensor]]:
    """Register a loss `(lp: PairLogps, *, hyper…) -> loss_B`; its keyword parameters are its config."""
    return preference_losses.register(name, needs_reference=needs_reference)


def get_preference_loss(name: str, **hyper: Any) -> Callable[[PairLogps], Tensor]:
    """The loss called `name` with checked hyperparameters; ConfigError names a wrong key."""
    return preference_losses.make(name, **hyper)


@preference_loss("dpo", needs_reference=True)
def dpo(
    lp: PairLogps,
    *,
    beta: Positive = 0.1,
    label_smoothing: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0,
    length_normalized: bool = False,
    chosen_nll: NonNegative = 0.0,
) -> Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7): -log σ(βΔ).

    label_smoothing ε is cDPO (Mitchell 2023): -(1-ε) log σ(βΔ) - ε log σ(-βΔ).
    length_normalized takes Δ of per-token means (as Tülu 3's dpo_norm).
    chosen_nll α adds α times the chosen response's mean negative log-likelihood (Pang et al. 2024,
    eq. 1), which keeps the chosen response from losing probability together with the rejected one.
    """
    h_B = beta * (lp.mean_margin_B() if length_normalized else lp.margin_B())
    eps = label_smoothing
    loss_B = -(1 - eps) * F.logsigmoid(h_B) - eps * F.logsigmoid(-h_B)
    return loss_B - chosen_nll * lp.policy_chosen / lp.chosen_tokens if chosen_nll else loss_B
