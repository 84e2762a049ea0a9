"""What an answer has that may draw a judge to it whether it is better or not: words, details, requests."""

from __future__ import annotations

import re

__all__ = ["FEATURES", "details", "requests", "sign", "words"]

DETAIL = re.compile(r"\d+(?:[.,:/-]\d+)*|[\"“][^\"”]{2,60}[\"”]|`[^`]+`|(?<=[a-z,;] )[A-Z][\w-]+")
JUDGE = r"(?:judge|grader|evaluator|rater|annotator|reviewer)s?"
REQUEST = re.compile(
    r"\b(?:ignore|disregard|forget)\W+(?:(?:all|any|the|your|previous|prior|above|other|earlier)\W+)+"
    r"(?:instructions?|answers?|responses?|rules|criteria)"
    r"|\b(?:pick|choose|select|prefer|rate|rank|score|vote for)\W+"
    r"(?:(?:this|my|the (?:first|second|above|following)) (?:answer|response|reply|one)"
    r"|(?:answer )?(?-i:[AB])\b)"
    r"|\b(?:this|my) (?:answer|response|reply) (?:is|deserves|must be|should be)\W+(?:\w+ )?"
    r"(?:the )?(?:best|better|correct|preferred|chosen|winner|highest)"
    rf"|\b(?:dear|attention|note (?:to|for) (?:the )?|instructions? (?:to|for) (?:the )?)\W*{JUDGE}"
    r"|\bverdict\s*[:=]\s*(?-i:[AB])\b",
    re.IGNORECASE,
)


def words(text: str) -> int:
    """How long it is."""
    return len(text.split())


def details(text: str) -> float:
    """Numbers, quotations, code and names, a hundred words: how concrete it looks, however long it is."""
    return 100 * len(DETAIL.findall(text)) / max(1, words(text))


def requests(text: str) -> int:
    """How often it speaks to whoever judges it."""
    return len(REQUEST.findall(text))


FEATURES = {"longer": words, "concrete": details, "nested": requests}


def sign(name: str, first: str, second: str) -> int:
    """1 where the first has more of a feature, -1 where the second has, else 0."""
    a, b = FEATURES[name](first), FEATURES[name](second)
    return (a > b) - (a < b)
