"""The next question for a rater: gold at the study's rate, else by one of the arms."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from accord.feedback import assignment
from accord.feedback.study import Study
from accord.web import tables

__all__ = ["left_for", "pick"]

POOL = 48  # questions among which the information gain chooses
L, Q = tables.leases, tables.study_questions


def _open_to(study: str, account: str, gold: bool) -> sa.Select[Any]:
    """Questions that want another rater and that this one has not had."""
    had = sa.exists().where(L.c.question == Q.c.id, L.c.account == account, L.c.state != "expired")
    kind = Q.c.gold.is_not(None) if gold else Q.c.gold.is_(None)
    return sa.select(Q).where(
        Q.c.study == study, Q.c.state == "open", Q.c.taken < Q.c.wanted, kind, ~had
    )


def pick(
    connection: sa.Connection, study: Study, account: str, draw: random.Random
) -> tuple[Any, str] | None:
    """(question, arm) or None. A gold question comes with the study's rate while there is other work, and
    never alone: who has only gold left is done."""
    work = _open_to(study.name, account, gold=False)
    arm = assignment.choose_arm(study.assignment, draw)
    if arm == "disagreement":
        row = connection.execute(work.order_by(Q.c.priority.desc(), Q.c.shuffle).limit(1)).first()
    elif arm == "information":
        row = _most_telling(connection, study, work)
    else:
        row = connection.execute(work.order_by(Q.c.shuffle).limit(1)).first()
    if row is None:
        return None
    if study.gold_rate and draw.random() < study.gold_rate:
        known = connection.execute(_open_to(study.name, account, gold=True).limit(POOL)).all()
        if known:
            return draw.choice(known), "gold"
    return row, arm


def left_for(connection: sa.Connection, study: str, account: str) -> int:
    """How many questions still want this rater."""
    found = _open_to(study, account, gold=False).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(found)).scalar_one())


def _most_telling(connection: sa.Connection, study: Study, work: sa.Select[Any]) -> Any:
    """Of a pool, the comparison whose answer would tell most about its prompt's responses; without a
    comparison in it, the first."""
    pool = connection.execute(work.order_by(Q.c.shuffle).limit(POOL)).all()
    prompts = {row.prompt for row in pool if row.kind == "compare"}
    if not prompts:
        return pool[0] if pool else None
    asked = connection.execute(
        sa.select(Q.c.prompt, Q.c.responses, Q.c.tally).where(
            Q.c.study == study.name, Q.c.kind == "compare", Q.c.prompt.in_(prompts)
        )
    ).all()
    by_prompt: dict[str, list[Any]] = defaultdict(list)
    for row in asked:
        by_prompt[row.prompt].append(row)
    gains = {prompt: _gains(found) for prompt, found in by_prompt.items()}
    return max(pool, key=lambda row: gains.get(row.prompt, {}).get(row.responses, 0.0))


def _gains(asked: list[Any]) -> dict[str, float]:
    """Nats by question, from the votes on all comparisons of one prompt."""
    pairs = [json.loads(row.responses) for row in asked]
    place = {id: k for k, id in enumerate(dict.fromkeys(i for pair in pairs for i in pair))}
    votes = []
    for pair, row in zip(pairs, asked, strict=True):
        a, b = (place[i] for i in pair)
        counts = json.loads(row.tally).get("", {})
        for category, share in (("first", 1.0), ("second", 0.0), ("tie", 0.5)):
            votes += [(a, b, share)] * counts.get(category, 0)
    gain_KK = assignment.information_gain(assignment.wins(len(place), votes))
    return {
        row.responses: float(gain_KK[place[pair[0]], place[pair[1]]])
        for pair, row in zip(pairs, asked, strict=True)
    }
