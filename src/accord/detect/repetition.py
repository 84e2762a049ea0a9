"""An answer that says the same again."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import by_score
from accord.detect.texts import runs, words

__all__ = ["repetition"]


@detector("repetition", panel=True)
def repetition(
    context: DetectorContext, *, n: int = 3, smallest: float = 0.02, large: float = 0.1
) -> Detector:
    """The share of an answer's runs of n words that it has had before."""

    def score(reply: Reply) -> float:
        grams = runs(words(reply.text), n)
        return 1 - len(set(grams)) / len(grams) if grams else 0.0

    return by_score(
        "repetition", score, says="answers repeat themselves", smallest=smallest, large=large
    )
