"""API tokens: shown once, kept as sha256, each for one study and a few scopes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from accord.core.errors import DataError
from accord.core.hashing import canonical_json
from accord.web import tables
from accord.web.guard import audit
from accord.web.site import Site, new_id

__all__ = ["SCOPES", "add", "check", "listed", "revoke"]

SCOPES = {
    "questions:write": "push questions",
    "questions:read": "see questions and progress",
    "judgments:read": "pull judgments, with the sources of responses",
}
T = tables.tokens


def add(
    site: Site, study: str, name: str, scopes: Sequence[str], by: str, days: float | None = None
) -> str:
    """The token's text; DataError without a scope."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not scopes:
        what = f"unknown scope {unknown[0]!r}" if unknown else "choose a scope"
        raise DataError(what, where="scopes", allowed=", ".join(SCOPES))
    text = f"acc_{secrets.token_urlsafe(32)}"
    row = {
        "hash": _hash(text), "id": new_id(), "name": name, "study": study,
        "scopes": canonical_json(sorted(scopes)), "author": by, "at": site.now(),
        "expires_at": None if days is None else site.now() + 86_400 * days, "revoked_at": None,
    }  # fmt: skip
    with site.db.writing() as connection:
        connection.execute(sa.insert(T), [row])
        audit.record(site, by, "token added", study, name=name, scopes=sorted(scopes))
    return text


def check(site: Site, text: str) -> Any:
    """The token's row (name, study, scopes), None when it is unknown, revoked or over."""
    row = site.one(sa.select(T).where(T.c.hash == _hash(text)))
    if row is None or row.revoked_at is not None:
        return None
    return None if row.expires_at is not None and row.expires_at <= site.now() else row


def listed(site: Site, study: str) -> list[dict[str, Any]]:
    """The study's tokens, without what is secret."""
    rows = site.all(sa.select(T).where(T.c.study == study).order_by(T.c.at))
    keys = ("id", "name", "author", "at", "expires_at", "revoked_at")
    return [{**{k: getattr(r, k) for k in keys}, "scopes": json.loads(r.scopes)} for r in rows]


def revoke(site: Site, study: str, id: str, by: str) -> None:
    """The token opens nothing any more."""
    mine = (T.c.id == id, T.c.study == study, T.c.revoked_at.is_(None))
    site.run(sa.update(T).where(*mine).values(revoked_at=site.now()))
    audit.record(site, by, "token revoked", study, id=id)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
