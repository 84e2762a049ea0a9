"""Names of people: two that look alike are one, so that nobody passes for another."""

from __future__ import annotations

import functools
import unicodedata

from confusable_homoglyphs import confusables

from accord.web.pages.texts import HIDDEN

__all__ = ["alike", "folded", "is_name", "tidy"]

BLANK = "\u2800"  # braille of no dots: a letter that shows nothing
OURS = ("cli", "api", "live")  # what the audit log says where no account acted
ADJUDICATOR = "(adjudicator)"  # how a rater's name ends who decides


def tidy(name: str) -> str:
    """A name in one form: width and ligatures resolved, one space between words."""
    return " ".join(unicodedata.normalize("NFKC", name).split())


def folded(name: str) -> str:
    """A name as it is looked up: without regard to case, width or spaces."""
    return tidy(name).casefold()


def is_name(name: str) -> bool:
    """Whether a tidy name shows all it is made of, and is none that the server itself goes by."""
    shows = not any(m[1] is None for m in HIDDEN.finditer(name)) and BLANK not in name
    own = any(alike(name, word) for word in OURS) or alike(name[-len(ADJUDICATOR) :], ADJUDICATOR)
    return 1 <= len(name) <= 64 and name.isprintable() and shows and not own


def alike(one: str, other: str) -> bool:
    """Whether two names can be taken for each other, as they are or in another case."""
    return any(a == b for a, b in zip(_faces(one), _faces(other), strict=True))


@functools.lru_cache(maxsize=4096)
def _faces(name: str) -> tuple[str, ...]:
    name = tidy(name)
    lower = _skeleton(name.casefold())
    return lower, _skeleton(name.upper()), _skeleton(_skeleton(name).casefold())


def _skeleton(text: str) -> str:
    """Every letter replaced by the one it can be taken for (Unicode UTS 39, confusables)."""
    plain = "".join(_prototype(c) for c in unicodedata.normalize("NFD", text))
    return unicodedata.normalize("NFD", plain)


@functools.lru_cache(maxsize=4096)
def _prototype(letter: str) -> str:
    # the table lists for a prototype all that look like it, for each of those the prototype alone
    lookalikes = _listed(letter)
    if len(lookalikes) != 1:
        return letter
    return min(letter, lookalikes[0]) if _listed(lookalikes[0]) == [letter] else lookalikes[0]


def _listed(letter: str) -> list[str]:
    entries = confusables.is_confusable(letter, greedy=True, preferred_aliases=[]) or []
    return [alike["c"] for row in entries for alike in row["homoglyphs"]]
