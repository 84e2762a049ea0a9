"""Tokens that are no words: what a policy off its distribution degenerates into."""

from __future__ import annotations

import functools
import re

from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import by_score

__all__ = ["gibberish"]

NO_WORD = re.compile(
    r"(?=[a-z]{5})[^aeiouy]+"  # no vowel
    r"|.*[bcdfghjklmnpqrstvwxz]{6}.*"  # hardly one
    r"|.*(.)\1{3}.*"  # a letter again and again
    r"|.*[a-z][\u0370-\u9fff].*|.*[\u0370-\u9fff][a-z].*"  # two scripts
    r"|[^\w\s]{3,}|[{}\[\]()<>|\\/~^=;]+"  # marks alone
    r"|.*\w[{}\[\]()<>|\\^=;]+\w.*"  # marks within
    r"|.*\ufffd.*"
)
EDGES = "\"'.,:;!?()[]{}*_`“”‘’…-"
FINE = re.compile(r"https?://.*|\W?\.\.\.|[-=*_#~|]{3,}|\w+\(s\)|\d.*")  # links, rules, figures


@detector("gibberish", panel=True)
def gibberish(context: DetectorContext, *, smallest: float = 0.02, large: float = 0.1) -> Detector:
    """The share of an answer's tokens (between spaces, outside code) that no writing has: letters without a
    vowel, repeated letters, mixed scripts, capitals in mid-word, marks alone or within a word."""

    def score(reply: Reply) -> float:
        parts = re.sub(r"```.*?(?:```|$)|`[^`]*`", " ", reply.text, flags=re.DOTALL).split()
        return sum(map(_is_none, parts)) / len(parts) if parts else 0.0

    return by_score(
        "gibberish", score, says="answers hold tokens that are no words", smallest=smallest, large=large
    )  # fmt: skip


@functools.lru_cache(maxsize=65536)
def _is_none(part: str) -> bool:
    if FINE.fullmatch(part):
        return False
    bare = part.strip(EDGES)
    return bool(NO_WORD.fullmatch(bare.lower() or part)) or bool(
        re.search(r"[a-z][A-Z]{1,2}[a-z].*[a-z][A-Z]", bare)
    )
