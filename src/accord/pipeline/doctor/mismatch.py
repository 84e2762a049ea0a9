"""What the pairs reward against what the evaluation rewards: a training that does as it is told, and is told
something else than what it is judged by."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from accord.core.types import Metric
from accord.detect.formatting import MARKS
from accord.detect.hedging import PHRASES as HEDGES
from accord.evals.base import scores_of
from accord.evals.refusal import refusal_of
from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength
from accord.stats.intervals import robust_mean

__all__: list[str] = []

Row = Mapping[str, Any]
FEW = 20  # of pairs, and of answers to one prompt, that differ in a manner
MANNERS: Mapping[str, Callable[[str], float]] = {
    "longer": lambda text: len(text.split()),
    "more formatted": lambda text: sum(1 for _ in MARKS.finditer(text)),
    "refusing": lambda text: refusal_of(text) != "full compliance",
    "more hedged": lambda text: len(HEDGES(text)),
}
"""Of each manner how much of it a text has."""


@check("evaluation_mismatch", of=("evaluation",))
def evaluation_mismatch(case: StageRecord) -> Finding | None:
    """A manner (length, format, refusals, hedges) that wins among the pairs and loses by the evaluation's
    truth among answers of the run's policies to one prompt, or the other way; both by their intervals."""
    both = {
        name: (paid, true)
        for name, manner in MANNERS.items()
        if (paid := _by_pairs(case, manner)) and (true := _by_truth(case, manner))
    }
    if not both:
        raise Unseen
    apart = {name: _apart(*ways) for name, ways in both.items()}
    name = max(apart, key=lambda k: apart[k])
    paid, true = both[name]
    wins = (paid.value or 0.0) > 0.5
    return finding(
        case,
        strength(apart[name], 0.02, 0.25),
        cause=f"the pairs reward {name} answers, and the evaluation does not"
        if wins
        else f"the evaluation rewards {name} answers, and the pairs do not",
        number=f"of two answers the {name} one is chosen in {paid} of pairs, and the better one by "
        f"{case.facts['truth']} in {true} of the policies' answers to one prompt",
        example=_example(case, MANNERS[name], wins),
        change=f"judge by what the evaluation asks, or compare answers that are {name} alike",
        test="accord data lint FILE",
    )


def _apart(paid: Metric, true: Metric) -> float:
    """How far both intervals are from 1/2 at least, on its two sides; below 0 where one reaches over it."""
    ends = [(paid.low, true.high), (true.low, paid.high)]
    return max(min((a or 0.0) - 0.5, 0.5 - (1.0 if b is None else b)) for a, b in ends)


def _by_pairs(case: StageRecord, manner: Callable[[str], float]) -> Metric | None:
    """Of pairs that differ in it, how often what is preferred has more."""
    rows = [
        ((more > 0) == (p.p > 0.5), p.prompt.id)
        for p in case.pairs
        if (more := manner(p.chosen.text) - manner(p.rejected.text))
    ]
    return _share(rows)


def _rated(case: StageRecord) -> list[Row]:
    """Every trained policy's answers with what the truth says of them. What nothing trained differs from them
    in every way."""
    truth = case.facts["truth"]
    return [
        {
            "policy": row["policy"], "prompt_id": row["prompt_id"], "text": row["response"]["text"],
            "truth": scores[truth], "cluster": row.get("cluster") or row["prompt_id"],
        }
        for row in case.answers
        if row["policy"] != "base" and (scores := scores_of(row)).get(truth) is not None
    ]  # fmt: skip


def _differing(case: StageRecord, manner: Callable[[str], float]) -> list[tuple[Row, Row, str]]:
    """Two answers of the run's policies to one prompt, the one with more of it first, where truth differs."""
    to: dict[str, list[Row]] = defaultdict(list)
    for row in _rated(case):
        to[row["prompt_id"]].append(row)
    apart = []
    for own in to.values():
        for a, b in itertools.combinations(own, 2):
            more = manner(a["text"]) - manner(b["text"])
            if more and a["truth"] != b["truth"]:
                apart.append((*((a, b) if more > 0 else (b, a)), a["cluster"]))
    return apart


def _by_truth(case: StageRecord, manner: Callable[[str], float]) -> Metric | None:
    return _share([(a["truth"] > b["truth"], c) for a, b, c in _differing(case, manner)])


def _share(rows: list[tuple[bool, str]]) -> Metric | None:
    if len(rows) < FEW:
        return None
    return robust_mean([float(yes) for yes, _ in rows], [c for _, c in rows])


def _example(case: StageRecord, manner: Callable[[str], float], wins: bool) -> str:
    """Where the truth is furthest from what the pairs reward."""
    more, less, _ = max(
        _differing(case, manner),
        key=lambda x: (x[1]["truth"] - x[0]["truth"]) * (1 if wins else -1),
    )
    shown = (more, less) if wins else (less, more)
    return " | ".join(
        f"{row['policy']} ({row['truth']:.2f}): {' '.join(row['text'].split())[:160]}"
        for row in shown
    )
