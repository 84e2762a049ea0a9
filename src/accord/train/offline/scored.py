"""Log-probs of a batch of trees under policy and reference, and what is read off them.

Legend: S scored tokens, C continuations, in order and contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.core.types import Metric
from accord.lm.trees.engine import ContinuationLogps, Engine, sums
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree, scored_tokens
from accord.stats.intervals import cluster_mean
from accord.train.loop.optimise import Sums

__all__ = ["Scored", "at_rest", "mean_by_prompt", "score", "totals"]


@dataclass(frozen=True)
class Scored:
    """Token log-probs [S] of C continuations; reference_S is None where there is no reference."""

    policy_S: Tensor
    reference_S: Tensor | None
    lengths: tuple[int, ...]
    collision_S: Tensor | None = None

    def policy_C(self) -> Tensor:
        """Summed log-probs under the policy (nats)."""
        return sums(self.policy_S, self.lengths)

    def reference_C(self) -> Tensor:
        """Summed log-probs under the reference (nats); zeros without one."""
        if self.reference_S is None:
            return torch.zeros(len(self.lengths), device=self.policy_S.device)
        return sums(self.reference_S, self.lengths)

    def tokens_C(self) -> Tensor:
        """Scored tokens of each continuation."""
        return torch.tensor(self.lengths, dtype=self.policy_S.dtype, device=self.policy_S.device)

    def tail_sums(self, values_S: Tensor, which: Sequence[int], after: Sequence[int]) -> Tensor:
        """For each continuation in `which`, the sum of its values beyond its first `after` tokens."""
        parts = values_S.split(list(self.lengths))
        return torch.stack([parts[c][n:].sum() for c, n in zip(which, after, strict=True)])

    def k3_C(self) -> Tensor | None:
        """Mean over tokens of k3 = e^d - 1 - d, d = log π_ref - log π, of each continuation: at least 0,
        0 where nothing moved. On given answers, so a gauge of distance, not an unbiased KL (for that
        the answers must be the policy's own; Schulman 2020). d is held within ±20. No gradient."""
        if self.reference_S is None:
            return None
        d_S = (self.reference_S - self.policy_S.detach()).clamp(-20.0, 20.0)
        return sums(torch.expm1(d_S) - d_S, self.lengths) / self.tokens_C()


def score(
    engine: Engine,
    trees: Sequence[Tree],
    reference: Sequence[Tensor] | None,
    *,
    collision: bool = False,
) -> Scored:
    """The batch under the policy, with gradients, beside its reference log-probs."""
    logps: ContinuationLogps = engine.logps(trees, collision=collision)
    kept_S = None if reference is None else torch.cat(list(reference)).to(logps.tokens_S.device)
    return Scored(logps.tokens_S, kept_S, logps.lengths, logps.collision_S)


def at_rest(
    engine: Engine, trees: Sequence[Tree], reference: Sequence[Tensor] | None, tokens: int
) -> Scored:
    """The same over any number of trees, without gradients, on the CPU."""
    policy = token_logps(engine, trees, tokens)
    kept_S = None if reference is None else torch.cat(list(reference))
    lengths = tuple(n for tree in trees for n in scored_tokens(tree))
    return Scored(torch.cat(policy), kept_S, lengths)


def mean_by_prompt(columns: dict[str, Tensor], prompts: Sequence[str]) -> dict[str, Metric]:
    """The mean of each column of row values, interval by prompt."""
    return {
        name: cluster_mean(values.tolist(), prompts, share=name == "accuracy")
        for name, values in columns.items()
    }


def totals(columns: dict[str, Tensor]) -> Sums:
    """(sum, count) of each column."""
    return {name: (float(x.detach().sum()), len(x)) for name, x in columns.items()}
