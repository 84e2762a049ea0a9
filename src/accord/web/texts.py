"""Model output as HTML. It is hostile: markdown without HTML, then an allow-list; what hides is shown.

Bidirectional controls, zero-width and other invisible characters become visible marks, so that text can't
look other than it is.
"""

from __future__ import annotations

import difflib
import functools
import html
import re
import unicodedata

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup

__all__ = ["difference", "markdown", "plain", "raw"]

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
MOST_TOKENS = 4000  # per side of a diff

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


def _mark(found: re.Match[str]) -> str:
    code = found[1]
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
        attributes={"a": {"href"}},
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


@functools.lru_cache(maxsize=1024)
def difference(a: str, b: str) -> tuple[Markup, Markup]:
    """Both texts with the words that only one of them has in <del> and <ins>."""
    one, two = WORDS.findall(a), WORDS.findall(b)
    if max(len(one), len(two)) > MOST_TOKENS:
        return raw(a), raw(b)
    left: list[str] = []
    right: list[str] = []
    matcher = difflib.SequenceMatcher(None, one, two, autojunk=False)
    for what, i, j, k, m in _steadied(matcher.get_opcodes(), one):
        old, new = raw("".join(one[i:j])), raw("".join(two[k:m]))
        left.append(old if what == "equal" or not old else f"<del>{old}</del>")
        right.append(new if what == "equal" or not new else f"<ins>{new}</ins>")
    return Markup("".join(left)), Markup("".join(right))


def _steadied(
    codes: list[tuple[str, int, int, int, int]], one: list[str]
) -> list[tuple[str, int, int, int, int]]:
    """Changes with nothing but spaces between them are one change: easier to read."""
    made: list[tuple[str, int, int, int, int]] = []
    for n, (what, i, j, k, m) in enumerate(codes):
        between = 0 < n < len(codes) - 1 and not "".join(one[i:j]).strip()
        kind = "replace" if what == "equal" and between else what
        if made and kind != "equal" and made[-1][0] != "equal":
            _, i, _, k, _ = made.pop()
            kind = "replace"
        made.append((kind, i, j, k, m))
    return made
