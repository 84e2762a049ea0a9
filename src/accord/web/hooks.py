"""Webhooks: signed, to allowed hosts only, kept until delivered.

    POST url   {"event": "judgment", "id": …, "study": …, "judgment": …, "question": …, "at": …}
    X-Accord-Time: seconds since 1970      X-Accord-Signature: sha256=HMAC(secret, time "." body)

A delivery is a row written with the judgment it tells of; it is tried again after 10, 20, 40 … seconds, eight
times in all. Redirects are not followed, and only the hosts named at start (--hook-host) are spoken to.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from accord.core.errors import DataError
from accord.core.hashing import canonical_json
from accord.web import audit, tables
from accord.web.site import Site, new_id

__all__ = ["add", "close", "deliver", "listed", "signature", "tell"]

W, D = tables.webhooks, tables.deliveries
MOST_TRIES, FIRST_WAIT, TIMEOUT = 8, 10.0, 10.0  # tries; seconds
LOOPBACK = {"localhost", "127.0.0.1"}
Post = Callable[[str, bytes, dict[str, str]], int]


def check_url(site: Site, url: str) -> None:
    """DataError unless the URL is https (http to this machine) in plain ASCII, and its host is allowed."""
    if not url.isascii() or any(c <= " " or c == "\x7f" for c in url):
        raise DataError(
            "holds a character that no address has", where="url",
            mend="write it percent-encoded (%C3%A9 for é), a host as xn--…",
        )  # fmt: skip
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise DataError("is no address", where="url") from None
    plain = parts.scheme == "http" and host in LOOPBACK
    if parts.scheme != "https" and not plain:
        raise DataError("must begin with https://", where="url")
    if parts.username or host not in site.hooks_allowed:
        raise DataError(
            f"{host[:80]!r} is not on the list of hosts", where="url",
            allowed=", ".join(site.hooks_allowed) or "none (start with --hook-host HOST)",
        )  # fmt: skip


def add(site: Site, study: str, url: str, by: str) -> str:
    """A new webhook's signing secret; DataError for a host that is not allowed."""
    check_url(site, url)
    secret = secrets.token_hex(32)
    row = {
        "id": new_id(), "study": study, "url": url, "secret": secret, "at": site.now(),
        "closed_at": None,
    }  # fmt: skip
    with site.db.writing() as connection:
        connection.execute(sa.insert(W), [row])
        audit.record(site, by, "webhook added", study, url=url)
    return secret


def close(site: Site, study: str, id: str, by: str) -> None:
    """Nothing is sent there any more."""
    site.run(sa.update(W).where(W.c.id == id, W.c.study == study).values(closed_at=site.now()))
    audit.record(site, by, "webhook closed", study, id=id)


def listed(site: Site, study: str) -> list[dict[str, Any]]:
    """Open webhooks with what waits and what failed, without their secrets."""
    found = []
    for row in site.all(
        sa.select(W).where(W.c.study == study, W.c.closed_at.is_(None)).order_by(W.c.at)
    ):
        sent = site.all(sa.select(D.c.done_at, D.c.tries).where(D.c.webhook == row.id))
        waiting = sum(d.done_at is None and d.tries < MOST_TRIES for d in sent)
        failed = sum(d.done_at is None and d.tries >= MOST_TRIES for d in sent)
        found.append({"id": row.id, "url": row.url, "at": row.at, "sent": len(sent) - waiting - failed,
                      "waiting": waiting, "failed": failed})  # fmt: skip
    return found


def tell(site: Site, connection: sa.Connection, study: str, **what: Any) -> None:
    """Write a delivery for every open webhook of the study, in the transaction under way."""
    for (hook,) in connection.execute(
        sa.select(W.c.id).where(W.c.study == study, W.c.closed_at.is_(None))
    ).all():
        id = new_id()
        row = {
            "id": id, "webhook": hook, "tries": 0, "due": site.now(), "done_at": None,
            "answer": None, "body": canonical_json({"event": "judgment", "id": id, "study": study, **what}),
        }  # fmt: skip
        connection.execute(sa.insert(D), [row])


def signature(secret: str, at: str, body: bytes) -> str:
    """What the receiver recomputes."""
    return (
        "sha256=" + hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    )


def deliver(site: Site, post: Post | None = None, limit: int = 20) -> int:
    """Send what is due; returns how many were taken. A host taken off the list gets nothing."""
    due = site.all(
        sa.select(D, W.c.url, W.c.secret)
        .join_from(D, W, D.c.webhook == W.c.id)
        .where(
            D.c.done_at.is_(None),
            D.c.tries < MOST_TRIES,
            D.c.due <= site.now(),
            W.c.closed_at.is_(None),
        )
        .order_by(D.c.due)
        .limit(limit)
    )
    done = 0
    for row in due:
        at, body = str(int(site.now())), row.body.encode()
        headers = {"content-type": "application/json", "x-accord-time": at,
                   "x-accord-signature": signature(row.secret, at, body)}  # fmt: skip
        try:
            check_url(site, row.url)
            status = (post or _post)(row.url, body, headers)
            answer, good = str(status), 200 <= status < 300
        except (OSError, ValueError, http.client.HTTPException, DataError) as error:
            answer, good = str(error)[:200], False
        wait = FIRST_WAIT * 2**row.tries
        values = {"tries": row.tries + 1, "answer": answer, "due": site.now() + wait,
                  "done_at": site.now() if good else None}  # fmt: skip
        site.run(sa.update(D).where(D.c.id == row.id).values(**values))
        done += good
    return done


def _post(url: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of one POST; redirects are not followed."""
    parts = urlsplit(url)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
