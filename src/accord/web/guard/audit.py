"""The audit log: who did what, in a hash chain. Judgments have a chain of their own (store.db.proof)."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from accord.core.errors import StoreError
from accord.core.hashing import canonical_json
from accord.store.db.proof import GENESIS, link
from accord.web import tables
from accord.web.site import Site

__all__ = ["newest", "record", "verify_events"]


def record(site: Site, actor: str, action: str, study: str = "", **detail: Any) -> None:
    """Append an event; it is kept together with the transaction under way."""
    events = tables.events
    with site.db.writing() as connection:
        last = connection.execute(
            sa.select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
        ).first()
        seq, before = (last.seq, last.hash) if last else (0, GENESIS)
        body = canonical_json(
            {"at": site.now(), "actor": actor, "action": action, "study": study, "detail": detail}
        )
        row = {"seq": seq + 1, "body": body, "hash": link(before, body)}
        connection.execute(sa.insert(events), [row])


def verify_events(site: Site) -> int:
    """The number of events; StoreError names the first that is not what was written."""
    before = GENESIS
    events = site.all(sa.select(tables.events).order_by(tables.events.c.seq))
    for expected, row in enumerate(events, 1):
        before = link(before, row.body)
        if (row.seq, row.hash) != (expected, before):
            raise StoreError(
                f"event {row.seq} of the audit log is not what was written",
                where=site.store.name,
                mend="restore the store from a copy",
            )
    return len(events)


def newest(site: Site, study: str | None, limit: int = 200) -> list[dict[str, Any]]:
    """The newest events (of a study), newest first, each with its number and hash."""
    query = sa.select(tables.events).order_by(tables.events.c.seq.desc())
    if study is None:
        query = query.limit(limit)
    events = []
    with site.db.reading() as connection:
        for row in connection.execute(query):
            event = json.loads(row.body)
            if study is None or event["study"] == study:
                events.append({"seq": row.seq, "hash": row.hash, **event})
            if len(events) >= limit:
                break
    return events
