"""The tables of collection: accounts, studies, leases, the audit chain."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

REFUSED = "the audit log is never changed"
ID, NAME = sa.String(40), sa.String(64)


def _text(name: str, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null)


def _time(name: str, null: bool = False) -> sa.Column[float]:
    """Seconds since 1970, UTC."""
    return sa.Column(name, sa.Float, nullable=null)


def _to(
    name: str, target: str, kind: sa.String = ID, null: bool = False, **more: Any
) -> sa.Column[str]:
    return sa.Column(name, kind, sa.ForeignKey(target), nullable=null, **more)


def upgrade() -> None:
    _people()
    _studies()
    _work()
    _machines()
    _refuse_changes(op.get_bind().dialect.name)


def _people() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", NAME, nullable=False, unique=True),
        _text("password"),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        _time("at"),
    )
    op.create_table(
        "sessions",
        sa.Column("token", sa.String(64), primary_key=True),  # sha256 of what the cookie holds
        _to("account", "accounts.id", index=True),
        sa.Column("csrf", ID, nullable=False),
        _time("at"),
        _time("seen"),
    )
    op.create_table(
        "attempts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("key", sa.String(64), nullable=False, index=True),
        _time("at"),
    )


def _studies() -> None:
    op.create_table(
        "studies",
        sa.Column("name", NAME, primary_key=True),
        _text("config"),
        sa.Column("sha256", sa.String(64), nullable=False),
        _time("at"),
    )
    op.create_table(
        "guidelines",
        _to("study", "studies.name", NAME, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        _text("document"),
        _text("author"),
        _time("at"),
    )
    op.create_table(
        "roles",
        _to("study", "studies.name", NAME, primary_key=True),
        _to("account", "accounts.id", primary_key=True),
        sa.Column("role", sa.String(12), nullable=False),
    )
    op.create_table(
        "study_questions",
        sa.Column("id", ID, primary_key=True),
        _to("study", "studies.name", NAME),
        _to("prompt", "prompts.id", sa.String(20)),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("block", sa.Integer, nullable=False),  # which of the study's questions asks it
        _text("responses"),
        sa.Column("category", sa.String(80), nullable=False),
        _text("gold", null=True),
        sa.Column("priority", sa.Float, nullable=False),
        sa.Column("shuffle", sa.Integer, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("taken", sa.Integer, nullable=False),
        sa.Column("wanted", sa.Integer, nullable=False),
        sa.Column("answered", sa.Integer, nullable=False),
        _text("tally"),
        sa.Column("verdict", sa.String(20)),
        _time("at"),
    )
    op.create_index("study_questions_next", "study_questions", ["study", "state", "shuffle"])
    op.create_index("study_questions_prompt", "study_questions", ["study", "prompt"])


def _work() -> None:
    op.create_table(
        "leases",
        sa.Column("id", ID, primary_key=True),
        _to("study", "studies.name", NAME),
        _to("question", "study_questions.id"),
        _to("account", "accounts.id"),
        sa.Column("seat", sa.Integer, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),  # held, submitted, skipped, expired
        sa.Column("arm", sa.String(12), nullable=False),
        _text("shown"),  # the order: the study's index of the response shown k-th
        sa.Column("guideline", sa.String(20), nullable=False),
        _time("at"),
        _time("expires_at"),
        _time("ended_at", null=True),
        sa.Column("judgment", sa.String(20)),
        sa.Column("right", sa.Boolean),
        sa.Column("seconds", sa.Float),
        _text("reason", null=True),
        _text("draft", null=True),
    )
    for name, columns, states in (
        ("leases_seat", ["question", "seat"], "'held', 'submitted'"),
        ("leases_once", ["question", "account"], "'held', 'submitted', 'skipped'"),
        ("leases_one_at_a_time", ["study", "account"], "'held'"),
    ):
        where = sa.text(f"state IN ({states})")
        op.create_index(
            name, "leases", columns, unique=True, sqlite_where=where, postgresql_where=where
        )
    op.create_index("leases_of", "leases", ["study", "account", "ended_at"])
    held = sa.text("state = 'held'")
    op.create_index(
        "leases_held", "leases", ["study", "expires_at"], sqlite_where=held, postgresql_where=held
    )
    op.create_table(
        "flags",
        sa.Column("id", ID, primary_key=True),
        _to("study", "studies.name", NAME, index=True),
        _to("question", "study_questions.id"),
        _to("account", "accounts.id"),
        _text("reason"),
        _time("at"),
        _time("closed_at", null=True),
    )
    op.create_table(
        "qualifications",
        sa.Column("id", ID, primary_key=True),
        _to("study", "studies.name", NAME),
        _to("account", "accounts.id", index=True),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("right", sa.Integer, nullable=False),
        sa.Column("asked", sa.Integer, nullable=False),
        _time("at"),
    )
    op.create_table(
        "talks",
        sa.Column("id", ID, primary_key=True),
        _to("study", "studies.name", NAME),
        _to("account", "accounts.id"),
        _text("policies"),  # in the order shown
        _text("turns"),
        _time("at"),
        _time("ended_at", null=True),
    )


def _machines() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        _text("body"),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("hash", sa.String(64), primary_key=True),
        sa.Column("id", ID, nullable=False, unique=True),
        sa.Column("name", NAME, nullable=False),
        _to("study", "studies.name", NAME),
        _text("scopes"),
        _text("author"),
        _time("at"),
        _time("expires_at", null=True),
        _time("revoked_at", null=True),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", ID, primary_key=True),
        _to("study", "studies.name", NAME, index=True),
        _text("url"),
        _text("secret"),
        _time("at"),
        _time("closed_at", null=True),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", ID, primary_key=True),
        _to("webhook", "webhooks.id"),
        _text("body"),
        sa.Column("tries", sa.Integer, nullable=False),
        _time("due"),
        _time("done_at", null=True),
        _text("answer", null=True),
    )
    op.create_table("settings", sa.Column("name", NAME, primary_key=True), _text("value"))


def _refuse_changes(dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(
            "CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events "
            "FOR EACH STATEMENT EXECUTE FUNCTION accord_append_only()"
        )
        return
    for event in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER events_no_{event.lower()} BEFORE {event} ON events "
            f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
        )
    op.execute(
        "CREATE TRIGGER events_no_replace BEFORE INSERT ON events "
        "WHEN EXISTS (SELECT 1 FROM events WHERE seq = NEW.seq) "
        f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
    )
