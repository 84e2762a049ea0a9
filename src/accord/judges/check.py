"""The gate: a judge is measured against people and gold questions before its labels count.

People's word on a pair is the majority of their votes (ties and even splits are left out); where a gold
question says what is right, that is. A judge's word is the side its verdict gives more than half; a verdict
of exactly one half is wrong (it chose nothing), a missing one counts nowhere and is counted beside.

    accuracy    share of pairs on which the judge says what people say; in one order: the mean over orders
    consistency share of pairs on which both orders say the same
    place       mean P(first shown wins) over both orders, less 1/2
    length, own, concrete, nested   `stats.judged.lean` to the longer answer, to the judge's own, to the one
                with more numbers, quotations and names a hundred words, to the one that speaks to its judge
    ceiling     accuracy on pairs that are easy for people less that on hard ones
    retest      share of pairs on which it says the same asked again with another seed
    calibration mean gap between its confidence and how often it is right (ECE)

A part (a category, a difficulty) passes where the lower ends of accuracy and κ reach the thresholds on enough
pairs. Easy pairs are those on which people were of one mind.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import Field

from accord.core.errors import DataError
from accord.core.types import Frozen, Metric, Question
from accord.feedback.trust.gold_questions import GoldAnswer
from accord.judges.leanings import (
    EASY,
    HARD,
    Tried,
    ceiling_of,
    leanings,
    says,
    share_of,
    signs,
)
from accord.judges.templates import JudgedItem
from accord.judges.thresholds import Thresholds
from accord.judges.verdict import RULE, JudgeVerdict
from accord.stats.agreement import cohen_kappa
from accord.stats.calibration import Bin, calibration_error, reliability
from accord.stats.judged import DecidesAlone, decides_alone
from accord.store import Snapshot
from accord.store.snapshot.pairs import by_pair, votes

__all__ = [
    "CheckReport",
    "CheckedPart",
    "Thresholds",
    "Tried",
    "check_judge",
    "tried",
    "truths",
]

ALL = "all"
NOT_SURE = "it rates or ranks: no single label of it is held to a confidence"
NOT_MEASURED = Metric(value=None, n=0, note="not measured")


class CheckedPart(Frozen):
    """A part of what was judged, and whether the judge may label it."""

    within: str
    accuracy: Metric
    kappa: Metric
    missing: int
    passes: bool
    why: str
    figures: dict[str, Metric] = Field(default={})
    """What the report has over all: consistency, place, length, own, concrete, nested, retest,
    calibration."""


class CheckReport(Frozen):
    """What is known of a judge. `confidence`: from which it may decide alone with an error rate of at most
    `thresholds.risk`; None where no confidence could be shown to be enough."""

    judge: str
    axes: tuple[str, ...] = ()
    snapshot: str
    sha256: str
    rule: str = RULE
    thresholds: dict[str, float]
    missing: dict[str, int]
    parts: tuple[CheckedPart, ...]
    one_order: Metric
    consistency: Metric
    place: Metric
    length: Metric
    own: Metric
    concrete: Metric = NOT_MEASURED
    nested: Metric = NOT_MEASURED
    ceiling: Metric = NOT_MEASURED
    retest: Metric
    calibration: Metric
    diagram: tuple[Bin, ...]
    confidence: float | None
    alone: str

    def may_label(self, within: Collection[str], by: Collection[str] | None = None) -> bool:
        """Whether every part passes that a question is in (`categories_of`); one that was never measured does
        not."""
        return categories_of(within, by) <= {p.within for p in self.parts if p.passes}


def truths(
    snapshot: Snapshot, gold: Mapping[str, GoldAnswer] | None = None
) -> dict[frozenset[str], tuple[str, bool]]:
    """Of each pair that people (or a gold question) decide: the better response, and whether all were of one
    mind. Model raters are no people."""
    models = {i for i, r in snapshot.tables.raters.items() if r.kind == "model"}
    cast = votes([j for j in snapshot.judgments if j.rater not in models], snapshot.tables)[0]
    truth_of_pair: dict[frozenset[str], tuple[str, bool]] = {}
    for pairs in by_pair(cast).values():
        for (a, b), some in pairs.items():
            share = sum(v.value for v in some) / len(some)
            if share != 0.5:
                truth_of_pair[frozenset((a, b))] = (a if share > 0.5 else b, share in (0.0, 1.0))
    for q in snapshot.tables.questions.values() if gold else ():
        known = gold and (gold.get(q.id) or gold.get(q.prompt))
        if known and known.better in q.responses and len(q.responses) == 2:
            truth_of_pair[frozenset(q.responses)] = (str(known.better), True)
    return truth_of_pair


def tried(
    items: Mapping[Question, JudgedItem],
    verdicts: Sequence[JudgeVerdict],
    known: Mapping[frozenset[str], tuple[str, bool]],
    *,
    again: Sequence[JudgeVerdict] | None = None,
    own: Collection[str] = (),
) -> list[Tried]:
    """The pairs on which the truth is known, with what the judge said. `own`: sources that are the judge."""
    trials = []
    for at, ((q, item), verdict) in enumerate(zip(items.items(), verdicts, strict=True)):
        twice = again[at] if again and at < len(again) else None
        truth = known.get(frozenset(q.responses))
        if truth is None or len(q.responses) != 2:
            continue
        one, two = (r.shown for r in item.responses)
        mine = [r.source in own for r in item.responses]
        trials.append(
            Tried(q.prompt, q.responses[0] == truth[0], verdict, own=mine[0] - mine[1],
                  within=parts_of(item, easy=truth[1]), again=twice,
                  question=q.id, responses=q.responses, **signs(one, two))
        )  # fmt: skip
    return trials


def parts_of(item: JudgedItem, easy: bool | None = None) -> tuple[str, ...]:
    """The parts a pair is in: its prompt's tags, its principle, how hard it was for people, where known."""
    tags = tuple(f"{key}={value}" for key, value in sorted(item.prompt.tags.items()))
    tags += (f"principle={item.principle}",) if item.principle else ()
    return tags if easy is None else (*tags, EASY if easy else HARD)


def categories_of(within: Collection[str], by: Collection[str] | None = None) -> set[str]:
    """The parts that a gate asks about: all, and of these each but how hard a pair is, which is not known of
    a new one; with `by` those of these tags (and "principle") alone."""
    mine = {part for part in within if part not in (EASY, HARD)}
    return {ALL} | {p for p in mine if by is None or p.partition("=")[0] in by}


def check_judge(
    judge: str,
    rows: Sequence[Tried],
    thresholds: Thresholds,
    *,
    snapshot: str = "",
    sha256: str = "",
    by: Collection[str] | None = None,
    axes: Sequence[str] = (),
    sure: bool = True,
) -> CheckReport:
    """Every figure of a judge; DataError where people and judge have no pair in common. From which confidence
    it may decide alone is learned from the pairs that the gate (of the tags `by`) lets it label. Without
    `sure` how sure it is of a pair is no figure of it: it rates, or ranks."""
    if not rows:
        raise DataError(
            "no pair is judged by people or gold", where=snapshot, mend="collect some first"
        )
    read = [t for t in rows if t.verdict.probs]
    by_part: dict[str, list[Tried]] = defaultdict(list)
    for t in rows:
        for name in (ALL, *t.within):
            by_part[name].append(t)
    names = [ALL, *sorted(by_part.keys() - {ALL})]
    orders = [(t, o) for t in read for o in t.verdict.by_order if len(t.verdict.by_order) == 2]
    confidence = [max(t.verdict.probs or ()) for t in read] if sure else []
    right = [t.right for t in read]
    parts = tuple(_part(name, by_part[name], thresholds, sure) for name in names)
    passed = {p.within for p in parts if p.passes}
    may = [t for t in read if categories_of(t.within, by) <= passed]
    alone = decides_alone(*_one_a_prompt(may if sure else []), risk=thresholds.risk)
    return CheckReport(
        judge=judge, axes=tuple(axes), snapshot=snapshot, sha256=sha256, thresholds=thresholds.model_dump(),
        missing=dict(Counter(t.verdict.missing for t in rows if not t.verdict.probs)),
        parts=parts,
        one_order=share_of([float(says(o) == t.first) for t, o in orders], [t for t, _ in orders]),
        **parts[0].figures,
        ceiling=ceiling_of(read),
        diagram=tuple(reliability(confidence, right)) if confidence else (),
        confidence=alone.confidence,
        alone=_alone(alone) if sure else NOT_SURE,
    )  # fmt: skip


def _alone(alone: DecidesAlone) -> str:
    """In words."""
    if alone.confidence is None:
        return f"no confidence is shown to keep its errors to {alone.risk:.0%}: it decides nothing alone"
    return (
        f"from confidence {alone.confidence:.3f} on it may decide alone: {alone.errors} errors of {alone.n}, "
        f"at most {alone.risk:.0%} with probability {alone.level:.0%}; {alone.share:.0%} of pairs"
    )


def _part(within: str, rows: Sequence[Tried], least: Thresholds, sure: bool) -> CheckedPart:
    read = [t for t in rows if t.verdict.probs]
    accuracy = share_of([float(t.right) for t in read], read)
    kappa = cohen_kappa(
        [(t.first, says(t.verdict.probs)) for t in read], clusters=[t.prompt for t in read]
    )
    faults = [
        f"{name} {metric} is not shown to be {bound:g} or more"
        for name, metric, bound in (
            ("accuracy", accuracy, least.accuracy),
            ("κ", kappa, least.kappa),
        )
        if metric.low is None or metric.low < bound
    ]
    if len(read) < least.pairs:
        faults = [f"{len(read)} pairs, {least.pairs} are needed"]
    return CheckedPart(within=within, accuracy=accuracy, kappa=kappa, missing=len(rows) - len(read),
                passes=not faults, why="; ".join(faults), figures=_figures(read, sure))  # fmt: skip


def _figures(read: Sequence[Tried], sure: bool) -> dict[str, Metric]:
    """What is told of every part beside its accuracy."""
    two = [t for t in read if len(t.verdict.by_order) == 2]
    confidence = [max(t.verdict.probs or ()) for t in read]
    return {
        "consistency": share_of([float(len(set(map(says, t.verdict.by_order))) == 1) for t in two], two),
        **leanings(read),
        "retest": _retest(read),
        "calibration": calibration_error(confidence, [t.right for t in read], [t.prompt for t in read])
        if sure
        else NOT_MEASURED,
    }  # fmt: skip


def _retest(rows: Sequence[Tried]) -> Metric:
    kept = [t for t in rows if t.again and t.again.probs]
    if not kept:
        return Metric(value=None, n=0, note="not asked again")
    same = [float(says(t.verdict.probs) == says(t.again.probs)) for t in kept if t.again]
    return share_of(same, kept)


def _one_a_prompt(rows: Sequence[Tried]) -> tuple[list[float], list[bool]]:
    """The first pair of each prompt: what a guarantee is calibrated on must be independent."""
    once: dict[str, Any] = {}
    for t in rows:
        once.setdefault(t.prompt, t)
    return [max(t.verdict.probs) for t in once.values()], [t.right for t in once.values()]
