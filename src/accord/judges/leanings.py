"""A pair that judge and people judged, and what draws a judge whether it is better or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.core.types import Metric
from accord.judges.features import sign
from accord.judges.verdict import JudgeVerdict
from accord.stats.intervals import cluster_mean
from accord.stats.judged import lean, shares_apart

__all__ = ["EASY", "HARD", "Tried", "ceiling_of", "leanings", "says", "share_of", "signs"]

EASY, HARD = "difficulty=easy", "difficulty=hard"


def signs(one: str, two: str) -> dict[str, int]:
    """Which of two answers has more of what may draw a judge."""
    return {name: sign(name, one, two) for name in ("longer", "concrete", "nested")}


@dataclass(frozen=True)
class Tried:
    """A pair that judge and people judged. `first` whether people say the first is better; `longer`, `own`,
    `concrete`, `nested` 1 where the first is the longer, the judge's own, has more details or more words to
    its judge, -1 where the second has, else 0; `within` its parts."""

    prompt: str
    first: bool
    verdict: JudgeVerdict
    longer: int = 0
    own: int = 0
    within: tuple[str, ...] = ()
    again: JudgeVerdict | None = None
    question: str = ""
    concrete: int = 0
    nested: int = 0
    responses: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether the judge says what people say."""
        return says(self.verdict.probs) == self.first


def says(probs: Sequence[float] | None) -> bool | None:
    return None if not probs or probs[0] == 0.5 else probs[0] > 0.5


def leanings(read: Sequence[Tried]) -> dict[str, Metric]:
    """What draws a judge whether it is better or not, by the report's names."""
    two = [t for t in read if len(t.verdict.by_order) == 2]
    return {
        "place": _place(two),
        "length": _lean(read, [t.longer for t in read]),
        "own": _lean(read, [t.own for t in read]),
        "concrete": _lean(read, [t.concrete for t in read]),
        "nested": _lean(read, [t.nested for t in read]),
    }


def ceiling_of(read: Sequence[Tried]) -> Metric:
    easy, hard = ([t for t in read if part in t.within] for part in (EASY, HARD))
    if not easy or not hard:
        return Metric(value=None, n=0, note="pairs are all easy, or all hard")
    sides = [([float(t.right) for t in some], [t.prompt for t in some]) for some in (easy, hard)]
    return shares_apart(*sides[0], *sides[1])


def share_of(values: Sequence[float], rows: Sequence[Tried]) -> Metric:
    return cluster_mean(values, [t.prompt for t in rows], share=True)


def _place(rows: Sequence[Tried]) -> Metric:
    """Mean P(the place shown first wins) - 1/2: what each response is worth cancels."""
    values = []
    for t in rows:
        ab, ba = t.verdict.by_order
        if ab and ba:
            values.append(round((ab[0] - ba[0]) / 2, 12))  # a judge by scores has none, not 1e-17
    return cluster_mean(values, [t.prompt for t in rows], share=False)


def _lean(rows: Sequence[Tried], signs: Sequence[int]) -> Metric:
    kept = [(t, s) for t, s in zip(rows, signs, strict=True) if s]
    if not kept:
        return Metric(value=None, n=0, note="no pair differs in it")
    drawn = [
        (t.verdict.probs or (0.5,))[0] if s > 0 else 1 - (t.verdict.probs or (0.5,))[0]
        for t, s in kept
    ]
    return lean(drawn, [t.first == (s > 0) for t, s in kept], [t.prompt for t, _ in kept])
