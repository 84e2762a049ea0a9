"""What detectors read in a text: its words, their runs, and how often a list of phrases occurs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

__all__ = ["phrases", "runs", "saturated", "words"]

# letters that no space parts (Chinese, Japanese, Thai) are words of their own
_WORD = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|"
    r"[^\W_\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+(?:['’][^\W_]+)*"
)


def words(text: str) -> list[str]:
    """Its words in small letters, without marks."""
    return _WORD.findall(text.lower())


def runs(given: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words."""
    return list(zip(*(given[k:] for k in range(n)), strict=False))


def saturated(count: float, half: float = 1.0) -> float:
    """A count as a number in [0, 1) that is 1/2 at `half`: no single text outweighs all others."""
    return count / (count + half)


def phrases(*patterns: str) -> Callable[[str], tuple[str, ...]]:
    """Where any of these occurs in a text: what stands there, in small letters."""
    pattern = re.compile("|".join(rf"(?:{p})" for p in patterns), re.IGNORECASE | re.MULTILINE)

    @functools.lru_cache(maxsize=4096)  # a policy is held against several
    def occurring(text: str) -> tuple[str, ...]:
        return tuple(m.group().lower() for m in pattern.finditer(text.replace("’", "'")))

    return occurring
