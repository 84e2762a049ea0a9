"""Columns that look like answers, or like what was said of them, by their names and by what they hold.

Only to refuse, never to read: a wrong guess trains, a refusal costs a minute.
"""

from __future__ import annotations

import re
from typing import Any

from accord.store.io.conversations import is_message

__all__ = ["is_fact", "is_label", "is_prose", "is_suspect", "is_verdict"]

ANSWERS = {
    "ai", "answer", "assistant", "bot", "candidate", "chosen", "code", "completion", "continuation",
    "conversation", "demonstration", "dialog", "dialogue", "expected", "generation", "gold", "golden", "gpt",
    "human", "hypothesis", "ideal", "left", "message", "output", "prediction", "ref", "rejected", "reply",
    "response", "result", "right", "sample", "solution", "summary", "target", "text", "translation",
}  # fmt: skip
PAIRED = {
    "accepted", "alternative", "bad", "best", "better", "chosen", "disliked", "dispreferred", "good",
    "incorrect", "liked", "lose", "loser", "losing", "neg", "negative", "pos", "positive", "preferred",
    "refused", "rejected", "win", "winner", "winning", "worse", "worst", "wrong",
}  # fmt: skip
VERDICTS = {"approved", "correct", "helpful", "like", "passed", "safe", "upvote", "upvoted"}
LABELS = {"better", "kto", "label", "preference", "preferred", "thumb", "winner"}
COUNTED = {"num", "n", "is", "has", "len", "max", "min"}
FACTS = {
    "ability", "act", "annotator", "at", "author", "behavior", "category", "cluster", "comment", "config",
    "count", "country", "criteria", "dataset", "date", "description", "difficulty", "domain", "format",
    "hash", "id", "ids", "index", "info", "intent", "key", "keywords", "kwargs", "lang", "language",
    "length", "level", "licence", "license", "list", "meta", "metadata", "model", "name", "note", "notes",
    "persona", "reason", "rubric", "score", "scores", "sha256", "source", "sources", "split", "status",
    "style", "subject", "subset", "tag", "tags", "task", "time", "timestamp", "title", "tokens", "topic",
    "type", "uid", "url", "uuid",
}  # fmt: skip
PROSE = re.compile(  # more than a word, or a sentence; words without spaces between them
    r"\S\s+\S|[.!?…]\s*$|[\u0e00-\u0eff\u2e80-\U0010ffff]{4}"
)


def is_suspect(column: str, kind: str) -> bool:
    """Whether a column that a format of this kind doesn't read is named as an answer or half a pair."""
    words = _tokens(column)
    if is_fact(column):
        return False
    if words & PAIRED or (kind == "prompt" and words & ANSWERS):
        return True
    one_of_several = bool(words & ANSWERS) and any(len(w) == 1 or w.isdigit() for w in words)
    return one_of_several or (kind == "demonstration" and bool(words & LABELS))


def is_label(column: str) -> bool:
    """Whether a column is named as what was said of an answer."""
    return bool(_tokens(column) & LABELS)


def is_verdict(column: str, value: Any) -> bool:
    """Whether a column says with yes or no what became of an answer."""
    return isinstance(value, bool) and bool(_tokens(column) & (PAIRED | LABELS | VERDICTS))


def is_fact(column: str) -> bool:
    """Whether a column is named as what is told of a row: a count, a source, a score."""
    last = re.findall(r"[a-z0-9]+", column.casefold())[-1:]
    return bool(_tokens(column) & COUNTED or set(last) & FACTS)


def is_prose(value: Any) -> bool:
    """Sentences, or a list of some; messages too."""
    if isinstance(value, list):
        return any(is_prose(x) for x in value)
    return bool(PROSE.search(value)) if isinstance(value, str) else is_message(value)


def _tokens(column: str) -> set[str]:
    """The words of a column's name, without the s of a plural: chosenResponses is {chosen, response}."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", column)
    plain = (w.lower().replace("ies", "y") for w in parts)
    return {w.removesuffix("s") if len(w) > 3 else w for w in plain}
