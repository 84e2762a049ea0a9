"""What reviewers see of a study's answers: agreement, raters, progress. The one place that turns the web's
rows into what `accord.stats` measures; every figure is a Metric."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import sqlalchemy as sa

from accord.core.types import Judgment, Metric
from accord.feedback.study import assignment
from accord.feedback.trust.quality import RaterReport, rater_reports
from accord.stats.agreement import Scale, krippendorff_alpha, percent_agreement
from accord.stats.intervals import cluster_mean
from accord.store import Snapshot
from accord.store.db import schema
from accord.web import tables
from accord.web.site import Site
from accord.web.work.queue import GOLD, REPEAT

__all__ = ["Given", "agreement", "answers", "progress", "rater_rows", "reports", "votes"]

L, Q, A, S = tables.leases, tables.study_questions, tables.accounts, tables.study_judgments
STATES = ("open", "settled", "disputed", "adjudicated")
SCALES: dict[str, Scale] = {"rate": "ordinal"}  # else nominal
TURNED = {"first": "second", "second": "first"}  # which response comes first is chance


@dataclass(frozen=True)
class Given:
    """One answer as it stands now. `said`: its categories in the study's order of responses."""

    question: str
    rater: str
    kind: str
    category: str
    guideline: str
    order: tuple[int, ...]
    judgment: Judgment
    said: dict[str, str]
    gold: bool
    right: bool | None
    seconds: float | None
    at: float
    repeat: bool


def answers(
    site: Site, study: str, question: str | None = None, *, repeats: bool = False
) -> list[Given]:
    """Every answer of a study, votes in the arena among them (or on one question), the corrected ones left
    out, oldest first. Of a rater who was asked again the last one, on request all (`repeats`)."""
    j = schema.judgments
    query = (
        sa.select(L, Q.c.kind, Q.c.category, Q.c.gold, A.c.name, j.c.body)
        .join_from(L, Q, L.c.question == Q.c.id)
        .join(A, L.c.account == A.c.id)
        .join(j, L.c.judgment == j.c.id)
        .where(L.c.study == study, L.c.state == "submitted")
        .order_by(L.c.ended_at)
    )
    if question:
        query = query.where(L.c.question == question)
    found = [] if question else votes(site, study)
    for row in site.all(query):
        judgment, order = Judgment.model_validate_json(row.body), tuple(json.loads(row.shown))
        said = assignment.categories(judgment.answer, order)
        found.append(
            Given(
                row.question, row.name, row.kind, row.category, row.guideline, order, judgment,
                said, row.gold is not None, row.right, row.seconds, row.ended_at, row.arm == REPEAT,
            )
        )  # fmt: skip
    found.sort(key=lambda g: g.at)
    return found if repeats else _last(found)


def _last(given: Sequence[Given]) -> list[Given]:
    """The last answer of each rater to each question: that is what `snapshot.pairs.votes` pools."""
    return list({(g.question, g.rater): g for g in given}.values())


def votes(site: Site, study: str) -> list[Given]:
    """Votes in the arena, the corrected ones left out. Each is about answers of its own."""
    mine, j, asked, r = S, schema.judgments, schema.questions, schema.raters
    rows = site.all(
        sa.select(j.c.body, j.c.question, asked.c.guideline, r.c.name)
        .join_from(mine, j, mine.c.judgment == j.c.id)
        .join(asked, j.c.question == asked.c.id)
        .join(r, j.c.rater == r.c.id)
        .where(mine.c.study == study, mine.c.question.is_(None))
    )
    cast = [(row, Judgment.model_validate_json(row.body)) for row in rows]
    corrected = {judgment.supersedes for _, judgment in cast}
    return [
        Given(
            row.question, row.name, "compare", "arena", row.guideline, (0, 1), judgment,
            assignment.categories(judgment.answer, (0, 1)), False, None, judgment.seconds,
            datetime.fromisoformat(judgment.at).timestamp(), False,
        )
        for row, judgment in cast
        if judgment.id not in corrected
    ]  # fmt: skip


def progress(site: Site, study: str) -> dict[str, Any]:
    """Questions by state, the judgments that count towards them, votes in the arena, skips, flags, people
    at work."""
    with site.db.reading() as connection:

        def count(table: sa.TableClause, *where: Any) -> int:
            query = (
                sa.select(sa.func.count()).select_from(table).where(table.c.study == study, *where)
            )
            return int(connection.execute(query).scalar_one())

        mine = (Q.c.study == study, Q.c.gold.is_(None))
        by_state = sa.select(Q.c.state, sa.func.count()).where(*mine).group_by(Q.c.state)
        states = {state: int(n) for state, n in connection.execute(by_state)}
        wanted = connection.execute(sa.select(sa.func.sum(Q.c.wanted)).where(*mine)).scalar() or 0
        return {
            "questions": sum(states.values()),
            "states": {state: states.get(state, 0) for state in STATES},
            "judgments": count(L, L.c.state == "submitted", L.c.arm.not_in((GOLD, REPEAT))),
            "wanted": int(wanted),
            "votes": len(votes(site, study)),
            "gold": count(Q, Q.c.gold.is_not(None)),
            "skipped": count(L, L.c.state == "skipped"),
            "flags": count(tables.flags, tables.flags.c.closed_at.is_(None)),
            "at_work": count(L, L.c.state == "held", L.c.expires_at > site.now()),
        }


def agreement(given: Sequence[Given]) -> list[dict[str, Any]]:
    """Percent and α by kind and axis, and of each by category and guideline version where there are several.
    α takes ratings in their order, other answers as equal or not."""
    plain = [g for g in given if not g.gold and g.said]
    rows = []
    for kind in sorted({g.kind for g in plain}):
        mine = [g for g in plain if g.kind == kind]
        for axis in sorted({a for g in mine for a in g.said}):
            on_axis = [g for g in mine if axis in g.said]
            name = f"{kind} · {axis}" if axis else kind
            rows.append(_row(name, on_axis, axis))
            for what in ("category", "guideline"):
                parts = sorted({getattr(g, what) for g in on_axis} - {""})
                if len(parts) > 1:
                    rows += [
                        _row(f"{name} · {p}", [g for g in on_axis if getattr(g, what) == p], axis)
                        for p in parts
                    ]
    return rows


def _row(name: str, given: Sequence[Given], axis: str) -> dict[str, Any]:
    units: dict[str, list[str | float]] = defaultdict(list)
    for g in given:
        said = g.said[axis]
        units[g.question].append(float(said) if g.kind == "rate" else said)
    twice = sum(len(u) > 1 for u in units.values())
    found, scale = list(units.values()), SCALES.get(given[0].kind, "nominal")
    mirror = (lambda v: TURNED.get(v, v)) if given[0].kind == "compare" else None
    return {
        "name": name, "judgments": len(given), "questions": len(units), "twice": twice,
        "percent": percent_agreement(found),
        "alpha": krippendorff_alpha(found, scale=scale, mirror=mirror),
        "scale": scale,
    }  # fmt: skip


def rater_rows(site: Site, study: str, given: Sequence[Given]) -> list[dict[str, Any]]:
    """One row per rater: amount, pace, gold, side, agreement with the others, and with themselves where
    `given` holds repeats."""
    repeats, first = [g for g in given if g.repeat], defaultdict[str, list[Given]](list)
    for g in given:
        if not g.repeat:
            first[g.question].append(g)
    given, others = _last(given), defaultdict[str, list[Given]](list)
    for g in given:
        others[g.question].append(g)
    skipped = Counter(
        row.name
        for row in site.all(
            sa.select(A.c.name)
            .join_from(L, A, L.c.account == A.c.id)
            .where(L.c.study == study, L.c.state == "skipped")
        )
    )
    names = sorted({g.rater for g in given} | set(skipped))
    return [
        _rater(name, given, others, skipped[name]) | {"itself": _itself(name, repeats, first)}
        for name in names
    ]


def _itself(name: str, repeats: Sequence[Given], first: dict[str, list[Given]]) -> Metric:
    """How many of a rater's repeats say what was said before; a rating may be one point off."""
    same = [
        (assignment.agrees(again.said, before.said), again.question)
        for again in repeats
        if again.rater == name
        for before in first[again.question]
        if before.rater == name
    ]
    return _measured(same)


def reports(site: Site, study: str, given: Sequence[Given]) -> list[RaterReport]:
    """What a model of all answers says of each rater: reliability and biases (accord.feedback.trust.quality).
    Takes seconds for tens of thousands of answers."""
    told = [g.judgment for g in given if not g.gold]
    return rater_reports(Snapshot(site.store, study, told)) if told else []


def _rater(
    name: str, given: Sequence[Given], others: dict[str, list[Given]], skipped: int
) -> dict[str, Any]:
    own = [g for g in given if g.rater == name]
    seconds = [g.seconds for g in own if g.seconds is not None]
    gold = [(g.right, g.question) for g in own if g.right is not None]
    same = [
        (g.said == other.said, g.question)
        for g in own
        if g.said and not g.gold
        for other in others[g.question]
        if other.rater != name
    ]
    sides = [
        (g.judgment.answer.better == 0, g.question)
        for g in own
        if g.judgment.answer.kind == "preference" and g.judgment.answer.better is not None
    ]
    return {
        "name": name, "judgments": len(own), "skipped": skipped,
        "seconds": median(seconds) if seconds else None,
        "gold": _measured(gold), "left": _measured(sides),
        "agreement": _measured(same),
    }  # fmt: skip


def _measured(same: Sequence[tuple[bool, str]]) -> Metric:
    """A share over questions: answers to one hang together."""
    return cluster_mean([float(hit) for hit, _ in same], [question for _, question in same])
