"""What reviewers see of a study's answers: agreement, raters, progress. The one place that turns the web's
rows into what `accord.feedback` measures; every figure is a Metric."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import sqlalchemy as sa

from accord.core.types import Judgment, Metric
from accord.feedback.trust.gold_questions import share_right
from accord.feedback.trust.observed import observed
from accord.feedback.trust.quality import RaterReport, rater_reports
from accord.feedback.trust.reliability import agreement_rows
from accord.store import Snapshot
from accord.store.db import schema
from accord.web import tables
from accord.web.site import Site, rater_of
from accord.web.work.queue import GOLD, REPEAT

__all__ = ["GivenAnswer", "agreement", "answers", "progress", "rater_rows", "reports", "votes"]

L, Q, A, S = tables.leases, tables.study_questions, tables.accounts, tables.study_judgments
STATES = ("open", "settled", "disputed", "adjudicated")


@dataclass(frozen=True)
class GivenAnswer:
    """One answer as it stands now."""

    question: str
    rater: str
    kind: str
    category: str
    guideline: str
    order: tuple[int, ...]
    judgment: Judgment
    prompt: str
    gold: bool
    right: bool | None
    seconds: float | None
    at: float
    repeat: bool


def answers(
    site: Site, study: str, question: str | None = None, *, repeats: bool = False
) -> list[GivenAnswer]:
    """Every answer of a study, votes in the arena among them (or on one question), the corrected ones left
    out, oldest first. Of a rater who was asked again the last one, on request all (`repeats`)."""
    j = schema.judgments
    query = (
        sa.select(L, Q.c.kind, Q.c.category, Q.c.gold, Q.c.prompt, A.c.name, j.c.body)
        .join_from(L, Q, L.c.question == Q.c.id)
        .join(A, L.c.account == A.c.id)
        .join(j, L.c.judgment == j.c.id)
        .where(L.c.study == study, L.c.state == "submitted")
        .order_by(L.c.ended_at)
    )
    if question:
        query = query.where(L.c.question == question)
    given = [] if question else votes(site, study)
    for row in site.all(query):
        judgment, order = Judgment.model_validate_json(row.body), tuple(json.loads(row.shown))
        given.append(
            GivenAnswer(
                row.question, row.name, row.kind, row.category, row.guideline, order, judgment,
                row.prompt, row.gold is not None, row.right, row.seconds, row.ended_at,
                row.arm == REPEAT,
            )
        )  # fmt: skip
    given.sort(key=lambda g: g.at)
    return given if repeats else _last(given)


def _last(given: Sequence[GivenAnswer]) -> list[GivenAnswer]:
    """The last answer of each rater to each question: that is what `snapshot.pairs.votes` pools."""
    return list({(g.question, g.rater): g for g in given}.values())


def votes(site: Site, study: str) -> list[GivenAnswer]:
    """Votes in the arena, the corrected ones left out. Each is about answers of its own."""
    mine, j, asked, r = S, schema.judgments, schema.questions, schema.raters
    rows = site.all(
        sa.select(j.c.body, j.c.question, asked.c.guideline, asked.c.prompt, r.c.name)
        .join_from(mine, j, mine.c.judgment == j.c.id)
        .join(asked, j.c.question == asked.c.id)
        .join(r, j.c.rater == r.c.id)
        .where(mine.c.study == study, mine.c.question.is_(None))
    )
    cast = [(row, Judgment.model_validate_json(row.body)) for row in rows]
    corrected = {judgment.supersedes for _, judgment in cast}
    return [
        GivenAnswer(
            row.question, row.name, "compare", "arena", row.guideline, (0, 1), judgment,
            row.prompt, False, None, judgment.seconds,
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


def agreement(site: Site, study: str, given: Sequence[GivenAnswer]) -> list[dict[str, Any]]:
    """Percent and α by kind and axis, and of each by category and guideline version where there are several:
    the rows of `accord trust` that a page has room for."""
    rows = []
    for row in agreement_rows(_asked(site, study, given)):
        what, _, part = row.within.replace("guideline ", "guideline=").partition("=")
        if what in ("all", "category", "guideline"):
            name = " · ".join(x for x in (row.kind, row.axis, part) if x)
            rows.append(
                {
                    "name": name, "judgments": row.answers, "questions": row.units,
                    "twice": row.percent.n, "percent": row.percent, "alpha": row.alpha,
                    "scale": row.scale,
                }
            )  # fmt: skip
    return rows


def _asked(site: Site, study: str, given: Sequence[GivenAnswer]) -> Snapshot:
    """What was said of questions whose answer is not known."""
    return Snapshot(site.store, study, [g.judgment for g in given if not g.gold])


def rater_rows(site: Site, study: str, given: Sequence[GivenAnswer]) -> list[dict[str, Any]]:
    """One row per rater: amount, pace, gold, side, agreement with the others, and with themselves where
    `given` holds repeats (accord.feedback.trust.observed)."""
    seen = observed(_asked(site, study, given))
    given = _last(given)
    skipped = Counter(
        row.name
        for row in site.all(
            sa.select(A.c.name)
            .join_from(L, A, L.c.account == A.c.id)
            .where(L.c.study == study, L.c.state == "skipped")
        )
    )
    nothing = Metric(value=None, n=0, level=0.95, note="no data")
    rows = []
    for name in sorted({g.rater for g in given} | set(skipped)):
        own = [g for g in given if g.rater == name]
        seconds = [g.seconds for g in own if g.seconds is not None]
        mine = seen.get(rater_of(name).id)
        rows.append(
            {
                "name": name, "judgments": len(own), "skipped": skipped[name],
                "seconds": median(seconds) if seconds else None,
                "gold": share_right([(g.right, g.prompt) for g in own if g.right is not None]),
                "left": mine.left if mine else nothing,
                "agreement": mine.agreement if mine else nothing,
                "itself": mine.consistency if mine else nothing,
            }
        )  # fmt: skip
    return rows


def reports(site: Site, study: str, given: Sequence[GivenAnswer]) -> list[RaterReport]:
    """What a model of all answers says of each rater: reliability and biases (accord.feedback.trust.quality).
    Takes seconds for tens of thousands of answers."""
    asked = _asked(site, study, given)
    return rater_reports(asked) if len(asked) else []
