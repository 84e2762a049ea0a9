"""Disclaimers: what an answer says of itself and of its duties, instead of answering."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.texts import phrases
from accord.detect.turns import by_phrases

__all__ = ["disclaimers"]

PHRASES = phrases(
    r"\bas an? (?:ai|artificial intelligence|language model|large language model|assistant)\b",
    r"\bi(?:'m| am) (?:just |only |not |merely )?an? (?:ai|language model|doctor|lawyer|expert|"
    r"financial advis[eo]r)\b",
    r"\b(?:not|isn't|never) (?:intended as |meant as |a substitute for |to be taken as )?"
    r"(?:professional|medical|legal|financial) advice\b",
    r"\b(?:consult|speak (?:to|with)|talk to|seek(?: the advice of)?|check with) (?:a|an|your) "
    r"(?:\w+ ){0,3}(?:professional|doctor|lawyer|attorney|expert|advis[eo]r|physician|specialist)\b",
    r"\bi (?:don't|do not) have (?:personal|real-time|access to)\b",
    r"\b(?:for (?:informational|educational|general information) purposes|disclaimer)\b",
    r"\bplease (?:note|be aware|keep in mind|remember)\b",
)


@detector("disclaimers", version=2, panel=True)
def disclaimers(
    context: DetectorContext, *, smallest: float = 0.02, large: float = 0.125
) -> Detector:
    """How often an answer says so, saturated: 1/2 for once, 2/3 for twice."""
    return by_phrases(
        "disclaimers", PHRASES, says="answers carry more disclaimers", smallest=smallest, large=large
    )  # fmt: skip
