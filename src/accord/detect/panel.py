"""A panel of detectors, and what it promises: two policies that are one give any alarm at most once in
20 audits, whatever the detectors' dependence (Holm 1979, over all detectors and pairs of policies looked at).

It only takes alarms back. A detector without a p-value keeps its verdict, and is outside the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accord.core.types import Verdict
from accord.detect.base import DetectorContext, Reply
from accord.detect.paired import ALPHA

__all__ = ["controlled", "looked", "worst"]

ORDER = ("undefined", "pass", "warn", "fail")


def looked(
    makes: Sequence[Callable[[DetectorContext], Any]],
    context: DetectorContext,
    answers: Mapping[str, Sequence[Reply]],
    pairs: Sequence[tuple[str, str]],
) -> list[dict[str, Any]]:
    """Every detector's verdict on every (after, before), under the panel's control."""
    looks = [make(context) for make in makes]
    each = [
        (after, before, look(answers[after], answers[before]))
        for after, before in pairs
        for look in looks
    ]
    held = controlled([v for _, _, v in each])
    return [
        {"policy": after, "before": before, "verdict": verdict.model_dump(mode="json")}
        for (after, before, _), verdict in zip(each, held, strict=True)
    ]


def controlled(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with p adjusted by Holm's step-down; an alarm above the level passes."""
    order = sorted((v.p, i) for i, v in enumerate(verdicts) if v.p is not None)
    adjusted, most = list(verdicts), 0.0
    for rank, (p, i) in enumerate(order):
        most = max(most, min(1.0, p * (len(order) - rank)))
        update: dict[str, Any] = {"p": most}
        if most > ALPHA and adjusted[i].outcome in ("warn", "fail"):
            update |= {
                "outcome": "pass",
                "summary": f"not clear among {len(order)} tests: {adjusted[i].summary}",
            }
        adjusted[i] = adjusted[i].model_copy(update=update)
    return adjusted


def worst(verdicts: Sequence[Verdict]) -> str:
    """The gravest outcome there is."""
    return max((v.outcome for v in verdicts), key=ORDER.index, default="pass")
