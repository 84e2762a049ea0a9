"""Answers that begin alike."""

from __future__ import annotations

from accord.detect.base import Detector, DetectorContext, detector
from accord.detect.sharing import by_sharing
from accord.detect.texts import words

__all__ = ["templates"]


@detector("templates", version=2, panel=True)
def templates(
    context: DetectorContext, *, n: int = 4, smallest: float = 0.2, large: float = 0.4
) -> Detector:
    """The share of answers whose first n words are those of an answer to another prompt."""
    return by_sharing(
        "templates", lambda r: [tuple(words(r.text)[:n])] if len(words(r.text)) >= n else [],
        says="answers begin alike", smallest=smallest, large=large,
    )  # fmt: skip
