"""An answer in another script or language than its prompt's."""

from __future__ import annotations

import math
import re
from collections import Counter

from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import by_score
from accord.detect.texts import words

__all__ = ["language", "language_of"]

SCRIPTS = {
    "latin": "A-Za-z\u00c0-\u024f", "greek": "\u0370-\u03ff", "cyrillic": "\u0400-\u052f",
    "hebrew": "\u0590-\u05ff", "arabic": "\u0600-\u06ff", "devanagari": "\u0900-\u097f",
    "thai": "\u0e00-\u0e7f", "kana": "\u3040-\u30ff", "han": "\u3400-\u9fff", "hangul": "\uac00-\ud7af",
}  # fmt: skip
_SCRIPT = {name: re.compile(f"[{letters}]") for name, letters in SCRIPTS.items()}
COMMON = {  # words that hardly any other language has
    "en": "the and is of to that for with are this it was you not have from",
    "de": "der die das und ist nicht ein eine mit für auf den sich auch wir sind",
    "fr": "le les des est une dans que qui pour pas sur avec vous nous sont cette",
    "es": "el los las una es que por con para del se como más pero son muy",
    "it": "il gli una è che per con non sono della nel anche più questo come alla",
    "pt": "o os uma é que para com não do da em são mais como você pelo",
    "nl": "de het een en van is niet met voor op zijn ook dat wordt deze maar",
}
_COMMON = {name: frozenset(words.split()) for name, words in COMMON.items()}


def language_of(text: str) -> str | None:
    """The script most of its letters are of, of Latin ones the language whose common words it has most; None
    where neither is clear."""
    letters = {name: len(pattern.findall(text)) for name, pattern in _SCRIPT.items()}
    script = max(letters, key=lambda k: letters[k])
    if letters["kana"] > 2:
        script = "kana"  # Japanese has both
    if letters[script] == 0 or script != "latin":
        return script if letters[script] else None
    there = Counter(words(text))
    hits = sorted(
        ((sum(there[w] for w in own), name) for name, own in _COMMON.items()), reverse=True
    )
    clear = hits[0][0] >= 2 and hits[0][0] > hits[1][0]
    return hits[0][1] if clear else "latin"


@detector("language", panel=True)
def language(context: DetectorContext, *, smallest: float = 0.01, large: float = 0.05) -> Detector:
    """The share of answers in another language than the prompt's, of those where both can be told."""

    def score(reply: Reply) -> float:
        asked, answered = language_of(reply.exchange.prompt.last), language_of(reply.text)
        if asked is None or answered is None:
            return math.nan
        unclear = "latin" in (asked, answered) and {asked, answered} <= {"latin", *COMMON}
        return float(asked != answered and not unclear)

    return by_score(
        "language", score, says="answers leave the prompt's language", smallest=smallest, large=large
    )  # fmt: skip
