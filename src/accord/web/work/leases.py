"""Who works on what: leases are rows, claimed, submitted, skipped and expired in one transaction each.

A write transaction is exclusive (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock), and partial unique
indexes stand behind it: one live lease per seat of a question, one per rater and question, one held per
rater. A lease that ran out goes back to the pool when somebody next looks for work; until then its holder may
still submit.

A repeat (arm "repeat") asks a rater the same again, to measure the rater: it takes no seat and counts towards
no verdict.
"""

from __future__ import annotations

import contextlib
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from accord.core.errors import DataError
from accord.core.hashing import canonical_json
from accord.core.types import Answer, Judgment, Prompt, Question, Response
from accord.feedback.study import assignment
from accord.feedback.study.definition import Ask, Study
from accord.store.db import schema
from accord.web import tables
from accord.web.guard.accounts import Who
from accord.web.site import Site, new_id, rater_of
from accord.web.work.drafts import save_draft, written
from accord.web.work.judgments import keep
from accord.web.work.queue import REPEAT, pick, tell_gains

__all__ = [
    "Lease",
    "Lost",
    "claim",
    "last_submitted",
    "read_lease",
    "save_draft",
    "skip",
    "submit",
    "submitted",
]

LIVE = ("held", "submitted")
BEGUN = 20  # questions begun and not answered in time that are looked at
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
L, Q = tables.leases, tables.study_questions


class Lost(Exception):
    """The lease ran out and others have taken the question."""


@dataclass(frozen=True)
class Lease:
    """A lease with all that its page shows. `responses` in the order shown."""

    id: str
    state: str
    judgment: str | None
    order: tuple[int, ...]
    question: Question
    study_question: str
    ask: Ask
    prompt: Prompt
    responses: tuple[Response, ...]
    guideline: int
    draft: dict[str, str]


# -- reading --------------------------------------------------------------------------------------


def read_lease(site: Site, study: Study, who: Who, id: str) -> Lease | None:
    """A lease of this rater in this study, None when there is none of this id."""
    row = site.one(
        _with_question().where(L.c.id == id, L.c.study == study.name, L.c.account == who.id)
    )
    return None if row is None else _lease(site, study, row)


def last_submitted(site: Site, study: Study, who: Who) -> str | None:
    """The id of the lease this rater submitted last."""
    row = site.one(submitted(study, who).limit(1))
    return None if row is None else str(row.id)


def submitted(study: Study, who: Who) -> sa.Select[Any]:
    """This rater's leases with an answer, the last answer first: by the chain, whatever the clock said."""
    mine = (L.c.study == study.name, L.c.account == who.id, L.c.state == "submitted")
    j = schema.judgments
    return (
        sa.select(L).join_from(L, j, L.c.judgment == j.c.id).where(*mine).order_by(j.c.seq.desc())
    )


def _with_question() -> sa.Select[Any]:
    asked = (
        Q.c.prompt, Q.c.kind, Q.c.block, Q.c.responses, Q.c.gold, Q.c.tally,
        Q.c.answered, Q.c.taken, Q.c.wanted, Q.c.state.label("question_state"),
    )  # fmt: skip
    return sa.select(L, *asked).join_from(L, Q, L.c.question == Q.c.id)


def _question(row: Any) -> Question:
    ids = json.loads(row.responses)
    shown = tuple(ids[i] for i in json.loads(row.shown))
    return Question(prompt=row.prompt, responses=shown, kind=row.kind, guideline=row.guideline)


def _lease(site: Site, study: Study, row: Any) -> Lease:
    question = _question(row)
    prompt, responses = site.asked(row.prompt, question.responses)
    return Lease(
        id=row.id, state=row.state, judgment=row.judgment, order=tuple(json.loads(row.shown)),
        question=question, study_question=row.question, ask=study.questions[row.block],
        prompt=prompt, responses=responses,
        guideline=int(row.guideline.removeprefix("v")),
        draft=json.loads(row.draft or "{}"),
    )  # fmt: skip


# -- claiming -------------------------------------------------------------------------------------


def claim(site: Site, study: Study, who: Who, draw: random.Random | None = None) -> Lease | None:
    """The lease this rater holds, or a new one; None when nothing is left for them."""
    mine = (L.c.study == study.name, L.c.account == who.id, L.c.state == "held")
    row = site.one(_with_question().where(*mine, L.c.expires_at > site.now()))
    if row is None:
        draw = draw or random.SystemRandom()
        with site.db.writing() as connection:
            expire(site, study.name)
            held = connection.execute(sa.select(L.c.id).where(*mine)).scalar()
            id = held or _begun(site, connection, study, who)
            id = id or _claim(site, connection, study, who, draw)
            if id is None:
                return None
            row = connection.execute(_with_question().where(L.c.id == id)).one()
    return _lease(site, study, row)


def _begun(site: Site, connection: sa.Connection, study: Study, who: Who) -> str | None:
    """A question this rater had begun when time ran out, held again: the newest that nobody took since."""
    begun = _with_question().where(
        L.c.study == study.name,
        L.c.account == who.id,
        L.c.state == "expired",
        L.c.draft.is_not(None),
    )
    for row in connection.execute(begun.order_by(L.c.at.desc()).limit(BEGUN)).all():
        if written(json.loads(row.draft)):
            with contextlib.suppress(Lost):
                _take_again(connection, row, "held")
                until = site.now() + 60 * study.lease_minutes
                again = {"expires_at": until, "ended_at": None}
                connection.execute(sa.update(L).where(L.c.id == row.id).values(**again))
                return str(row.id)
    return None


def expire(site: Site, study: str) -> int:
    """Return leases that ran out to the pool; how many."""
    with site.db.writing() as connection:
        over = connection.execute(
            sa.select(L.c.id, L.c.question, L.c.arm).where(
                L.c.study == study, L.c.state == "held", L.c.expires_at <= site.now()
            )
        ).all()
        for row in over:
            ended = {"state": "expired", "ended_at": site.now()}
            connection.execute(sa.update(L).where(L.c.id == row.id).values(**ended))
            _give_back(connection, row)
    return len(over)


def _give_back(connection: sa.Connection, lease: Any) -> None:
    _take(connection, lease.question, lease.arm, -1)


def _take(connection: sa.Connection, question: str, arm: str, seats: int = 1) -> None:
    if arm != REPEAT:
        taken = Q.c.taken + seats
        connection.execute(sa.update(Q).where(Q.c.id == question).values(taken=taken))


def _claim(
    site: Site, connection: sa.Connection, study: Study, who: Who, draw: random.Random
) -> str | None:
    picked = pick(connection, study, who.id, draw)
    if picked is None:
        return None
    row, arm = picked
    # an expired lease of this rater keeps its order: what they saw once stays where it was
    again = connection.execute(
        sa.select(L.c.shown)
        .where(L.c.question == row.id, L.c.account == who.id, _same_arm(arm))
        .limit(1)
    ).scalar()
    order = json.loads(again) if again else _order(connection, study, who, row, arm, draw)
    newest = site.guideline(study.name)
    lease = {
        "id": new_id(), "study": study.name, "question": row.id, "account": who.id,
        "seat": _seat(connection, row.id), "state": "held", "arm": arm,
        "shown": canonical_json(order), "guideline": f"v{newest.number if newest else 1}",
        "at": site.now(), "expires_at": site.now() + 60 * study.lease_minutes, "ended_at": None,
        "judgment": None, "right": None, "seconds": None, "reason": None, "draft": None,
    }  # fmt: skip
    connection.execute(sa.insert(L), [lease])
    _take(connection, row.id, arm)
    return str(lease["id"])


def _same_arm(arm: str) -> Any:
    return L.c.arm == REPEAT if arm == REPEAT else L.c.arm != REPEAT


def _seat(connection: sa.Connection, question: str) -> int:
    """The lowest free seat."""
    query = sa.select(L.c.seat).where(L.c.question == question, L.c.state.in_(LIVE))
    used = set(connection.execute(query).scalars())
    return next(seat for seat in range(len(used) + 1) if seat not in used)


def _order(
    connection: sa.Connection, study: Study, who: Who, row: Any, arm: str, draw: random.Random
) -> list[int]:
    """Balanced over the question's raters; of a repeat, against the order its rater saw before."""
    k = len(json.loads(row.responses))
    if k < 2:
        return list(range(k))
    here = sa.select(L.c.shown).where(L.c.question == row.id, L.c.state.in_(LIVE))
    if arm == REPEAT:
        here = here.where(L.c.account == who.id)
    own = (
        sa.select(L.c.shown)
        .where(L.c.study == study.name, L.c.account == who.id)
        .order_by(L.c.at.desc())
        .limit(20)
    )
    before, mine = (
        [json.loads(s) for s in connection.execute(query).scalars()] for query in (here, own)
    )
    return assignment.balanced_order(k, before, mine, draw)


# -- submitting -----------------------------------------------------------------------------------


def submit(
    site: Site, study: Study, who: Who, id: str, answer: Answer, *, base: str,
    seconds: float | None = None, rationale: str | None = None,
) -> Judgment | None:  # fmt: skip
    """Keep an answer, in one transaction. `base` is the judgment the form was made from ("" for none): when
    the lease has another by now, this form was sent before and nothing happens (None). A second answer
    supersedes the first. Lost when the question went to others; DataError when the answer doesn't fit."""
    with site.db.writing() as connection:
        mine = (L.c.id == id, L.c.study == study.name, L.c.account == who.id)
        row = connection.execute(_with_question().where(*mine)).first()
        if row is None:
            raise Lost
        if (row.judgment or "") != base:
            return None
        if row.state not in LIVE:
            _take_again(connection, row, "submitted")
        question, rater = _question(row), rater_of(who.name)
        judgment = Judgment(
            question=question.id, rater=rater.id, answer=answer, rationale=rationale or None,
            at=datetime.fromtimestamp(site.now(), UTC).isoformat(),
            seconds=_spent(site.now() - row.at, seconds),
            supersedes=row.judgment,
        )  # fmt: skip
        keep(site, study.name, question, rater, judgment, row.question)
        if row.arm != REPEAT:
            _count(connection, study, row, answer)
        values = {
            "state": "submitted", "judgment": judgment.id, "seconds": judgment.seconds, "draft": None,
            "right": _right(row, answer), "ended_at": row.ended_at or site.now(),
        }  # fmt: skip
        connection.execute(sa.update(L).where(L.c.id == id).values(**values))
    return judgment


def _spent(since: float, reported: float | None) -> float:
    """Seconds on a question: what the browser told, at most those since it was given out. A clock that was
    set back in between knows nothing; then it is the browser's word, or nothing."""
    if since < 0:
        return round(reported or 0.0, 1)
    return round(since if reported is None else min(reported, since), 1)


def _take_again(connection: sa.Connection, row: Any, state: str) -> None:
    """Give the holder of an expired lease the seat back where there is one; Lost where there is none."""
    free = row.arm == REPEAT or (row.question_state == "open" and row.taken < row.wanted)
    if row.state != "expired" or not free or _has(connection, row):
        raise Lost
    held = {"state": state, "seat": _seat(connection, row.question)}
    connection.execute(sa.update(L).where(L.c.id == row.id).values(**held))
    _take(connection, row.question, row.arm)


def _has(connection: sa.Connection, row: Any) -> bool:
    """Whether the holder of an expired lease has its question anew: held, answered or skipped."""
    live = sa.select(L.c.id).where(
        L.c.question == row.question, L.c.account == row.account, L.c.state != "expired",
        _same_arm(row.arm),
    )  # fmt: skip
    return connection.execute(live).first() is not None


def _right(row: Any, answer: Answer) -> bool | None:
    """Whether a gold question was answered right, None for others."""
    if row.gold is None:
        return None
    known = ANSWER.validate_json(row.gold)
    order = json.loads(row.shown)
    given = assignment.categories(answer, order)
    return assignment.agrees(given, assignment.categories(known, sorted(order)))


def _count(connection: sa.Connection, study: Study, row: Any, answer: Answer) -> None:
    """Bring the question's tally, state and wanted number of raters up to date."""
    order = json.loads(row.shown)
    tally, answered = json.loads(row.tally), row.answered
    if row.judgment:
        body = sa.select(schema.judgments.c.body).where(schema.judgments.c.id == row.judgment)
        old = Judgment.model_validate_json(connection.execute(body).scalar_one())
        tally = assignment.add_to(tally, assignment.categories(old.answer, order), -1)
    else:
        answered += 1
    tally = assignment.add_to(tally, assignment.categories(answer, order))
    values: dict[str, Any] = {"tally": canonical_json(tally), "answered": answered}
    if row.gold is None and row.question_state != "adjudicated":
        state = assignment.state_after(tally, answered, study.overlap)
        values["state"] = state
        if state == "open":
            values["wanted"] = max(study.overlap.min, answered + 1)
    connection.execute(sa.update(Q).where(Q.c.id == row.question).values(**values))
    if row.kind == "compare":
        tell_gains(connection, study.name, row.prompt)


# -- the rest -------------------------------------------------------------------------------------


def skip(site: Site, study: Study, who: Who, id: str, reason: str) -> bool:
    """Leave a question to others; this rater won't meet it again. Also after the lease ran out, unless they
    answered it since, or hold it anew: then False. DataError without a reason."""
    if not reason.strip():
        raise DataError("say why", where="reason")
    with site.db.writing() as connection:
        mine = (L.c.id == id, L.c.study == study.name, L.c.account == who.id)
        row = connection.execute(sa.select(L).where(*mine)).first()
        if (
            row is None
            or row.state == "submitted"
            or (row.state == "expired" and _has(connection, row))
        ):
            return False
        if row.state != "skipped":
            ended = {"state": "skipped", "ended_at": site.now(), "reason": reason[:2000]}
            connection.execute(sa.update(L).where(L.c.id == id).values(**ended))
        if row.state == "held":
            _give_back(connection, row)
    return True
