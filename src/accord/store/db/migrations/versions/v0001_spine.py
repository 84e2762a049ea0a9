"""The first tables: prompts, responses, questions, raters, judgments, snapshots."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

TABLES = ("prompts", "responses", "questions", "raters", "judgments", "snapshots")
REFUSED = "rows of this store are never changed; add a new one that supersedes"


def upgrade() -> None:
    op.create_table(
        "prompts",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("messages", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
    )
    op.create_table(
        "responses",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("prompt", sa.String(20), sa.ForeignKey("prompts.id"), nullable=False, index=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("sampling", sa.Text),
        sa.Column("finish", sa.String(10)),
    )
    op.create_table(
        "questions",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("prompt", sa.String(20), sa.ForeignKey("prompts.id"), nullable=False, index=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("guideline", sa.Text, nullable=False),
        sa.Column("responses", sa.Text, nullable=False),
    )
    op.create_table(
        "raters",
        sa.Column("id", sa.String(20), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
    )
    op.create_table(
        "judgments",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(20), nullable=False, unique=True),
        sa.Column(
            "question", sa.String(20), sa.ForeignKey("questions.id"), nullable=False, index=True
        ),
        sa.Column("rater", sa.String(20), sa.ForeignKey("raters.id"), nullable=False, index=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("up_to", sa.Integer, nullable=False),
        sa.Column("selection", sa.Text, nullable=False),
        sa.Column("judgments", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    _refuse_changes(op.get_bind().dialect.name)


def _refuse_changes(dialect: str) -> None:
    if dialect == "postgresql":
        op.execute(
            "CREATE FUNCTION accord_append_only() RETURNS trigger AS "
            f"$$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$ LANGUAGE plpgsql"
        )
        for table in TABLES:
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION accord_append_only()"
            )
        return
    for table in TABLES:
        for event in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            )
    # INSERT OR REPLACE would delete without the triggers above. What is referred to by its content
    # may be added again, to no effect; a judgment or a snapshot may not.
    for table, key, then in (
        *((t, "id = NEW.id", "IGNORE") for t in TABLES[:4]),
        ("judgments", "id = NEW.id OR seq = NEW.seq", f"ABORT, '{REFUSED}'"),
        ("snapshots", "name = NEW.name", f"ABORT, '{REFUSED}'"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key}) BEGIN SELECT RAISE({then}); END"
        )
