"""How often one source of answers beats another by a judge: as the judge says it, and corrected.

Both come from one snapshot. The raw rate is over every pair of the two that the judge judged. The correction
(`stats.judged.corrected_share`) takes the judge's errors from the pairs that people judged too, and its
word on the others, so that the two sets are different comparisons. A pair it calls even is left out, counted.
"""

from __future__ import annotations

from collections import Counter

from accord.core.errors import ConfigError, DataError
from accord.core.types import Frozen, Metric
from accord.judges.check import truths
from accord.stats.intervals import cluster_mean
from accord.stats.judged import corrected_share
from accord.store import Snapshot
from accord.store.snapshot.pairs import by_pair, votes

__all__ = ["WinRate", "win_rate"]


class WinRate(Frozen):
    """Share of wins of `of` over `over`; `both` pairs were judged by people too, `even` were called even."""

    judge: str
    of: str
    over: str
    raw: Metric
    corrected: Metric
    both: int
    even: int


def win_rate(snapshot: Snapshot, judge: str, of: str, over: str) -> WinRate:
    """By the one judge whose name begins so; ConfigError for none or several, DataError without a pair."""
    names = {r.id: r.name for r in snapshot.tables.raters.values() if r.kind == "model"}
    whose = [i for i, name in names.items() if name.startswith(judge)]
    if len(whose) != 1:
        raise ConfigError(
            f"{len(whose)} judges are called {judge!r}", where="--judge",
            allowed=", ".join(sorted(names.values())) or "none judged there",
        )  # fmt: skip
    known = truths(snapshot)
    outcomes: list[
        tuple[bool, bool | None, str]
    ] = []  # of wins by the judge, by people; the prompt
    even = 0
    cast = votes([j for j in snapshot.judgments if j.rater == whose[0]], snapshot.tables)[0]
    for pairs in by_pair(cast).values():
        for (a, b), some in pairs.items():
            sources = [snapshot.tables.responses[i].source for i in (a, b)]
            if sources not in ([of, over], [over, of]):
                continue
            mine = a if sources[0] == of else b
            p = some[-1].value if mine == a else 1 - some[-1].value
            even += p == 0.5
            if p != 0.5:
                truth = known.get(frozenset((a, b)))
                outcomes.append((p > 0.5, truth and truth[0] == mine, some[-1].prompt))
    if not outcomes:
        raise DataError(
            f"the judge decided no pair of {of} and {over}", where=snapshot.name,
            allowed=", ".join(sorted({r.source for r in snapshot.tables.responses.values()})),
        )  # fmt: skip
    wins = [win for win, truth, _ in outcomes if truth is None]
    seen = Counter((truth, win) for win, truth, _ in outcomes if truth is not None)
    return WinRate(
        judge=names[whose[0]], of=of, over=over, even=even, both=sum(seen.values()),
        raw=cluster_mean([float(win) for win, _, _ in outcomes], [p for _, _, p in outcomes], share=True),
        corrected=corrected_share(
            sum(wins), len(wins), seen[True, True], seen[True, True] + seen[True, False],
            seen[False, False], seen[False, False] + seen[False, True],
        ),
    )  # fmt: skip
