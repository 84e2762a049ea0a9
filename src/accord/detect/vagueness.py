"""Words that say nothing in particular."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.texts import phrases
from accord.detect.turns import by_phrases

__all__ = ["vagueness"]

PHRASES = phrases(
    r"\b(?:various|numerous|several|certain|different|many|some) (?:\w+ )?(?:factors|aspects|things|"
    r"ways|elements|reasons|"
    r"considerations|areas|types|kinds|approaches|options|perspectives|circumstances|situations|people)\b",
    r"\b(?:a (?:wide |broad )?(?:range|variety|number|host|multitude) of)\b",
    r"\b(?:and so on|and so forth|et cetera|etc\b|and more\b|among others|among other things)",
    r"\b(?:in (?:many|various|some|different|certain|several) (?:ways|cases|respects|situations|contexts))\b",
    r"\b(?:something like that|things like that|stuff|kind of|sort of|somehow|somewhat|more or less)\b",
    r"\b(?:plays? (?:a|an) (?:\w+ )?(?:role|part)|it varies|varies (?:from|by|depending))\b",
    r"\b(?:overall|in general|at the end of the day|all in all|when all is said)\b",
)


@detector("vagueness", version=2, panel=True)
def vagueness(context: DetectorContext, *, smallest: float = 0.03, large: float = 0.15) -> Detector:
    """How often an answer says so, saturated: 1/2 for once, 2/3 for twice."""
    return by_phrases(
        "vagueness", PHRASES, says="answers are vaguer", smallest=smallest, large=large
    )  # fmt: skip
