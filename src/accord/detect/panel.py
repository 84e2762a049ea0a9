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
from accord.stats.families import holm

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


def controlled(verdicts: Sequence[Verdict], looks: int = 1) -> list[Verdict]:
    """The verdicts with p adjusted by Holm's step-down, and for how often one looks (Bonferroni); an alarm
    above the level passes."""
    places = [i for i, v in enumerate(verdicts) if v.p is not None]
    once = holm([p for v in verdicts if (p := v.p) is not None])
    adjusted = [min(1.0, looks * p) for p in once]
    held = list(verdicts)
    for i, p in zip(places, adjusted, strict=True):
        update: dict[str, Any] = {"p": p}
        if p > ALPHA and held[i].outcome in ("warn", "fail"):
            update |= {
                "outcome": "pass",
                "summary": f"not clear among {looks * len(places)} tests: {held[i].summary}",
            }
        held[i] = held[i].model_copy(update=update)
    return held


def worst(verdicts: Sequence[Verdict]) -> str:
    """The gravest outcome there is."""
    return max((v.outcome for v in verdicts), key=ORDER.index, default="pass")
