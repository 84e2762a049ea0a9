"""What policy losses read: summed log-probs of pairs, of single answers, of rankings.

Legend: B pairs or answers, G rankings, K answers. Log-probs are sums over completion tokens (nats),
fp32 or fp64; token counts have the same dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["LabelledLogps", "PairLogps", "RankedLogps"]


@dataclass(frozen=True)
class PairLogps:
    """Summed log-probs of B pairs under policy and reference, and token counts, each [B].

    Two losses read more than sums. `tail` gives the part of them that lies beyond the length of the
    pair's shorter answer (LD-DPO); `collision_*` are sums over tokens of log Σ_v π(v)² (WPO).
    """

    policy_chosen: Tensor
    policy_rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor
    tail: Callable[[], PairLogps] | None = None
    collision_chosen: Tensor | None = None
    collision_rejected: Tensor | None = None

    def chosen_ratio_B(self) -> Tensor:
        """log π/π_ref of the chosen answers (nats)."""
        return self.policy_chosen - self.ref_chosen

    def rejected_ratio_B(self) -> Tensor:
        """log π/π_ref of the rejected answers (nats)."""
        return self.policy_rejected - self.ref_rejected

    def margin_B(self) -> Tensor:
        """Δ: log-ratio of chosen minus log-ratio of rejected (nats)."""
        return self.chosen_ratio_B() - self.rejected_ratio_B()

    def mean_margin_B(self) -> Tensor:
        """Δ of per-token means (nats per token)."""
        chosen_B = self.chosen_ratio_B() / self.chosen_tokens
        return chosen_B - self.rejected_ratio_B() / self.rejected_tokens

    def mean_chosen_B(self) -> Tensor:
        """Mean token log-prob of the chosen answers under the policy (nats per token)."""
        return self.policy_chosen / self.chosen_tokens

    def mean_rejected_B(self) -> Tensor:
        """Mean token log-prob of the rejected answers under the policy (nats per token)."""
        return self.policy_rejected / self.rejected_tokens

    def swap(self) -> PairLogps:
        """The same pairs with chosen and rejected exchanged."""
        tail = self.tail
        return PairLogps(
            self.policy_rejected,
            self.policy_chosen,
            self.ref_rejected,
            self.ref_chosen,
            self.rejected_tokens,
            self.chosen_tokens,
            tail and (lambda: tail().swap()),
            self.collision_rejected,
            self.collision_chosen,
        )


@dataclass(frozen=True)
class LabelledLogps:
    """Summed log-probs of B answers judged one by one; label is 1 (or True) for a desirable one.

    kl_policy, kl_ref: log-probs of *mismatched* answers (another prompt's) to the batch's prompts;
    of any length, because only their mean counts. When the B answers are part of a larger batch (a
    micro-batch), `batch` holds the whole, without gradients: what is a mean over the batch is taken
    there, so that the loss does not depend on how the batch is cut.
    """

    policy: Tensor
    ref: Tensor
    kl_policy: Tensor
    kl_ref: Tensor
    label: Tensor
    batch: LabelledLogps | None = None

    def ratio_B(self) -> Tensor:
        """log π/π_ref (nats)."""
        return self.policy - self.ref

    def whole(self) -> LabelledLogps:
        """The batch that means are taken over."""
        return self.batch or self


@dataclass(frozen=True)
class RankedLogps:
    """Summed log-probs [G, K] of G rankings, best answer first, and which of the K are there [G, K]
    (rankings of fewer than K answers are padded at the end)."""

    policy: Tensor
    ref: Tensor
    present: Tensor
