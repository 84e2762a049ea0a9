"""The hash chain, and the proof that a store still holds what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from accord.core.errors import StoreError
from accord.core.types import response_id
from accord.store.db import rows, schema

__all__ = ["GENESIS", "link", "tampered", "verify_rows"]

GENESIS = "0" * 64


def link(before: str, body: str) -> str:
    """The hash of a judgment that follows the one with hash `before`."""
    return hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()


def tampered(where: str, what: str) -> StoreError:
    return StoreError(
        f"{what} is not what was written", where=where, mend="restore the store from a copy"
    )


def verify_rows(connection: sa.Connection, where: str) -> None:
    """StoreError names the first row of the store at `where` that is not what it was."""
    for what, good in _findings(connection):
        if not good:
            raise tampered(where, what)


def _findings(connection: sa.Connection) -> Iterator[tuple[str, bool]]:
    """(row, is it what it was) for every row; what a row refers to must be there."""
    ids: dict[str, set[str]] = {name: set() for name in schema.TABLES}
    order: tuple[tuple[sa.Table, Any], ...] = (
        (schema.prompts, lambda r: (rows.to_prompt(r).id, [])),
        (schema.raters, lambda r: (rows.to_rater(r).id, [])),
        (schema.responses, lambda r: (response_id(r.prompt, rows.to_response(r)), [r.prompt])),
        (schema.questions, lambda r: (rows.to_question(r).id, [r.prompt, *rows.to_ids(r.responses)])),
    )  # fmt: skip
    seen: set[str] = set()
    for table, read in order:
        for row in connection.execute(sa.select(table)):
            try:
                id, needs = read(row)
            except (ValueError, TypeError, StoreError):
                id, needs = "", []
            yield f"row {row.id} of {table.name}", id == row.id and seen.issuperset(needs)
            ids[table.name].add(row.id)
        seen |= ids[table.name]
    before = GENESIS
    chain = connection.execute(sa.select(schema.judgments).order_by(schema.judgments.c.seq))
    for expected, row in enumerate(chain, 1):
        before = link(before, row.body)
        stored = (row.seq, row.hash, row.id, row.question, row.rater, row.kind)
        try:
            j = rows.to_judgment(row)
            same = stored == (expected, before, j.id, j.question, j.rater, j.answer.kind)
        except StoreError:
            same = False
        known = row.question in ids["questions"] and row.rater in ids["raters"]
        yield f"judgment {row.id} (number {row.seq})", same and known
