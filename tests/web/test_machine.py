"""When the machine fails (disk full, store gone): said plainly, logged, and nothing is half kept."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from sqlalchemy import event

from accord.core.errors import StoreError
from accord.store.db import schema
from accord.web import tables
from accord.web.app import create_app
from accord.web.guard import tokens
from accord.web.site import Site
from tests.web.conftest import ORIGIN, Browser, Enter, either, loaded, pairs_study

SAID = {"choice": "0:1", "rationale": "typed for long"}
ITEMS = [{"prompt": f"New {n}? {'x' * 20_000}", "responses": ["a", "b"]} for n in range(3)]


def of_sqlite(words: str) -> sa.exc.OperationalError:
    return sa.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(words))


FAULTS: dict[str, tuple[BaseException, int, str]] = {
    "SQLite": (of_sqlite("database or disk is full"), 507, "disk is full"),
    "the system": (OSError(28, "No space left on device", "/secret/study.db"), 507, "disk is full"),
    "quota": (OSError(122, "Disk quota exceeded", "/secret/study.db"), 507, "disk is full"),
    "PostgreSQL": (of_sqlite('could not extend file "base/1": No space left on device'), 507, "disk is full"),
    "I/O": (of_sqlite("disk I/O error"), 503, "store"),
    "locked": (of_sqlite("database is locked"), 503, "store"),
    "gone": (of_sqlite("server closed the connection unexpectedly"), 503, "store"),
    "another of the system": (OSError(5, "Input/output error", "/secret/x"), 500, "went wrong"),
    "ours": (RuntimeError("/secret/place"), 500, "went wrong"),
}  # fmt: skip


def breaks(site: Site, name: str) -> Callable[[], None]:
    """From now on no write is kept; what is returned mends it."""

    def fails(*_: Any) -> None:
        raise FAULTS[name][0]

    event.listen(site.db.engine, "commit", fails)
    return lambda: event.remove(site.db.engine, "commit", fails)


def page_of(site: Site, browser: Browser) -> TestClient:
    """What the page's script sends, with the answer to a fault of the server."""
    return TestClient(
        create_app(site), base_url=ORIGIN, raise_server_exceptions=False, follow_redirects=False,
        headers={"origin": ORIGIN, "hx-request": "true"}, cookies=dict(browser.client.cookies),
    )  # fmt: skip


def program(site: Site) -> TestClient:
    """A client of the API that may do everything."""
    token = tokens.add(site, "tents", "test", list(tokens.SCOPES), "test")
    return TestClient(
        create_app(site), base_url=ORIGIN, raise_server_exceptions=False,
        headers={"authorization": f"Bearer {token}"},
    )  # fmt: skip


def plain(told: Any, name: str, kind: str) -> None:
    """That an answer says what happened, and nothing of where."""
    _, status, words = FAULTS[name]
    assert (told.status_code, told.headers["content-type"].split(";")[0]) == (status, kind)
    assert words in told.text
    assert not any(secret in told.text for secret in ("study.db", "secret", "INSERT", "Traceback"))


def everything(site: Site) -> list[Any]:
    """All that a push can write."""
    found = (schema.prompts, schema.responses, tables.study_questions, tables.events)
    return [site.all(sa.select(sa.func.count()).select_from(table)) for table in found]


SENT = [*((name, "answer") for name in FAULTS), *(("SQLite", w) for w in ("draft", "skip", "flag"))]


@pytest.mark.parametrize(("name", "what"), SENT)
def test_a_page_is_told_plainly_and_sends_again(
    site: Site, enter: Enter, caplog: pytest.LogCaptureFixture, name: str, what: str
) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    page, tail = page_of(site, anna), "" if what == "answer" else f"/{what}"
    url, form = f"/studies/tents/annotate/{anna.lease}{tail}", {"csrf": anna.csrf, "base": ""}
    mend = breaks(site, name)
    with caplog.at_level(logging.ERROR):
        told = page.post(url, data={**form, **SAID, "reason": "r"})
    mend()
    plain(told, name, "text/plain")
    logged = [
        r.getMessage() for r in caplog.records if "/studies/tents/annotate/" in r.getMessage()
    ]
    assert len(logged) == (name != "ours")  # uvicorn logs the rest
    assert site.store.counts()["judgments"] == 0
    assert page.post(url, data={**form, **SAID, "reason": "r"}).status_code in (200, 303)


@pytest.mark.parametrize("name", FAULTS)
def test_a_program_is_told_in_json_and_nothing_is_half_kept(
    site: Site, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    loaded(site, pairs_study())
    api, before = program(site), everything(site)
    mend = breaks(site, name)
    with caplog.at_level(logging.ERROR):
        told = api.post("/api/v1/studies/tents/questions", json={"items": ITEMS})
    mend()
    plain(told, name, "application/json")
    assert list(told.json()) == ["detail"]
    assert name == "ours" or "/api/v1/studies/tents/questions" in caplog.text
    assert everything(site) == before
    again = api.post("/api/v1/studies/tents/questions", json={"items": ITEMS})
    assert again.json() == {"new": 3}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_store_that_can_t_be_read_is_told_before_anybody_is_known_too(
    site: Site, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(site, pairs_study())
    api = program(site)

    def gone(_: Any) -> None:
        raise StoreError("server closed the connection", where="postgresql://secret")

    monkeypatch.setattr(site, "one", gone)
    told = api.request(method, "/api/v1/studies/tents/questions", json={"items": ITEMS})
    plain(told, "gone", "application/json")
    assert told.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("sent", ["answer", "draft", "push"])
def test_a_store_that_really_is_full(site: Site, enter: Enter, sent: str) -> None:
    """SQLite's own refusal to grow, in the middle of a transaction."""
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    page, api, before = page_of(site, anna), program(site), everything(site)
    form = {"csrf": anna.csrf, "base": "", "choice": "0:1", "rationale": "x" * 20_000}
    url = f"/studies/tents/annotate/{anna.lease}{'/draft' if sent == 'draft' else ''}"

    def send() -> Any:
        if sent == "push":
            return api.post("/api/v1/studies/tents/questions", json={"items": ITEMS})
        return page.post(url, data=form)

    def limit(most: int) -> None:
        site.db.engine.dispose()

        def set_limit(connection: Any, _: Any) -> None:
            connection.execute(f"PRAGMA max_page_count={most}")

        event.listen(site.db.engine, "connect", set_limit)

    limit(1)  # not below what there is
    told = send()
    plain(told, "SQLite", "application/json" if sent == "push" else "text/plain")
    assert everything(site) == before
    assert site.store.counts()["judgments"] == 0
    limit(1 << 30)
    assert send().status_code in (200, 303)
    assert site.store.verify() == (sent == "answer")


@either
def test_a_fault_inside_an_answer_leaves_no_part_of_it(
    site: Site, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accord.web.work import leases

    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    page, url = page_of(site, anna), f"/studies/tents/annotate/{anna.lease}"
    form, usual = {"csrf": anna.csrf, "base": "", **SAID}, leases._count

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "/secret/study.db")

    monkeypatch.setattr(leases, "_count", full)  # the judgment is written, its question not yet
    plain(page.post(url, data=form), "the system", "text/plain")
    counts = site.store.counts()
    assert (counts["judgments"], counts["raters"], site.store.verify()) == (0, 0, 0)
    monkeypatch.setattr(leases, "_count", usual)
    assert page.post(url, data=form).status_code == 303
    assert site.store.verify() == 1


def test_a_page_that_is_left_while_it_sends_is_no_fault(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    told = []
    parts = iter([{"type": "http.request", "body": b"csrf=", "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(parts, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        told.append(message.get("status"))

    cookies = "; ".join(f"{k}={v}" for k, v in anna.client.cookies.items())
    given = {"host": "localhost:8000", "origin": ORIGIN, "cookie": cookies, "content-length": "99",
             "content-type": "application/x-www-form-urlencoded", "hx-request": "true"}  # fmt: skip
    path = f"/studies/tents/annotate/{anna.lease}/draft"
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(k.encode(), v.encode()) for k, v in given.items()], "scheme": "http",
        "server": ("localhost", 8000), "client": ("127.0.0.1", 1), "root_path": "", "http_version": "1.1",
    }  # fmt: skip
    asyncio.run(create_app(site)(scope, receive, send))
    assert told[0] == 400
