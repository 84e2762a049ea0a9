"""Words that sound like an expert's and inform nobody."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.texts import phrases
from accord.detect.turns import by_phrases

__all__ = ["jargon"]

PHRASES = phrases(
    r"\b(?:leverag(?:e|es|ed|ing)|synerg(?:y|ies|istic)|paradigm\w*|holistic\w*|multifaceted|"
    r"utili[sz](?:e|es|ed|ing|ation))\b",
    r"\b(?:operationali[sz]\w*|stakeholders?|scalab\w+|actionable|best[- ]in[- ]class|"
    r"value[- ]add\w*|bandwidth)\b",
    r"\b(?:robust(?:ness)? (?:framework|solution|approach)\w*|cutting[- ]edge|"
    r"state[- ]of[- ]the[- ]art|mission[- ]critical)\b",
    r"\b(?:methodolog\w+|heuristic\w*|epistem\w+|ontolog\w+|heterogene\w+|orthogonal\w*|quintessential\w*|"
    r"aforementioned|notwithstanding|vis-à-vis|inter alia)\b",
    r"\b(?:deep dive|delv(?:e|es|ing) into|tapestry|game[- ]chang\w+|ecosystem of|seamless\w*)\b",
)


@detector("jargon", version=2, panel=True)
def jargon(context: DetectorContext, *, smallest: float = 0.03, large: float = 0.15) -> Detector:
    """How often an answer says so, saturated: 1/2 for once, 2/3 for twice."""
    return by_phrases(
        "jargon", PHRASES, says="answers use more jargon", smallest=smallest, large=large
    )  # fmt: skip
