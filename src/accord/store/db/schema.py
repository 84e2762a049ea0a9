"""The tables. What is said once stays said: triggers refuse UPDATE and DELETE (see migrations).

    prompts <- responses          ids are content hashes (core.types)
    prompts <- questions          responses: ids in the order shown
    questions, raters <- judgments    seq, and hash = sha256(previous hash + this judgment)
    snapshots                     a name for a selection of judgments up to a seq, and its sha256

JSON columns hold canonical JSON, so that hashes can be recomputed from what is stored.
"""

from __future__ import annotations

import sqlalchemy as sa

__all__ = ["TABLES", "judgments", "prompts", "questions", "raters", "responses", "snapshots"]

metadata = sa.MetaData()

prompts = sa.Table(
    "prompts",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("messages", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
)
responses = sa.Table(
    "responses",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("prompt", sa.String(20), sa.ForeignKey("prompts.id"), nullable=False, index=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("sampling", sa.Text),
    sa.Column("finish", sa.String(10)),
)
questions = sa.Table(
    "questions",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("prompt", sa.String(20), sa.ForeignKey("prompts.id"), nullable=False, index=True),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("guideline", sa.Text, nullable=False),
    sa.Column("responses", sa.Text, nullable=False),
)
raters = sa.Table(
    "raters",
    metadata,
    sa.Column("id", sa.String(20), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
)
judgments = sa.Table(
    "judgments",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(20), nullable=False, unique=True),
    sa.Column("question", sa.String(20), sa.ForeignKey("questions.id"), nullable=False, index=True),
    sa.Column("rater", sa.String(20), sa.ForeignKey("raters.id"), nullable=False, index=True),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
snapshots = sa.Table(
    "snapshots",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("up_to", sa.Integer, nullable=False),
    sa.Column("selection", sa.Text, nullable=False),
    sa.Column("judgments", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)

TABLES = ("prompts", "responses", "questions", "raters", "judgments", "snapshots")
