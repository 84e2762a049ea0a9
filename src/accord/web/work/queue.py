"""The next question for a rater: gold, or one of their own again, at the study's rates; else by one of the
arms."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from accord.feedback.study import assignment
from accord.feedback.study.definition import Study
from accord.web import tables

__all__ = ["GOLD", "REPEAT", "left_for", "pick", "tell_gains"]

POOL = 48  # questions among which one is drawn
APART = 10  # answers between a question and its repeat
GOLD = "gold"  # the arm of a lease whose answer is known
REPEAT = "repeat"  # the arm of a lease that asks again
L, Q = tables.leases, tables.study_questions


def _open_to(study: str, account: str, gold: bool) -> sa.Select[Any]:
    """Questions that want another rater and that this one has not had."""
    mine = (L.c.study == study, L.c.account == account, L.c.state != "expired")
    had = Q.c.id.in_(sa.select(L.c.question).where(*mine))  # once, and not for every question
    kind = Q.c.gold.is_not(None) if gold else Q.c.gold.is_(None)
    return sa.select(Q).where(
        Q.c.study == study, Q.c.state == "open", Q.c.taken < Q.c.wanted, kind, ~had
    )


def pick(
    connection: sa.Connection, study: Study, account: str, draw: random.Random
) -> tuple[Any, str] | None:
    """(question, arm) or None. Gold questions and repeats come at the study's rates while there is other
    work, and never alone: who has only these left is done."""
    work = _open_to(study.name, account, gold=False)
    arm = assignment.choose_arm(study.assignment, draw)
    if arm == "disagreement":
        row = connection.execute(
            work.order_by(Q.c.priority.desc(), Q.c.shuffle.desc()).limit(1)
        ).first()
    elif arm == "information":
        row = connection.execute(
            work.order_by(Q.c.gain.desc(), Q.c.shuffle.desc()).limit(1)
        ).first()
    else:
        row = connection.execute(work.order_by(Q.c.shuffle).limit(1)).first()
    if row is None:
        return None
    if study.gold_rate and draw.random() < study.gold_rate:
        known = connection.execute(_open_to(study.name, account, gold=True).limit(POOL)).all()
        if known:
            return draw.choice(known), GOLD
    if study.repeat_rate and draw.random() < study.repeat_rate:
        before = _answered_before(connection, study.name, account)
        if before:
            return draw.choice(before), REPEAT
    return row, arm


def _answered_before(connection: sa.Connection, study: str, account: str) -> list[Any]:
    """Questions this rater answered some time ago, and once."""
    again = Q.c.id.in_(
        sa.select(L.c.question).where(
            L.c.study == study, L.c.account == account, L.c.arm == REPEAT, L.c.state != "expired"
        )
    )
    recent = (
        sa.select(L.c.id)
        .where(L.c.study == study, L.c.account == account, L.c.state == "submitted")
        .order_by(L.c.ended_at.desc())
        .limit(APART)
    )
    query = (
        sa.select(Q)
        .join_from(Q, L, L.c.question == Q.c.id)
        .where(
            L.c.study == study, L.c.account == account, L.c.state == "submitted",
            L.c.arm != REPEAT, L.c.id.not_in(recent), Q.c.gold.is_(None), Q.c.kind != "write",
            ~again,
        )
        .order_by(L.c.ended_at.desc())
        .limit(POOL)
    )  # fmt: skip
    return list(connection.execute(query))


def left_for(connection: sa.Connection, study: str, account: str) -> int:
    """How many questions still want this rater."""
    waiting = _open_to(study, account, gold=False).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(waiting)).scalar_one())


def tell_gains(connection: sa.Connection, study: str, prompt: str) -> None:
    """Bring up to date what another answer to each comparison of a prompt's responses would tell."""
    asked = connection.execute(
        sa.select(Q.c.id, Q.c.responses, Q.c.tally).where(
            Q.c.study == study, Q.c.prompt == prompt, Q.c.kind == "compare"
        )
    ).all()
    for id, gain in _gains(asked).items():
        connection.execute(sa.update(Q).where(Q.c.id == id).values(gain=gain))


def _gains(asked: Sequence[Any]) -> Mapping[str, float]:
    """Nats by question, from the votes on all comparisons of one prompt."""
    pairs = [json.loads(row.responses) for row in asked]
    place = {id: k for k, id in enumerate(dict.fromkeys(i for pair in pairs for i in pair))}
    votes = []
    for pair, row in zip(pairs, asked, strict=True):
        a, b = (place[i] for i in pair)
        counts = json.loads(row.tally).get("", {})
        for category, share in (("first", 1.0), ("second", 0.0), ("tie", 0.5), ("both bad", 0.5)):
            votes += [(a, b, share)] * counts.get(category, 0)
    gain_KK = assignment.information_gain(assignment.wins(len(place), votes))
    return {
        row.id: float(gain_KK[place[pair[0]], place[pair[1]]])
        for pair, row in zip(pairs, asked, strict=True)
    }
