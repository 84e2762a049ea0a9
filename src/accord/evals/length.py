"""How long answers are, and how many were cut off."""

from __future__ import annotations

from accord.core.measure import Measure
from accord.evals.base import EvaluationContext, ReplyScorer, evaluation

__all__ = ["MEASURES", "length"]

MEASURES = (
    Measure(name="words", title="words", meaning="words per answer", unit="words"),
    Measure(
        name="cut off", title="cut off", kind="share", compared=False,
        meaning="share of answers that reached the length limit",
    ),
)  # fmt: skip


@evaluation("length", measures=MEASURES)
def length(context: EvaluationContext) -> ReplyScorer:
    """Words and cut-off answers."""
    return lambda replies: [
        {
            "words": len(r.response.text.split()),
            "cut off": float(r.response.finish == "length"),
        }
        for r in replies
    ]
