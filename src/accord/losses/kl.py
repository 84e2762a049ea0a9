"""How far a policy is from its reference, estimated from samples, and what holds it near.

Legend: T tokens, any shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["AdaptiveKL", "FixedKL", "KLEstimator", "kl_estimate"]

KLEstimator = Literal["k1", "k2", "k3"]
LARGEST = 20.0  # exponent of k3 (nats): beyond, one token would outweigh everything
STEP = 0.2  # an update of AdaptiveKL never sees an error beyond this


def kl_estimate(policy: Tensor, ref: Tensor, *, estimator: KLEstimator = "k1") -> Tensor:
    """KL(π‖π_ref) at tokens that π sampled, from their log-probs (nats; Schulman 2020).

    k1 = log π - log π_ref: unbiased, may be negative. k2 = ½ k1²: biased, its gradient is that of the
    KL. k3 = π_ref/π - 1 + k1: unbiased, at least 0. As a *reward* any serves; as a *loss* only k2's
    gradient points the right way (k1's is 0 on average, k3's is that of the forward KL).
    """
    k1 = policy - ref
    if estimator == "k1":
        return k1
    if estimator == "k2":
        return 0.5 * k1**2
    if estimator == "k3":
        return torch.expm1((-k1).clamp(max=LARGEST)) + k1
    raise ValueError(f"unknown estimator {estimator!r}; there are k1, k2, k3")


@dataclass
class FixedKL:
    """The same β throughout."""

    beta: float

    def update(self, observed_kl: float, n: int) -> float:
        """β, whatever was observed."""
        return self.beta


@dataclass
class AdaptiveKL:
    """β that seeks a KL of `target` nats *per sequence* (Ziegler et al. 2019, section 2.2):
    β ← β·(1 + clip(KL/target - 1, ±0.2)·n/horizon) after n sequences. ValueError where n is not below
    5·horizon: β could turn 0 or negative, and pay for drifting away."""

    beta: float
    target: float = 6.0
    horizon: float = 10_000

    def update(self, observed_kl: float, n: int) -> float:
        """The new β after `n` sequences whose mean summed KL was `observed_kl` (nats)."""
        if STEP * n >= self.horizon:
            raise ValueError(
                f"a horizon of {self.horizon:g} is not above {STEP:g} of {n} sequences"
            )
        error = min(max(observed_kl / self.target - 1.0, -STEP), STEP)
        self.beta *= 1.0 + error * n / self.horizon
        return self.beta
