"""Questions asked again: a second lease of the same rater. And what an answer would tell, as a column."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

UNTOLD = (
    0.24552  # nats: what a first comparison of two responses tells (feedback.assignment.UNTOLD)
)


def upgrade() -> None:
    op.add_column(
        "study_questions", sa.Column("gain", sa.Float, nullable=False, server_default="0")
    )
    op.execute(f"UPDATE study_questions SET gain = {UNTOLD} WHERE kind = 'compare'")
    for column in ("gain", "priority"):
        op.create_index(
            f"study_questions_{column}", "study_questions", ["study", "state", column, "shuffle"]
        )
    for name, columns, where in (
        ("leases_seat", ["question", "seat"], "state IN ('held', 'submitted') AND arm <> 'repeat'"),
        (
            "leases_once", ["question", "account"],
            "state IN ('held', 'submitted', 'skipped') AND arm <> 'repeat'",
        ),
        (
            "leases_again", ["question", "account"],
            "state IN ('held', 'submitted', 'skipped') AND arm = 'repeat'",
        ),
    ):  # fmt: skip
        if name != "leases_again":
            op.drop_index(name, "leases")
        condition = sa.text(where)
        op.create_index(
            name, "leases", columns, unique=True, sqlite_where=condition, postgresql_where=condition
        )
