"""How far answers to the same thing agree: by kind and axis, by prompt tag, by guideline, on easy and hard.

What counts as one thing (a unit) is a pair of responses for comparisons and rankings, a response for
ratings (on each axis) and thumbs, a step of a response for steps; under another guideline it is another
unit. A model's guideline (a judge's is its template) makes none: its answer is one to the thing, under each
guideline that people answered it under. A rater counts once on a unit, with the last answer.

A soft vote is the side it names (`ballots.category`). A judge's mean of a scale is the nearest point, and
what it is where α asks for its order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from accord.core.types import Frozen, Metric, Prompt, Rating, StepLabels, Thumb, Writing
from accord.feedback.trust.ballots import category
from accord.stats.agreement import (
    Scale,
    agreement_by_difficulty,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    percent_agreement,
)
from accord.store import Snapshot
from accord.store.snapshot.pairs import votes

__all__ = ["Agreement", "Answered", "agreement_rows", "answered"]

MOST_TAGS = 30  # values of a tag; one with more is an identifier, not a category
SCALES: dict[str, Scale] = {"rate": "ordinal", "steps": "ordinal"}  # else nominal


class Answered(NamedTuple):
    """One rater's last answer to one unit."""

    kind: str  # compare, rank, rate, thumb, steps
    axis: str  # of a rating, else ""
    unit: Hashable
    rater: str
    value: float
    prompt: Prompt
    guideline: str | None  # that people answered the unit under; None where only models did
    graded: float  # of a comparison: -3 to 3 with its strength; else the score or label


class Agreement(Frozen):
    """Agreement on one kind of answer, `within` all, a category (tag=value) or a guideline."""

    kind: str
    axis: str = ""
    within: str = "all"
    raters: int
    units: int
    answers: int
    percent: Metric
    alpha: Metric
    scale: Literal["nominal", "ordinal", "interval"]
    ordinal: Metric | None = None  # of comparisons with a strength: α of that, in its order
    kappa: Metric
    kappa_of: Literal["cohen", "fleiss"]
    easy: Metric | None = None
    hard: Metric | None = None


def answered(snapshot: Snapshot) -> list[Answered]:
    """All answers that could agree with others', in the order they came; corrections are resolved."""
    tables = snapshot.tables
    judgments = snapshot.judgments
    models = {i for i, r in tables.raters.items() if r.kind == "model"}
    rows: list[Answered] = []

    def put(
        kind: str, axis: str, thing: Hashable, rater: str, value: float, q: Any, graded: float
    ) -> None:
        prompt = tables.prompts[q.prompt]
        rows.append(Answered(kind, axis, thing, rater, value, prompt, q.guideline, graded))

    for j in judgments:
        q, answer = tables.questions[j.question], j.answer
        if isinstance(answer, Rating):
            averaged = j.rater in models and "@" in q.guideline  # asked by a template
            for axis, score in answer.scores.items():
                point = math.floor(score + 0.5) if averaged else score
                put("rate", axis, q.responses[0], j.rater, point, q, score)
        elif isinstance(answer, Thumb):
            put("thumb", "", q.responses[0], j.rater, float(answer.up), q, float(answer.up))
        elif isinstance(answer, StepLabels):
            for step, label in enumerate(answer.labels):
                put("steps", "", (q.responses[0], step), j.rater, label, q, label)
    by_id = {j.id: j for j in judgments}
    compared = (j for j in judgments if not isinstance(j.answer, Writing | Rating))
    for vote in votes(compared, tables, repeats=True)[0]:  # the last one of each unit is kept
        q = tables.questions[by_id[vote.sources[0]].question]
        straight = vote if vote.first < vote.second else vote.turned()
        pair = (straight.first, straight.second)
        side = float(category(straight.value))
        graded = (2 * side - 1) * straight.strength
        put(q.kind, "", pair, straight.rater, side, q, graded)
    return _by_unit(rows, models)


def _by_unit(rows: Sequence[Answered], models: Collection[str]) -> list[Answered]:
    """Each rater's last answer to each unit; `rows` have the thing itself as theirs."""
    of_people: dict[tuple[Hashable, ...], dict[str | None, None]] = defaultdict(dict)
    for a in rows:
        if a.rater not in models:
            of_people[a[:3]][a.guideline] = None
    latest: dict[tuple[Hashable, ...], Answered] = {}
    for a in rows:
        people = of_people.get(a[:3], {})
        own = a.rater not in models or a.guideline in people
        for guideline in [a.guideline] if own else people or [None]:
            row = a._replace(unit=(a.unit, guideline), guideline=guideline)
            latest[row[:4]] = row
    return list(latest.values())


def agreement_rows(snapshot: Snapshot, *, level: float = 0.95, seed: int = 0) -> list[Agreement]:
    """Agreement for each kind and axis: over all, by prompt tag, and by guideline where there are several."""
    rows: list[Agreement] = []
    groups: dict[tuple[str, str], list[Answered]] = defaultdict(list)
    for a in answered(snapshot):
        groups[a.kind, a.axis].append(a)
    for key in sorted(groups):
        answers = groups[key]
        rows.append(_row(answers, "all", level, seed, split=True))
        for name, part in _parts(answers):
            rows.append(_row(part, name, level, seed, split=False))
    return rows


def _parts(answers: Sequence[Answered]) -> Iterable[tuple[str, list[Answered]]]:
    by_tag: dict[str, dict[str, list[Answered]]] = defaultdict(lambda: defaultdict(list))
    by_guideline: dict[str, list[Answered]] = defaultdict(list)
    for a in answers:
        if a.guideline is not None:
            by_guideline[a.guideline].append(a)
        for tag, value in a.prompt.tags.items():
            by_tag[tag][value].append(a)
    for tag in sorted(by_tag):
        if 1 < len(by_tag[tag]) <= MOST_TAGS:
            yield from ((f"{tag}={v}", by_tag[tag][v]) for v in sorted(by_tag[tag]))
    if len(by_guideline) > 1:
        yield from ((f"guideline {g}", by_guideline[g]) for g in sorted(by_guideline))


def _row(
    answers: Sequence[Answered], within: str, level: float, seed: int, *, split: bool
) -> Agreement:
    units: dict[Hashable, dict[str, float]] = defaultdict(dict)
    grades: dict[Hashable, list[float]] = defaultdict(list)
    for a in answers:
        units[a.unit][a.rater] = a.value
        grades[a.unit].append(a.graded)
    values = [list(u.values()) for u in units.values()]
    graded = list(grades.values())
    raters = sorted({a.rater for a in answers})
    kind, scale = answers[0].kind, SCALES.get(answers[0].kind, "nominal")
    pairwise = kind in (
        "compare",
        "rank",
    )  # which of two is first is the order of their ids: chance
    mirror = (lambda v: 1 - v) if pairwise else None
    more: dict[str, Metric] = {}
    if kind == "compare" and any(abs(a.graded) > 1 for a in answers):
        more["ordinal"] = krippendorff_alpha(
            graded, scale="ordinal", mirror=lambda v: -v, level=level
        )
    if split:
        by = agreement_by_difficulty(values, level=level, seed=seed)
        more |= {"easy": by["easy"], "hard": by["hard"]}
    if len(raters) == 2:
        both = [(u.get(raters[0]), u.get(raters[1])) for u in units.values()]
        weights: Literal["none", "quadratic"] = "none" if scale == "nominal" else "quadratic"
        kappa = cohen_kappa(both, weights=weights, mirror=mirror, level=level)
    else:
        kappa = fleiss_kappa(values, mirror=mirror, level=level)
    return Agreement(
        kind=kind,
        axis=answers[0].axis,
        within=within,
        raters=len(raters),
        units=len(units),
        answers=len(answers),
        percent=percent_agreement(values, level=level, seed=seed),
        alpha=krippendorff_alpha(
            values if scale == "nominal" else graded, scale=scale, mirror=mirror, level=level
        ),
        scale=scale,
        kappa=kappa,
        kappa_of="cohen" if len(raters) == 2 else "fleiss",
        **more,
    )
