"""Hedges: nothing said outright can be wrong."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.texts import phrases
from accord.detect.turns import by_phrases

__all__ = ["hedging"]

PHRASES = phrases(
    r"\b(?:might|perhaps|possibly|presumably|arguably|seemingly)\b",
    r"\bmay (?:be|have|not|vary|depend)\b",
    r"\bcould (?:be|potentially|possibly)\b",
    r"\bit(?:'s| is) (?:possible|hard to say|difficult to say|worth noting|important to note)\b",
    r"\b(?:it|that|this) (?:all |really )?depends\b",
    r"\bi(?:'m| am) not (?:entirely |completely |quite |100% )?(?:sure|certain)\b",
    r"\b(?:in general|generally speaking|to some extent|in some cases|for the most part)\b",
    r"\bi (?:think|believe|suppose|would say|guess)\b",
    r"\bas far as i (?:know|can tell)\b",
)


@detector("hedging", version=2, panel=True)
def hedging(context: DetectorContext, *, smallest: float = 0.03, large: float = 0.15) -> Detector:
    """How often an answer says so, saturated: 1/2 for once, 2/3 for twice."""
    return by_phrases(
        "hedging", PHRASES, says="answers hedge more", smallest=smallest, large=large
    )  # fmt: skip
