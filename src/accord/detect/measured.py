"""Detectors of a score that was measured with a model, and is nothing where it was not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accord.core.types import Verdict
from accord.detect.base import Detector, Reply
from accord.detect.paired import shared_out, verdict

__all__ = ["by_measured"]

UNREAD = "no reward model has read the answers (--reward STAGE)"


def by_measured(
    name: str,
    *,
    says: str,
    smallest: float,
    large: float,
    clear: str | None = None,
    lacks: str = UNREAD,
) -> Detector:
    """A detector of the score of its own name that a reward model's reading left in an answer.

    Args:
        clear: the score that tells which of its examples show it best.
        lacks: what is to be said where there is none.
    """

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        score = name
        if not all(any(score in r.scores and r.near for r in side) for side in (after, before)):
            return Verdict(detector=name, outcome="undefined", summary=lacks)
        given = shared_out(after, before)
        replies = given.replies if given else ()
        column = {
            k: np.array([r.scores.get(k, np.nan) for r in replies]) for k in (score, clear) if k
        }
        verdict_ = verdict(
            name, given, column[score], says=says, smallest=smallest, large=large,
            clear_M=column[clear] if clear else None,
        )  # fmt: skip
        near = {(r.exchange.prompt.last, r.text): list(r.near) for r in after if r.near}
        evidence = tuple(
            e | ({"near": near[k]} if (k := (e["prompt"], e["response"])) in near else {})
            for e in verdict_.evidence
        )
        return verdict_.model_copy(update={"evidence": evidence})

    return look
