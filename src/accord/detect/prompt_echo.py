"""An answer that gives the prompt back."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import by_score
from accord.detect.texts import runs, words

__all__ = ["prompt_echo"]


@detector("prompt_echo", panel=True)
def prompt_echo(
    context: DetectorContext, *, n: int = 4, smallest: float = 0.03, large: float = 0.15
) -> Detector:
    """The share of the last message's runs of n words (of all its words, where it has fewer) that the answer
    has too."""

    def score(reply: Reply) -> float:
        asked = words(reply.exchange.prompt.last)
        long = min(n, len(asked))
        there = set(runs(words(reply.text), long)) if long else set()
        theirs = set(runs(asked, long)) if long else set()
        return len(theirs & there) / len(theirs) if theirs else 0.0

    return by_score(
        "prompt_echo", score, says="answers give the prompt back", smallest=smallest, large=large
    )
