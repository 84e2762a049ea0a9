"""How often one source of answers beats another by a judge: as the judge says it, and corrected.

Both are of one set: every pair of the two that the judge decided, in one snapshot; a pair it calls even is
left out, counted. Corrected (`stats.judged.corrected_win_rate`, which says what is assumed), a pair that
people judged counts by their majority, an even split as half a win; the others count by the judge's word and
the errors it made on people's. Length-controlled it is the judge's rate between answers of equal length.
Pairs of one prompt hang together in all three intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from accord.core.errors import ConfigError, DataError
from accord.core.types import Frozen, Metric
from accord.judges.features import words
from accord.stats.intervals import cluster_mean
from accord.stats.judged import corrected_win_rate
from accord.stats.ranking import bradley_terry
from accord.store import Snapshot
from accord.store.snapshot.pairs import Vote, by_pair, votes

__all__ = ["WinRate", "equal_length", "win_rate"]


class WinRate(Frozen):
    """Share of wins of `of` over `over`; `both` pairs were judged by people too, `even` were called even."""

    judge: str
    of: str
    over: str
    raw: Metric
    corrected: Metric
    equal_length: Metric
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
    tables = snapshot.tables
    asked = by_pair(votes([j for j in snapshot.judgments if j.rater not in names], tables)[0])
    cast = by_pair(votes([j for j in snapshot.judgments if j.rater == whose[0]], tables)[0])
    says: list[bool] = []  # that `of` wins
    people: list[float | None] = []
    apart: list[int] = []  # words of `of` less those of `over`
    prompts: list[str] = []
    even = 0
    for prompt, pairs in cast.items():
        for (a, b), some in pairs.items():
            sources = [tables.responses[i].source for i in (a, b)]
            if sources not in ([of, over], [over, of]):
                continue
            turned = sources[0] == over
            p = some[-1].value
            even += p == 0.5
            if p != 0.5:
                says.append((p > 0.5) != turned)
                people.append(_majority(asked[prompt][a, b], turned))
                one, two = (words(tables.responses[i].shown) for i in (a, b))
                apart.append(two - one if turned else one - two)
                prompts.append(prompt)
    if not says:
        raise DataError(
            f"the judge decided no pair of {of} and {over}", where=snapshot.name,
            allowed=", ".join(sorted({r.source for r in snapshot.tables.responses.values()})),
        )  # fmt: skip
    return WinRate(
        judge=names[whose[0]], of=of, over=over, even=even, both=len(people) - people.count(None),
        raw=cluster_mean([float(win) for win in says], prompts, share=True),
        corrected=corrected_win_rate(says, people, prompts),
        equal_length=equal_length(says, apart, prompts),
    )  # fmt: skip


def equal_length(wins: Sequence[bool], apart: Sequence[int], prompts: Sequence[str]) -> Metric:
    """The win rate where both answers have as many words: of a logistic regression of wins on tanh(d / s), d
    the difference in words and s its standard deviation, at d = 0 (Dubois et al. 2024, 2404.04475, without
    its terms for models and instructions); prompts are clusters."""
    spread = float(np.std(apart))
    if not spread:
        note = "" if not any(apart) else "all pairs differ in length alike: nothing to learn from"
        rate = cluster_mean([float(win) for win in wins], prompts, share=True)
        return Metric(value=None, n=len(wins), note=note) if note else rate
    drawn = np.tanh(np.asarray(apart) / spread)[:, None]
    sides = np.zeros(len(wins), int), np.ones(len(wins), int)
    fit = bradley_terry(
        *sides, np.asarray(wins, float), items=2, covariates=drawn, clusters=prompts
    )
    logit = fit.difference(0, 1)
    if fit.notes or logit.value is None:
        note = logit.note or fit.notes[0]
        return Metric(value=None, n=len(wins), note=note)
    shares = {k: float(expit(getattr(logit, k))) for k in ("value", "low", "high")}
    return logit.model_copy(
        update={**shares, "n": len(wins), "method": "logistic, at equal length"}
    )


def _majority(cast: Sequence[Vote], turned: bool) -> float | None:
    """Whether the first response wins by most votes (the second where `turned`): 1, 0, 1/2 where they are
    even, None without any."""
    if not cast:
        return None
    lead = sum(v.value - 0.5 for v in cast) * (-1 if turned else 1)
    return 0.5 + 0.5 * ((lead > 0) - (lead < 0))
