"""The API: what its description promises, scopes, webhooks."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from accord.core.errors import DataError
from accord.core.types import Rater
from accord.web import tables
from accord.web.app import create_app
from accord.web.guard import tokens
from accord.web.site import Site
from accord.web.work import hooks
from tests.web.conftest import ORIGIN, Clock, Enter, either, loaded, pairs_study

ROOT = "/api/v1/studies/tents"


def client(site: Site, *scopes: str, study: str = "tents") -> TestClient:
    """A client with a token of these scopes."""
    headers = {}
    if scopes:
        token = tokens.add(site, study, "test", scopes, "test")
        headers = {"authorization": f"Bearer {token}"}
    return TestClient(create_app(site), base_url=ORIGIN, headers=headers)


@either
def test_push_work_pull(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    api = client(site, *tokens.SCOPES)
    item = {
        "prompt": "New?",
        "responses": ["a", {"text": "b", "source": "model:x"}],
        "category": "c",
    }
    for new in (1, 0):
        told = api.post(f"{ROOT}/questions", json={"items": [item]})
        assert (told.status_code, told.json()) == (200, {"new": new})
    assert api.get(f"{ROOT}/progress").json()["questions"] == 7
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    while "/done" not in str(anna.last.url):
        anna.answer(choice="0:1", rationale="why")
    anna.post("/studies/tents/undo")
    anna.answer(choice="1:1")
    found, after = [], 0
    while after is not None:
        page = api.get(f"{ROOT}/judgments", params={"after": after, "limit": 3}).json()
        found += page["judgments"]
        after = page["next"]
    assert [f["seq"] for f in found] == list(range(1, 9))
    assert sum(f["superseded"] for f in found) == 1
    assert found[-1]["judgment"]["supersedes"] in {f["id"] for f in found}
    pushed = next(f for f in found if f["prompt"][0]["content"] == "New?")
    assert {r["source"] for r in pushed["responses"]} == {"unknown", "model:x"}
    listed = api.get(f"{ROOT}/questions", params={"limit": 1000}).json()
    assert {q["state"] for q in listed} == {"settled"}


@pytest.mark.parametrize(
    "items",
    [
        [{"prompt": "x"}],
        [{"prompt": "x", "responses": ["a", "a"]}],
        [{"prompt": "x", "responses": ["a", "b"], "gold": {"better": 5}}],
        [{"prompt": "x", "responses": ["a", "b"], "scores": [[1.0]]}],
        [{"prompt": "x", "responses": ["a", "b"], "scores": [[0.1, 0.2], [0.3]]}],
        [{"prompt": "x\x00", "responses": ["a", "b"]}],
        [{"prompt": [], "responses": ["a", "b"]}],
        [{"prompt": [{"role": "robot", "content": "x"}], "responses": ["a", "b"]}],
        [{"prompt": "x", "responses": ["a", "b"], "unknown": 1}],
        [{"prompt": "good", "responses": ["a", "b"]}, {"prompt": "x", "responses": ["a"]}],
    ],
)
def test_one_wrong_item_and_nothing_is_added(site: Site, items: list[dict[str, Any]]) -> None:
    loaded(site, pairs_study())
    told = client(site, "questions:write").post(f"{ROOT}/questions", json={"items": items})
    assert told.status_code == 422
    assert told.json()["detail"]
    assert site.one(sa.select(sa.func.count()).select_from(tables.study_questions))[0] == 6


@either
def test_a_token_opens_its_study_its_scope_and_its_time(site: Site, clock: Clock) -> None:
    loaded(site, pairs_study())
    loaded(site, pairs_study().model_copy(update={"name": "boots"}))
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp5"}):
        assert client(site).get(f"{ROOT}/progress", headers=headers).status_code == 401
    reader = client(site, "questions:read")
    assert reader.get(f"{ROOT}/progress").status_code == 200
    assert reader.get(f"{ROOT}/progress?x=1").status_code == 422
    assert reader.get(f"{ROOT}/judgments").status_code == 403
    assert reader.post(f"{ROOT}/questions", json={"items": []}).status_code == 403
    assert reader.get("/api/v1/studies/boots/progress").status_code == 404
    assert reader.get("/studies/tents").history  # no page for a token: to the sign-in page
    text = tokens.add(site, "tents", "short", ["questions:read"], "test", days=1)
    brief = TestClient(
        create_app(site), base_url=ORIGIN, headers={"authorization": f"Bearer {text}"}
    )
    assert brief.get(f"{ROOT}/progress").status_code == 200
    clock.at += 86_401
    assert brief.get(f"{ROOT}/progress").status_code == 401
    for row in tokens.listed(site, "tents"):
        tokens.revoke(site, "tents", row["id"], "test")
    assert reader.get(f"{ROOT}/progress").status_code == 401
    assert text not in json.dumps([dict(r._mapping) for r in site.all(sa.select(tables.tokens))])


def test_a_token_reads_what_was_judged_in_its_study_alone(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    loaded(site, pairs_study().model_copy(update={"name": "boots"}))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.answer(choice="0:1")
    (mine,) = site.store.judgments()
    other = Rater(name="of a file", kind="human")
    site.store.add_raters([other])
    site.store.add_judgments([mine.model_copy(update={"rater": other.id})])  # as an import would
    seen = {
        study: client(site, "judgments:read", study=study)
        .get(f"/api/v1/studies/{study}/judgments")
        .json()["judgments"]
        for study in ("tents", "boots")
    }
    assert [j["id"] for j in seen["tents"]] == [mine.id]
    assert seen["boots"] == []


def test_a_cookie_opens_nothing_here(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    assert olga.client.get(f"{ROOT}/judgments").status_code == 401


# -- webhooks -----------------------------------------------------------------------------------------


@either
def test_a_webhook_is_signed_retried_and_told_once(site: Site, enter: Enter, clock: Clock) -> None:
    site.hooks_allowed = ("hook.example",)
    loaded(site, pairs_study())
    secret = hooks.add(site, "tents", "https://hook.example/in?x=1", "test")
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.answer(choice="0:1")
    sent: list[tuple[str, bytes, dict[str, str]]] = []
    answers = iter([500, OSError("down"), 200])

    def post(url: str, body: bytes, headers: dict[str, str]) -> int:
        sent.append((url, body, headers))
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert hooks.deliver(site, post) == 0
    assert hooks.deliver(site, post) == 0  # not due yet
    assert len(sent) == 1
    clock.at += 11
    assert hooks.deliver(site, post) == 0
    clock.at += 21
    assert hooks.deliver(site, post) == 1
    clock.at += 10_000
    assert hooks.deliver(site, post) == 0
    assert len({body for _, body, _ in sent}) == 1
    url, body, headers = sent[-1]
    told = json.loads(body)
    assert url == "https://hook.example/in?x=1"
    assert told["judgment"] == site.store.judgments()[0].id
    at = headers["x-accord-time"].encode()
    mine = hmac.new(secret.encode(), at + b"." + body, hashlib.sha256).hexdigest()
    assert headers["x-accord-signature"] == f"sha256={mine}"
    (row,) = hooks.listed(site, "tents")
    assert (row["sent"], row["waiting"], row["failed"]) == (1, 0, 0)
    assert secret not in str(row)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/", "http://hook.example/", "https://user@hook.example/", "ftp://hook.example",
        "https://hook.example.evil/", "https://169.254.169.254/", "https://hook.example:99999/", "x", "https://[",
        "https://hook.example/é", "https://hook.example/a b", "https://hook.example/a\nb",
    ],
)  # fmt: skip
def test_a_webhook_goes_to_allowed_hosts_only(site: Site, url: str) -> None:
    site.hooks_allowed = ("hook.example",)
    loaded(site, pairs_study())
    with pytest.raises(DataError):
        hooks.add(site, "tents", url, "test")


def test_a_host_taken_off_the_list_gets_nothing(site: Site, enter: Enter) -> None:
    site.hooks_allowed = ("hook.example",)
    loaded(site, pairs_study())
    hooks.add(site, "tents", "https://hook.example/", "test")
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.answer(choice="0:1")
    site.hooks_allowed = ()
    assert hooks.deliver(site, lambda *_: pytest.fail("sent")) == 0


def test_an_address_that_can_t_be_sent_fails_alone(site: Site, enter: Enter) -> None:
    site.hooks_allowed = ("127.0.0.1",)
    loaded(site, pairs_study())
    hooks.add(site, "tents", "http://127.0.0.1:9/", "test")
    site.run(sa.update(tables.webhooks).values(url="http://127.0.0.1:9/é"))  # taken before
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.answer(choice="0:1")
    assert hooks.deliver(site) == 0
    (row,) = site.all(sa.select(tables.deliveries))
    assert (row.tries, row.done_at) == (1, None)
    assert "character" in row.answer


def test_a_real_delivery_follows_no_redirect(site: Site, enter: Enter) -> None:
    import http.server
    import threading

    heard: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(302 if self.path == "/a" else 200)
            self.send_header("location", "/b")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        site.hooks_allowed = ("127.0.0.1",)
        loaded(site, pairs_study())
        hooks.add(site, "tents", f"http://127.0.0.1:{server.server_port}/a", "test")
        anna = enter("anna", "annotator")
        anna.get("/studies/tents/annotate")
        anna.answer(choice="0:1")
        assert hooks.deliver(site) == 0
        assert heard == ["/a"]
    finally:
        server.shutdown()
        server.server_close()
