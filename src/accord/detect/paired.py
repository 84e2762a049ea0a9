"""Two policies' answers beside each other: the change of a figure, its interval and its p-value.

Had one policy given all answers, the two answers to a prompt could as well stand the other way round: p is
the share of such exchanges under which the change is as large (a sign-flip test, exact up to 12 prompts). It
is one-sided, for a hack has a direction, and prompts are exchanged whole, so that several answers to one
don't count as independent; of a prompt to which one side gave more answers its first are taken. Where the
two share hardly any prompt, prompts are dealt to the sides at random
instead. The figure may be of a whole side (phrases that its answers share): it is then taken anew for each
exchange.

Legend: M answers of both sides (those after first), P prompts, B exchanges, the first being none.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.core.types import Verdict
from accord.detect.base import Detector, Reply
from accord.stats.intervals import robust_mean, robust_slope

__all__ = ["ALPHA", "Exchanges", "by_score", "means", "shared_out", "verdict"]

Floats = NDArray[np.float64]
Statistic = Callable[[NDArray[np.bool_]], Floats]  # who is after [B, M] -> the change [B]
ALPHA = 0.05
DRAWN = 4_999  # exchanges: enough for 12 pairs of policies beside each other
EXACT = 12  # prompts up to which all exchanges are tried
LEAST = 6  # prompts without which no test can be significant
EXAMPLES = 5


@dataclass(frozen=True)
class Exchanges:
    """The answers, their prompts' numbers, and who is after under each exchange."""

    replies: Sequence[Reply]
    prompt_M: NDArray[np.int64]
    after_BM: NDArray[np.bool_]

    @property
    def after_M(self) -> NDArray[np.bool_]:
        return np.asarray(self.after_BM[0])

    def p_value(self, change_B: Floats) -> float:
        """The share of exchanges, none included, whose change is as large as that without."""
        return float(np.mean(change_B >= change_B[0] - 1e-6 * max(1.0, abs(change_B[0]))))


def shared_out(
    after: Sequence[Reply], before: Sequence[Reply], *, drawn: int = DRAWN
) -> Exchanges | None:
    """The answers with exchanges of them; None where there are too few prompts for any test."""
    sides = [[r.exchange.prompt.id for r in side] for side in (after, before)]
    dealt = _dealt(*map(tuple, sides), drawn)
    if dealt is None:
        return None
    both = [*after, *before]
    kept_M, prompt_M, after_BM = dealt
    return Exchanges([both[m] for m in kept_M.tolist()], prompt_M, after_BM)


@functools.lru_cache(maxsize=2)  # every detector of a panel asks for the same
def _dealt(
    after: tuple[str, ...], before: tuple[str, ...], drawn: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]] | None:
    """Of these prompts' ids: which answers are kept, their prompts' numbers, who is after."""
    common = set(after) & set(before)
    draw = np.random.default_rng(0)
    paired = 2 * len(common) >= min(len(set(after)), len(set(before)))
    keys = [(i, paired or k < len(after)) for k, i in enumerate([*after, *before])]
    kept_M = np.array(_level(after, before) if paired else range(len(keys)), dtype=np.int64)
    is_after = kept_M < len(after)
    numbers: dict[tuple[str, bool], int] = {}
    prompt_M = np.array([numbers.setdefault(keys[m], len(numbers)) for m in kept_M], dtype=np.int64)
    n, left = len(numbers), sum(own for _, own in numbers)
    if n < LEAST or (not paired and min(left, n - left) < LEAST):
        return None
    if paired and n <= EXACT:
        flip_BP = (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
        return kept_M, prompt_M, is_after ^ flip_BP[:, prompt_M]
    if paired:
        flip_BP = draw.integers(0, 2, (drawn + 1, n), dtype=np.int8) == 1
        flip_BP[0] = False
        return kept_M, prompt_M, is_after ^ flip_BP[:, prompt_M]
    side_P = np.array([own for _, own in numbers], dtype=bool)
    side_BP = draw.permuted(np.repeat(side_P[None], drawn + 1, 0), axis=1)
    side_BP[0] = side_P
    return kept_M, prompt_M, side_BP[:, prompt_M]


def _level(after: Sequence[str], before: Sequence[str]) -> list[int]:
    """Of each common prompt as many answers of either side: were they exchanged with others, what rests on
    how many there are (whether two are alike, say) would move with the exchange."""
    fewest = Counter(after) & Counter(before)
    kept = []
    for first, side in ((0, after), (len(after), before)):
        left = Counter(fewest)
        for k, prompt in enumerate(side):
            left[prompt] -= 1
            if left[prompt] >= 0:
                kept.append(first + k)
    return kept


def means(score_M: Floats) -> Statistic:
    """The change of a mean; answers whose score is not known (NaN) count on neither side."""
    known_M = np.isfinite(score_M)
    value_M = np.where(known_M, score_M, 0.0)
    columns = np.stack([value_M, known_M], 1).astype(np.float32)

    def change(after_BM: NDArray[np.bool_]) -> Floats:
        total, n = (after_BM.astype(np.float32) @ columns).T.astype(float)
        left, m = value_M.sum() - total, known_M.sum() - n
        return np.asarray(total / np.maximum(n, 1) - left / np.maximum(m, 1))

    return change


def verdict(
    name: str, given: Exchanges | None, score_M: Floats, *, says: str, smallest: float, large: float,
    change: Statistic | None = None, clear_M: Floats | None = None,
) -> Verdict:  # fmt: skip
    """What the scores of the answers say, a higher one being worse.

    Args:
        score_M: of each answer as the sides are.
        says: what a rise of it is, for the summary.
        smallest: the change below which it is no matter how significant.
        large: the change from which it is a failure, not a warning.
        change: where a score depends on its side: the change under each exchange.
        clear_M: which of answers that score the same show it better.
    """
    if given is None or not all(
        np.isfinite(score_M[s]).any() for s in (given.after_M, ~given.after_M)
    ):
        few = f"fewer than {LEAST} prompts answered by both"
        return Verdict(detector=name, outcome="undefined", summary=few)
    change_B = (change or means(score_M))(given.after_BM)
    p, rise = given.p_value(change_B), float(change_B[0])
    known = np.isfinite(score_M)
    side, own, value = given.after_M[known], given.prompt_M[known], score_M[known]
    share = bool(np.isin(value, (0.0, 1.0)).all())
    metrics = {
        "before": robust_mean(value[~side], own[~side], share=share),
        "after": robust_mean(value[side], own[side], share=share),
        "change": robust_slope(value, side.astype(float), own, share=share),
    }
    alarm = p <= ALPHA and rise >= smallest
    outcome = "pass" if not alarm else "fail" if rise >= large else "warn"
    return Verdict(
        detector=name, outcome=outcome, summary=says if alarm else f"no rise: {says}", p=p,
        metrics=metrics, evidence=_examples(given, score_M, clear_M),
    )  # fmt: skip


def _examples(
    given: Exchanges, score_M: Floats, clear_M: Floats | None
) -> tuple[dict[str, Any], ...]:
    """The answers whose score is furthest above that of the answer before to the same prompt (or, where it
    had none, the highest), each with it."""
    known_M = np.isfinite(score_M)
    old = {int(given.prompt_M[m]): m for m in np.flatnonzero(~given.after_M & known_M).tolist()}
    rows = []
    for m in np.flatnonzero(given.after_M & known_M).tolist():
        at = old.get(int(given.prompt_M[m]))
        rise = float(score_M[m] - (0.0 if at is None else score_M[at]))
        rows.append((rise, 0.0 if clear_M is None else float(clear_M[m]), m, at))
    best = sorted((r for r in rows if r[0] > 0), key=lambda r: (-r[0], -r[1]))[:EXAMPLES]
    return tuple(
        {
            "prompt": given.replies[m].exchange.prompt.last,
            "response": given.replies[m].text,
            "before": None if at is None else given.replies[at].text,
            "score": round(float(score_M[m]), 4),
        }
        for _, _, m, at in best
    )


def by_score(
    name: str, score: Callable[[Reply], float], *, says: str, smallest: float, large: float
) -> Detector:
    """A detector of a score that each answer has by itself."""

    def look(after: Sequence[Reply], before: Sequence[Reply]) -> Verdict:
        given = shared_out(after, before)
        score_M = np.array([score(r) for r in given.replies] if given else [], dtype=float)
        return verdict(name, given, score_M, says=says, smallest=smallest, large=large)

    return look
