"""Rejection sampling (RAFT, Dong et al. 2023): best-of-n, then imitate.

The likelihood of the best of each prompt's own answers is raised, a mean over tokens. A prompt whose answers
all have the same score teaches nothing and counts nothing. The log tells what best-of-n itself would earn on
the policy as it is, and cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from accord.train.online.method import Advantages, Method, Several, method

if TYPE_CHECKING:
    from torch import Tensor

    from accord.train.loop.optimise import Objective, Sums
    from accord.train.online.actors import Actors
    from accord.train.online.experience import Experience

__all__ = ["BestOfN"]


@method("best_of_n", "imitation of its own best answers")
class BestOfN(Method):
    """Rejection sampling: likelihood of the best of each prompt's own answers."""

    learns_from: ClassVar = 1
    n: Several = 8

    def advantages(self, experience: Experience, beta: float) -> Advantages:
        """Beside the gaps, what best-of-n would itself earn on the policy as it is, and cost (nats)."""
        import torch

        from accord.stats.best_of_n import best_of_n_kl, expected_best
        from accord.train.loop import dist
        from accord.train.online.groups import by_prompt, gaps

        best = torch.tensor([
            expected_best(by[there].tolist(), min(self.n, int(there.sum())), total[there].tolist())
            for by, total in zip(
                by_prompt(experience.score_C, experience),
                by_prompt(torch.tensor(experience.scored.total), experience),
                strict=True,
            )
            if bool((there := ~by.isnan()).any())
        ], dtype=torch.float64)  # fmt: skip
        best = dist.values_of_all(best)
        worth = gaps(experience)
        more = {
            "best_of_n_kl": best_of_n_kl(self.n),
            "expected_best": sum(best.tolist()) / len(best),
        }
        return replace(worth, facts={**worth.facts, **more})

    def objective(
        self,
        actors: Actors,
        experience: Experience,
        worth: Advantages,
        beta: float,
        gaps: list[float],
    ) -> Objective:
        """Negative log-likelihood of each prompt's best answer."""
        from accord.lm.trees.tree import Tree
        from accord.train.loop.optimise import Objective
        from accord.train.online.groups import ranked

        places = ranked(experience)
        trees = [
            Tree(tree.prompt, (tree.completions[place[0] if place else 0],))
            for tree, place in zip(experience.rollout.trees, places, strict=True)
        ]
        counts = [
            float(len(tree.completions[0])) if place else 0.0
            for tree, place in zip(trees, places, strict=True)
        ]

        def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
            with actors.policy.playing():
                tokens_S = actors.policy.engine.logps([trees[i] for i in items]).tokens_S
            return -tokens_S.sum(), {}

        return Objective([tree.tokens for tree in trees], counts, loss, own=True)
