"""Webhooks: signed, to allowed hosts only, kept until delivered.

    POST url   {"event": "judgment", "id": …, "study": …, "judgment": …, "question": …, "at": …}
    X-Accord-Time: seconds since 1970      X-Accord-Signature: sha256=HMAC(secret, time "." body)

A delivery is a row written with the judgment it tells of; it is tried again after 10, 20, 40 … seconds, eight
times in all. Each webhook has a thread of its own: a slow one holds no other. Redirects are not followed, and
only the hosts named at start (--hook-host) are spoken to.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from accord.core.errors import DataError
from accord.core.hashing import canonical_json
from accord.web import tables
from accord.web.guard import audit
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
    hooks = []
    for row in site.all(
        sa.select(W).where(W.c.study == study, W.c.closed_at.is_(None)).order_by(W.c.at)
    ):
        sent = site.all(sa.select(D.c.done_at, D.c.tries).where(D.c.webhook == row.id))
        waiting = sum(d.done_at is None and d.tries < MOST_TRIES for d in sent)
        failed = sum(d.done_at is None and d.tries >= MOST_TRIES for d in sent)
        hooks.append({"id": row.id, "url": row.url, "at": row.at, "sent": len(sent) - waiting - failed,
                      "waiting": waiting, "failed": failed})  # fmt: skip
    return hooks


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


def deliver(site: Site, post: Post | None = None, limit: int = 20, wait: float = 60.0) -> int:
    """Send what is due, up to `limit` to each webhook, and wait for them at most `wait` seconds; returns how
    many were taken by then. A webhook still at work from an earlier call is left to it."""
    due = site.all(
        sa.select(W.c.id, W.c.url, W.c.secret)
        .join_from(D, W, D.c.webhook == W.c.id)
        .where(*_due(site), W.c.closed_at.is_(None))
        .distinct()
    )
    done: list[int] = []
    faults: list[Exception] = []

    def work(hook: Any) -> None:
        try:
            done.append(_deliver_to(site, hook, post or _post, limit))
        except Exception as error:  # told by the caller, in its own thread
            faults.append(error)

    started = []
    for hook in due:
        if hook.id not in site.delivering or not site.delivering[hook.id].is_alive():
            site.delivering[hook.id] = threading.Thread(target=work, args=(hook,), daemon=True)
            site.delivering[hook.id].start()
            started.append(site.delivering[hook.id])
    until = time.monotonic() + wait
    for thread in started:
        thread.join(max(0.0, until - time.monotonic()))
    if faults:
        raise faults[0]
    return sum(done)


def _due(site: Site) -> tuple[sa.ColumnElement[bool], ...]:
    return (D.c.done_at.is_(None), D.c.tries < MOST_TRIES, D.c.due <= site.now())


def _deliver_to(site: Site, hook: Any, post: Post, limit: int) -> int:
    """What is due for one webhook, oldest first; the number taken. A host taken off the list gets nothing."""
    due = sa.select(D).where(*_due(site), D.c.webhook == hook.id).order_by(D.c.due).limit(limit)
    done = 0
    for row in site.all(due):
        at, body = str(int(site.now())), row.body.encode()
        headers = {"content-type": "application/json", "x-accord-time": at,
                   "x-accord-signature": signature(hook.secret, at, body)}  # fmt: skip
        try:
            check_url(site, hook.url)
            status = post(hook.url, body, headers)
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
    """The status of one POST within TIMEOUT seconds, however it trickles; redirects are not followed."""
    parts = urlsplit(url)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=TIMEOUT)
    late = threading.Timer(TIMEOUT, _hang_up, (connection,))
    late.start()
    try:
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        late.cancel()
        connection.close()


def _hang_up(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
