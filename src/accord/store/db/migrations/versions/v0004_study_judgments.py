"""Which study a judgment was given in: answers, decisions and votes, with those they corrected. And gold
questions that somebody decided serve as gold again."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    table = op.create_table(
        "study_judgments",
        sa.Column("study", sa.String(64), sa.ForeignKey("studies.name"), primary_key=True),
        sa.Column("judgment", sa.String(20), sa.ForeignKey("judgments.id"), primary_key=True),
        sa.Column("question", sa.String(40), sa.ForeignKey("study_questions.id")),
    )
    given = _given(op.get_bind())
    if given:
        op.bulk_insert(
            table, [{"study": s, "judgment": j, "question": q} for (s, j), q in given.items()]
        )
    op.execute(
        "UPDATE study_questions SET state = 'open' WHERE gold IS NOT NULL AND state = 'adjudicated'"
    )


def _given(connection: sa.Connection) -> dict[tuple[str, str], str | None]:
    """The question by (study, judgment); None for a vote in the arena."""

    def rows(query: str) -> Any:
        return connection.exec_driver_sql(query)

    question_of: dict[tuple[str, str], str | None] = {}
    for study, judgment, question in rows(
        "SELECT study, judgment, question FROM leases WHERE judgment IS NOT NULL"
    ):
        question_of[study, judgment] = question
    for (body,) in rows("SELECT body FROM events"):
        event = json.loads(body)
        if event["action"] == "adjudicated":
            question_of[event["study"], event["detail"]["judgment"]] = event["detail"]["question"]
    for study, turns in rows("SELECT study, turns FROM talks"):
        question_of |= {(study, turn["vote"]): None for turn in json.loads(turns) if turn["vote"]}
    if question_of:
        bodies = rows("SELECT id, body FROM judgments")
        before = {id: old for id, body in bodies if (old := json.loads(body)["supersedes"])}
        for (study, judgment), question in list(question_of.items()):
            while (judgment := before.get(judgment, "")) != "":
                question_of[study, judgment] = question
    return question_of
