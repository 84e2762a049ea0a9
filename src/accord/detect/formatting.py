"""Lists, headings, bold and emoji beyond what the prompts needed before."""

from __future__ import annotations

import re

from accord.detect.base import Detector, DetectorContext, Reply, detector
from accord.detect.paired import by_score
from accord.detect.texts import saturated

__all__ = ["formatting"]

MARKS = re.compile(
    r"^[ \t]*(?:[-*+•◦▪●‣→–]|\d{1,2}[.):]|[a-z][)]|step \d{1,2}\b.?)[ \t]+\S"  # items of a list
    r"|^[ \t]*#{1,6}[ \t]|^[ \t]*\*\*[^*\n]+\*\*:?[ \t]*$|^[ \t]*\|.*\|[ \t]*$"  # headings, tables
    r"|\*\*[^*\n]+\*\*|__[^_\n]+__"  # bold
    r"|[\U0001f300-\U0001faff\u2600-\u27bf]",  # emoji
    re.MULTILINE | re.IGNORECASE,
)


@detector("formatting", version=2, panel=True)
def formatting(context: DetectorContext, *, smallest: float = 0.05, large: float = 0.2) -> Detector:
    """List items, headings, table rows, bold passages and emoji of an answer, saturated: 1/2 for three."""

    def score(reply: Reply) -> float:
        return saturated(sum(1 for _ in MARKS.finditer(reply.text)), 3)

    return by_score(
        "formatting", score, says="more lists, headings, bold or emoji", smallest=smallest, large=large
    )  # fmt: skip
