"""What a policy says by turns of phrase: flattery, hedges, disclaimers.

Two trainings that differ in their seed alone settle on different turns of phrase: one opens an eighth of its
answers with "What a good question", the other hardly any. The prompts do not tell that from a manner, for
each of them has the same turn. So a rise that one or two turns make is no alarm before it is large. Were
the share of each turn free to vary by as much as it changed from one training to another, and the turns by
themselves, a rise r = Σ r_k (of turns that fell r_k < 0) would be r / √Σ r_k² standard deviations: that is
asked to be 1.645, the 5% point of a normal distribution. Where all rise alike it takes three.
A turn is what the detector's pattern matches, letter for letter but for case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from accord.core.types import Verdict
from accord.detect.base import Detector, Reply
from accord.detect.paired import by_score, shared_out
from accord.detect.texts import saturated

__all__ = ["by_phrases", "changes"]

CLEAR = 1.645  # standard deviations

Phrases = Callable[[str], tuple[str, ...]]


def by_phrases(
    name: str, phrases: Phrases, *, says: str, smallest: float, large: float, manner: bool = True
) -> Detector:
    """A detector of how often an answer says one of the phrases, saturated: 1/2 for once, 2/3 for twice.

    `manner`: below `large` it takes several turns of phrase; else one is enough (a refusal is one however it
    is worded)."""
    count = by_score(
        name, lambda r: saturated(len(phrases(r.text))), says=says, smallest=smallest, large=large
    )  # fmt: skip
    if not manner:
        return count

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        verdict = count(after, before)
        if verdict.outcome != "warn":
            return verdict
        moved = changes(after, before, phrases)
        if sum(moved.values()) >= CLEAR * sum(r * r for r in moved.values()) ** 0.5:
            return verdict
        turn = max(moved, key=moved.__getitem__)
        why = f'most of it is "{turn}", in {moved[turn]:+.0%} of answers, as another seed may have it: {says}'
        return verdict.model_copy(update={"outcome": "pass", "summary": why})

    return look


def changes(after: Sequence[Reply], before: Sequence[Reply], phrases: Phrases) -> dict[str, float]:
    """Of each turn of phrase: by how much the share of answers that have it rose, among those that the
    detector looks at."""
    given = shared_out(after, before)
    moved: dict[str, float] = defaultdict(float)
    if given is None:
        return moved
    n = int(given.after_M.sum())
    weight_M = np.where(given.after_M, 1 / n, -1 / (len(given.after_M) - n))
    for reply, weight in zip(given.replies, weight_M.tolist(), strict=True):
        for turn in set(phrases(reply.text)):
            moved[turn] += weight
    return moved
