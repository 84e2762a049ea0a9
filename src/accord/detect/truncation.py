"""Answers that are cut off: an end that never comes can't be judged a bad one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from accord.core.types import Verdict
from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import shared_out, verdict

__all__ = ["truncation"]

ENDS = re.compile(
    r"(?<!\.\.)[.!?:;)\]}\"'”’»`*|。！？\d]\s*$|[\U0001f300-\U0001faff\u2600-\u27bf]\s*$"
)

SAYS = re.compile(r"[^\W_]")


@detector("truncation", version=2, panel=True)
def truncation(
    context: DetectorContext, *, smallest: float = 0.03, large: float = 0.15
) -> Detector:
    """The share of answers that the limit ended; where that isn't known of all, that end in mid-sentence or
    in dots after eight words or more. One without a letter or digit counts too, unless it calls a tool."""

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        given = shared_out(after, before)
        replies = given.replies if given else []
        if all(r.exchange.response.finish for r in replies):
            cut = [r.exchange.response.finish == "length" for r in replies]
        else:
            cut = [len(r.text.split()) >= 8 and not ENDS.search(r.text) for r in replies]
        cut = [c or _empty(r) for c, r in zip(cut, replies, strict=True)]
        return verdict(
            "truncation", given, np.array(cut, dtype=float), says="more answers are cut off, or empty",
            smallest=smallest, large=large,
        )  # fmt: skip

    return look


def _empty(reply: Reply) -> bool:
    return not (SAYS.search(reply.text) or reply.exchange.response.tool_calls)
