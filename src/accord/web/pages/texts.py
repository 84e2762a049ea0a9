"""Model output as HTML. It is hostile: markdown without HTML, then an allow-list; what hides is shown.

Bidirectional controls, zero-width and other invisible characters become visible marks, so that text can't
look other than it is.
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup
from rapidfuzz.distance import LCSseq

__all__ = ["EDIT", "changes", "compared", "difference", "markdown", "plain", "raw"]

TAGS = {
    "a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
OPEN, CLOSE = "\ue000", "\ue001"  # stand for a mark until the HTML is clean
PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935"
    "\u2b05-\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
ONE = f"{PICTURE}[\ufe0f\U0001f3fb-\U0001f3ff]?"
EMOJI = f"{ONE}(?:\u200d{ONE})*|[#*0-9]\ufe0f\u20e3"  # a selector or joiner belongs here and nowhere else
HIDDEN = re.compile(
    f"({EMOJI})|"
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff\ue000\ue001\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"
)
TAG = re.compile(r'(<[^<>"]*(?:"[^"]*"[^<>"]*)*>)')
MARK = re.compile(f"{OPEN}([0-9A-F]+){CLOSE}")
WORDS = re.compile(EMOJI + r"|\s+|\w+|[^\w\s]")
MOST_CELLS = 64_000_000  # tokens of the one text times tokens of the other that are compared

_markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(
    ["table", "strikethrough"]
)


def _stand_in(text: str) -> str:
    """Invisible characters as marks; a joiner or selector inside an emoji stays."""
    return HIDDEN.sub(lambda m: m[1] or f"{OPEN}{ord(m[0]):04X}{CLOSE}", text)


def _marks(clean: str) -> str:
    """The marks as elements, outside of tags only."""
    parts = TAG.split(clean)
    for i in range(0, len(parts), 2):
        parts[i] = MARK.sub(_mark, parts[i])
    return "".join(MARK.sub("", p) if i % 2 else p for i, p in enumerate(parts))


def _mark(match: re.Match[str]) -> str:
    code = match[1]
    name = unicodedata.name(chr(int(code, 16)), "control character").lower()
    return f'<span class="hidden-character" title="U+{code} {name}">U+{code}</span>'


def _safe_href(tag: str, attribute: str, value: str) -> str | None:
    """Absolute addresses only: a link of a model goes nowhere on this site."""
    good = attribute != "href" or re.match(r"(?i)(https?://|mailto:)", value)
    return value if good else None


@functools.lru_cache(maxsize=4096)
def markdown(text: str) -> Markup:
    """Rendered markdown that may stand in a page."""
    clean = nh3.clean(
        _markdown.render(_stand_in(text)),
        tags=TAGS,
        attributes={"a": {"href"}, "ol": {"start"}},
        attribute_filter=_safe_href,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return Markup(_marks(clean))


@functools.lru_cache(maxsize=4096)
def raw(text: str) -> Markup:
    """The text as it is, escaped, invisible characters shown."""
    return Markup(_marks(html.escape(_stand_in(text))))


def plain(text: str, most: int = 160) -> Markup:
    """The beginning of a text on one line, for lists."""
    line = " ".join(text.split())
    return raw(line if len(line) <= most else f"{line[: most - 1]}…")


EDIT, NEUTRAL = ("del", "ins"), ("mark", "mark")
"""Elements around what only the one and only the other text has: of an edit, and of two texts on a level."""
BY_LINES = (
    "These texts are long: they are compared line by line, and word by word where lines differ."
)
BY_ENDS = (
    "These texts are too long to compare word by word: where most differs, all between the first and the "
    "last word that differs is marked."
)


def difference(a: str, b: str, marks: tuple[str, str] = EDIT) -> tuple[Markup, Markup]:
    """Both texts with the words that only one of them has marked."""
    return compared(a, b, marks)[:2]


@functools.lru_cache(maxsize=256)
def compared(a: str, b: str, marks: tuple[str, str] = NEUTRAL) -> tuple[Markup, Markup, str]:
    """(the one, the other, what is to be said of how they were compared): by words, or line by line first
    where texts are long. The work is bounded whatever they hold."""
    one, two = WORDS.findall(a), WORDS.findall(b)
    if len(one) * len(two) <= MOST_CELLS:
        pieces, note = _by_words(one, two), ""
    else:
        pieces, note = _by_lines(a.splitlines(keepends=True), b.splitlines(keepends=True))
    sides = []
    for side, mark in enumerate(marks):
        shown = [(bool(piece[2]), raw.__wrapped__(piece[side])) for piece in pieces if piece[side]]
        sides.append(Markup("").join(_marked(h, mark) if differs else h for differs, h in shown))
    return sides[0], sides[1], note


def _marked(shown: Markup, mark: str) -> Markup:
    return Markup(f"<{mark}>{shown}</{mark}>")


Piece = tuple[str, str, bool]
"""What the one text has here, what the other has, and whether they differ."""


def _by_words(one: list[str], two: list[str]) -> list[Piece]:
    """Changes with nothing but spaces between them are one change: easier to read."""
    steps = changes(one, two)
    merged: list[tuple[list[str], list[str], bool]] = []
    for n, (i, j, k, m, differs) in enumerate(steps):
        between = 0 < n < len(steps) - 1 and not "".join(one[i:j]).strip()
        differs = differs or between
        if merged and differs and merged[-1][2]:
            merged[-1][0].extend(one[i:j])
            merged[-1][1].extend(two[k:m])
        else:
            merged.append((one[i:j], two[k:m], differs))
    return [("".join(x), "".join(y), differs) for x, y, differs in merged]


def _by_lines(one: list[str], two: list[str]) -> tuple[list[Piece], str]:
    """The lines that differ, by words where there are not too many of them, and how that was done."""
    pieces: list[Piece] = []
    note = BY_LINES
    for i, j, k, m, differs in changes(one, two):
        old, new = "".join(one[i:j]), "".join(two[k:m])
        if differs and old and new:
            words = WORDS.findall(old), WORDS.findall(new)
            note = note if len(words[0]) * len(words[1]) <= MOST_CELLS else BY_ENDS
            pieces += _by_words(*words)
        else:
            pieces.append((old, new, differs))
    return pieces, note


def changes(one: list[str], two: list[str]) -> list[tuple[int, int, int, int, bool]]:
    """(from, to in the one; from, to in the other; whether they differ) by a longest common subsequence
    (bit-parallel: a few thousand tokens take milliseconds, whatever is repeated in them), neighbours that
    differ as one. Where even that would be much, what stands between the same beginning and end differs."""
    same = next((n for n, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), None)
    head = min(len(one), len(two)) if same is None else same
    most = min(len(one), len(two)) - head
    tail = next((n for n in range(most) if one[-1 - n] != two[-1 - n]), most)
    a, b = one[head : len(one) - tail], two[head : len(two) - tail]
    if len(a) * len(b) > MOST_CELLS:
        steps = [(0, len(a), 0, len(b), True)]
    else:
        codes = LCSseq.opcodes(a, b)
        steps = [
            (c.src_start, c.src_end, c.dest_start, c.dest_end, c.tag != "equal") for c in codes
        ]
    merged = [(0, head, 0, head, False)] if head else []
    for i, j, k, m, differs in steps:
        if merged and differs and merged[-1][4]:
            i, _, k, _, _ = merged.pop()
        else:
            i, k = i + head, k + head
        merged.append((i, j + head, k, m + head, differs))
    if tail:
        merged.append((len(one) - tail, len(one), len(two) - tail, len(two), False))
    return merged
