"""From replies to a verdict: probabilities over responses (or the steps of a scale), or why there is none.

    one order    p(option) = softmax of the options' log-probs, or its share among the k replies that parse
    all orders   the mean over orders, each turned back: what favours a place cancels
    missing      a reply without exactly one marked verdict; an order of which nothing parses; options that
                 together have less than `least` of the probability (the judge says something else)

A missing verdict is counted and never replaced by a default.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accord.judges.cache import JudgeReply

__all__ = [
    "RULE", "JudgeVerdict", "combined", "marked", "reason_of", "reply_schema", "shares",
]  # fmt: skip

VERDICT = re.compile(
    r"^[\s*_#>-]*(?:final\s+)?verdict[*_]*\s*[:=]\s*[*_`\"'(\[]*([A-Za-z]+|\d+)[*_`\"')\].]*\s*$",
    re.IGNORECASE,
)  # the option alone: "A or B" is none
RULE = (
    "a reply without one verdict is a missing judgment: it counts in no accuracy, and how many there are "
    "stands beside it"
)


@dataclass(frozen=True)
class JudgeVerdict:
    """`probs` over responses (compare, rank) or over the scale's steps (rate), None where `missing` says why;
    `by_order` the same of each order; `unread` replies that did not parse, of `replies`."""

    probs: tuple[float, ...] | None
    by_order: tuple[tuple[float, ...] | None, ...] = ()
    missing: str = ""
    rationale: str = ""
    unread: int = 0
    replies: int = 0


def marked(text: str, options: Sequence[str]) -> str | None:
    """The verdict of a reply: the whole of it, or what its last line marks. None where there is none, or
    where it is no option: an option that is named on the way to it is not the verdict."""
    fields = _fields(text)
    bare = str(fields.get("verdict")) if fields else text.strip().strip("*_`\"'().[] ")
    whole = [o for o in options if o.lower() == bare.lower()]
    if whole:
        return whole[0]
    lines = [line for line in text.splitlines() if line.strip()]
    match = VERDICT.match(lines[-1]) if lines else None
    named = [o for o in options if match and o.lower() == match[1].lower()]
    return named[0] if named else None


def reply_schema(options: Sequence[str], reason: bool) -> dict[str, Any]:
    """The JSON schema of a structured reply: the verdict, behind its reason where one is asked for."""
    fields: dict[str, Any] = {"reason": {"type": "string"}} if reason else {}
    fields["verdict"] = {"type": "string", "enum": list(options)}
    return {
        "type": "object", "properties": fields, "required": list(fields), "additionalProperties": False,
    }  # fmt: skip


def reason_of(text: str) -> str:
    """The reason of a structured reply; any other text as it is."""
    fields = _fields(text)
    return text if fields is None else str(fields.get("reason", ""))


def _fields(text: str) -> dict[str, Any] | None:
    """A reply that is one JSON object, whole."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def shares(
    reply: JudgeReply, options: Sequence[str], least: float = 0.01
) -> tuple[tuple[float, ...] | None, str, int, int]:
    """Probabilities over the options, why there are none, replies that did not parse, replies."""
    if reply.logps is not None:
        most = max(reply.logps)
        weights = [math.exp(x - most) for x in reply.logps] if most > -math.inf else []
        if not weights or math.exp(most) * sum(weights) < least:
            return None, "says none of the options", 1, 1
        return tuple(w / sum(weights) for w in weights), "", 0, 1
    verdicts = [marked(text, options) for text in reply.texts]
    read = [s for s in verdicts if s is not None]
    unread = len(verdicts) - len(read)
    if not read:
        return None, "no verdict in the reply", unread, len(verdicts)
    return tuple(read.count(o) / len(read) for o in options), "", unread, len(verdicts)


def combined(
    replies: Sequence[JudgeReply | str],
    orders: Sequence[Sequence[int]],
    options: Sequence[str],
    rationale: str = "",
    least: float = 0.01,
) -> JudgeVerdict:
    """The verdict of an item asked in these orders; a reply that never came is its reason. A scale has one
    order and no places to turn back."""
    by_order: list[tuple[float, ...] | None] = []
    missing, unread, texts = "", 0, 0
    for reply, order in zip(replies, orders, strict=True):
        if isinstance(reply, str):
            probs, why, bad, n = None, reply, 0, 0
        else:
            probs, why, bad, n = shares(reply, options, least)
        unread, texts, missing = unread + bad, texts + n, missing or why
        if probs is not None and len(order) == len(options):
            probs = tuple(probs[list(order).index(k)] for k in range(len(order)))
        by_order.append(probs)
    kept = [p for p in by_order if p is not None]
    if len(kept) < len(by_order):
        return JudgeVerdict(None, tuple(by_order), missing, rationale, unread, texts)
    mean = tuple(sum(column) / len(kept) for column in zip(*kept, strict=True))
    return JudgeVerdict(mean, tuple(by_order), "", rationale, unread, texts)
