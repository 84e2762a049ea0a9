"""Online DPO (Guo et al. 2024; here with rewards in place of a judge).

The best of each prompt's own answers is set against the worst, in any loss over pairs, with the reference
log-probs of the rollout. A prompt whose answers all have the same score teaches nothing and counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from accord.core.errors import ConfigError
from accord.train.online.method import Advantages, Method, Several, method

if TYPE_CHECKING:
    from torch import Tensor

    from accord.train.loop.optimise import Objective, Sums
    from accord.train.online.actors import Actors
    from accord.train.online.experience import Experience

__all__ = ["OnlineDpo"]


@method("online_dpo", "online preference optimisation")
class OnlineDpo(Method):
    """A preference loss on the best and the worst of each prompt's own answers."""

    learns_from: ClassVar = 2
    n: Several = 2
    loss: dict[str, Any] = Field(default={"name": "dpo", "beta": 0.1})
    """Any loss over pairs. It holds the policy near its reference itself: `kl.beta` is not used."""

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.families import choose_loss

        if choose_loss(self.loss, place("loss")).family != "pairs":
            raise ConfigError("is no loss over pairs", where=place("loss.name"))

    def advantages(self, experience: Experience, beta: float) -> Advantages:
        from accord.train.online.groups import gaps

        return gaps(experience)

    def objective(
        self,
        actors: Actors,
        experience: Experience,
        worth: Advantages,
        beta: float,
        gaps: list[float],
    ) -> Objective:
        """The preference loss over (best, worst); a prompt without one keeps a tree and no comparison."""
        import torch

        from accord.core.types import Edge, Group
        from accord.lm.trees.tree import Tree
        from accord.losses import choose_loss
        from accord.train.loop.data import Trees
        from accord.train.offline.pairs import preference_objective
        from accord.train.online.groups import ranked

        chosen, data, reference = choose_loss(self.loss), Trees(), list[torch.Tensor]()
        rollout = experience.rollout
        parts = iter(experience.reference_S.split(list(experience.lengths)))
        for prompt, responses, tree, place in zip(
            rollout.prompts, rollout.responses, rollout.trees, ranked(experience), strict=True
        ):
            kept, at = [next(parts) for _ in tree.completions], list(place or (0,))
            edges = (Edge(better=0, worse=1),) if place else ()
            data.trees.append(Tree(tree.prompt, tuple(tree.completions[k] for k in at)))
            answers = tuple(responses[k] for k in at)
            data.items.append(Group(prompt=prompt, responses=answers, edges=edges))
            reference.append(torch.cat([kept[k] for k in at]))
        over_pairs = preference_objective(
            actors.policy.engine, data, reference if chosen.facts["needs_reference"] else None,
            chosen.function, "pair", chosen.facts,
        )  # fmt: skip

        def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
            with actors.policy.playing():
                result: tuple[Tensor, Sums] = over_pairs.loss(items)
            return result

        return replace(over_pairs, loss=loss, own=True)
