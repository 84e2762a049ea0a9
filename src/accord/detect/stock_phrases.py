"""Passages that answers to different prompts have in common."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.sharing import by_sharing
from accord.detect.texts import runs, words

__all__ = ["stock_phrases"]


@detector("stock_phrases", version=2, panel=True)
def stock_phrases(
    context: DetectorContext, *, n: int = 8, smallest: float = 0.1, large: float = 0.25
) -> Detector:
    """The share of answers with a run of n words that an answer to another prompt has too."""
    return by_sharing(
        "stock_phrases", lambda r: runs(words(r.text), n), says="answers share stock phrases",
        smallest=smallest, large=large,
    )  # fmt: skip
