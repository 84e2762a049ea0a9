"""Names of people: two that look alike are one, so that nobody passes for another."""

from __future__ import annotations

import functools
import unicodedata

from confusable_homoglyphs import confusables

__all__ = ["folded", "skeleton"]


@functools.lru_cache(maxsize=4096)
def skeleton(name: str) -> str:
    """The same for names that look alike: case folded, every letter replaced by the least of those it can be
    taken for (Unicode UTS 39, confusables)."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    found = confusables.is_confusable(folded, greedy=True, preferred_aliases=[]) or []
    alike = {f["character"]: [h["c"] for h in f["homoglyphs"] if len(h["c"]) == 1] for f in found}
    return "".join(min([c, *alike.get(c, [])]) for c in folded)


def folded(name: str) -> str:
    """A name as it is looked up: without regard to case, width or spaces around it."""
    return unicodedata.normalize("NFKC", name).strip().casefold()
