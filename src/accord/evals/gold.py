"""The truth, where the world behind the data knows it."""

from __future__ import annotations

from collections.abc import Sequence

from accord.core.measure import Measure
from accord.core.types import Exchange
from accord.evals.base import EvaluationContext, ReplyScorer, Scores, evaluation
from accord.worlds.help_desk import MEASURES

__all__ = ["gold"]


def _measures(context: EvaluationContext) -> Sequence[Measure]:
    return context.world.measures if context.world else MEASURES


@evaluation("gold", measures=_measures)
def gold(context: EvaluationContext) -> ReplyScorer | None:
    """A reply's true scores by the world's own rules; nothing of data without a world."""
    world = context.world
    if world is None:
        return None

    def score(replies: Sequence[Exchange]) -> list[Scores]:
        cases = [world.by_prompt.get(r.prompt.id) for r in replies]
        return [
            world.gold(case, r.response) if case else {}
            for case, r in zip(cases, replies, strict=True)
        ]

    return score
