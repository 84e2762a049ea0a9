"""MT-Bench (Zheng et al. 2023) with any judge: two turns, each rated from 1 to 10, figures over turns.

Prompts are MT-Bench's rows (`turns`, `category`, `reference`) or any others: one without a second question is
rated once. Deviations: the rating stands behind "Verdict:" instead of in brackets, and the policy samples as
all of the run do, where the published run draws writing and roleplay at temperature .7.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Literal

from accord.core.measure import Measure
from accord.core.types import Exchange, Prompt
from accord.evals.base import EvaluationContext, Scores, evaluation
from accord.evals.choice import with_turn
from accord.evals.classified import CACHE, rated

__all__ = ["mt_bench"]

TURNS = ("first turn", "second turn")
MEASURES = (
    Measure(
        name="rating", title="rating", better="more", unit="of 10",
        meaning="a judge's rating from 1 to 10, of each question the mean of its turns",
    ),
    Measure(
        name=TURNS[0], title="first turn", better="more", unit="of 10",
        meaning="the same of the first reply",
    ),
    Measure(
        name=TURNS[1], title="second turn", better="more", unit="of 10",
        meaning="the same of the reply to the second question",
    ),
)  # fmt: skip


@evaluation("mt_bench", measures=MEASURES, asks=2)
def mt_bench(
    context: EvaluationContext,
    *,
    judge: str,
    read: Literal["logprobs", "text"] = "text",
    cache: str = CACHE,
) -> Callable[[Sequence[Prompt]], list[Scores]] | None:
    """A reply that the judge gives no rating is left out, not given a score: `n` tells."""
    if context.asker is None:
        return None
    asker = context.asker

    def score(prompts: Sequence[Prompt]) -> list[Scores]:
        rows: list[dict[str, float]] = [{} for _ in prompts]
        talks = dict(enumerate(prompts))
        for turn, name in enumerate(TURNS):
            replies = dict(zip(talks, asker.replies(list(talks.values())), strict=True))
            own = {k: Exchange(prompt=talks[k], response=r) for k, r in replies.items() if r}
            known = [_reference(prompts[k], turn) for k in own]
            ratings = rated(judge, list(own.values()), known, read, cache) if own else []
            for k, rating in zip(own, ratings, strict=True):
                rows[k] |= {} if rating != rating else {name: rating}
            talks = {
                k: with_turn(talks[k], e.response.text, prompts[k].tags["second"])
                for k, e in own.items()
                if "second" in prompts[k].tags
            }
            if not talks:
                break
        return [{**row, "rating": sum(row.values()) / len(row)} if row else {} for row in rows]

    return score


def _reference(prompt: Prompt, turn: int) -> str:
    known = json.loads(prompt.tags.get("references", "[]"))
    return str(known[turn]) if turn < len(known) else ""
