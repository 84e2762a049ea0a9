"""What somebody who is nobody costs, and whom a guesser locks out; names that pass for others; the start."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from accord.core.config import parse_yaml
from accord.core.errors import ConfigError, DataError
from accord.store import Store
from accord.web import serving, tables
from accord.web.app import create_app
from accord.web.guard import accounts, security, throttle, tokens
from accord.web.guard.connections import MOST
from accord.web.guard.throttle import FREE_BY_ADDRESS, FREE_BY_NAME, Throttled
from accord.web.site import Site
from accord.web.work import hooks
from tests.web.conftest import ORIGIN, PASSWORD, Browser, Clock, Enter, either, loaded, pairs_study

BIG = 31 << 20  # bytes


# -- what nobody's requests cost ----------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[tuple[int, psutil.Process]]:
    """A server in a process of its own: its port and process."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: tents\nquestions:\n- kind: thumb\n  items: [{prompt: Hi, responses: [Ho]}]\n"
    )
    command = ["collect", "serve", str(study), "--store", str(tmp_path / "s.db"), "--port"]
    process = subprocess.Popen(
        [sys.executable, "-m", "accord", *command, str(port)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert any("serving at" in line for line in process.stdout)
        for _ in range(200):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextlib.contextmanager
def _cheap(server: psutil.Process) -> Iterator[None]:
    """What happens inside costs the server less than 50 MB at any time."""
    before, peak, over = server.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], server.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
    assert max(peak[0], server.memory_info().rss) - before < 50 << 20


def _ask(port: int, method: str, path: str, body: bytes, **headers: str) -> int:
    """The status; 0 where the server hung up in the middle of what it did not want."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    given = {"host": f"localhost:{port}", "origin": f"http://localhost:{port}", **headers}
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in given.items()})
        return connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        connection.close()


def test_bodies_of_nobody_cost_nothing(alone: tuple[int, psutil.Process]) -> None:
    port, server = alone
    api = "/api/v1/studies/tents/questions"
    items = b'{"items":[' + b",".join([b'{"prompt":"x","responses":["y"]}'] * 900_000) + b"]}"
    deep = b"[" * (6 << 20)
    form, js = "application/x-www-form-urlencoded", "application/json"
    tries = [
        (api, items[:BIG], {"content_type": js}),
        (api, items[: 7 << 20], {"content_type": js}),
        (api, deep, {"content_type": js, "authorization": "Bearer acc_no"}),
        ("/sign-in", b"name=" + b"x" * (2 << 20), {"content_type": form}),
        ("/sign-in", b"&".join([b"a=b"] * 500_000), {"content_type": form}),
        ("/studies/tents/settings", b"title=" + b"x" * (2 << 20), {"content_type": form}),
        ("/sign-in", b"x", {"content_type": form, "cookie": "accord=" + "y" * 60_000}),
    ]
    assert _ask(port, "GET", "/sign-in", b"") == 200
    with _cheap(server), ThreadPoolExecutor(6) as pool:
        told = list(pool.map(lambda t: _ask(port, "POST", t[0], t[1], **t[2]), tries * 4))
    assert set(told) <= {0, 303, 400, 401, 403, 413, 431}
    assert _ask(port, "GET", "/sign-in", b"") == 200


def test_guesses_at_the_same_time_share_the_memory_of_one(
    alone: tuple[int, psutil.Process],
) -> None:
    """Malloc keeps a hash's megabytes for each thread that ever hashed."""
    port, server = alone
    asked = http.client.HTTPConnection("localhost", port)
    asked.request("GET", "/sign-in")
    page = asked.getresponse()
    cookie = page.getheader("set-cookie", "").partition(";")[0]
    csrf = re.search(r'name="csrf" value="([^"]+)"', page.read().decode())
    asked.close()
    assert csrf
    form = {"content_type": "application/x-www-form-urlencoded", "cookie": cookie}

    def guess(n: int) -> int:
        body = urlencode({"csrf": csrf[1], "name": f"rater {n}", "password": "x" * 100})
        return _ask(port, "POST", "/sign-in", body.encode(), **form)

    with _cheap(server), ThreadPoolExecutor(60) as pool:
        told = list(pool.map(guess, range(60)))
    assert sorted(told) == [403] * FREE_BY_ADDRESS + [429] * (60 - FREE_BY_ADDRESS)


def test_connections_of_nobody_are_so_many_and_shut_nobody_out(
    alone: tuple[int, psutil.Process],
) -> None:
    port, server = alone
    with contextlib.ExitStack() as held:
        for _ in range(MOST + 40):
            half = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            half.sendall(b"GET / HTTP/1.1\r\nx: ")
        assert _ask(port, "GET", "/sign-in", b"") == 200
        there = [c for c in server.net_connections() if c.status == "ESTABLISHED"]
        assert len(there) <= MOST


@pytest.mark.slow
def test_attacks_after_each_other_cost_no_more_together(alone: tuple[int, psutil.Process]) -> None:
    """Each leaves other holes in the memory that its threads kept: with glibc's settings, more each round."""
    port, server = alone
    get = f"GET /static/htmx.min.js HTTP/1.1\r\nHost: localhost:{port}\r\n"
    post = f"POST /api/v1/studies/tents/questions HTTP/1.1\r\nHost: localhost:{port}\r\n"
    api = f"{post}Authorization: Bearer acc_x\r\nContent-Length: {8 << 20}\r\n\r\n"
    url = f"GET /sign-in?{'a=&' * 5000} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
    attacks = [
        (400, b"GET / HTTP/1.1\r\nx: " + b"a" * 60_000),
        (20, (get + "\r\n").encode() * 8000),
        (400, api.encode() + b"a" * 300_000),
        (100, url.encode()),
        (200, (get + "a:b\r\n" * 3000 + "\r\n").encode()),
        (200, (get + "Range: bytes=" + "0-," * 4000 + "0-\r\n\r\n").encode()),
    ]

    def held(sent: bytes) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", port))
        opened.settimeout(2)
        with contextlib.suppress(OSError):
            opened.sendall(sent)
        return opened

    assert _ask(port, "GET", "/sign-in", b"") == 200
    with _cheap(server), ThreadPoolExecutor(40) as pool:
        for n, sent in attacks * 2:
            for connection in list(pool.map(held, [sent] * n)):
                connection.close()
        assert _ask(port, "GET", "/sign-in", b"") == 200


@pytest.mark.parametrize(
    "line",
    [
        f"GET /sign-in?{'a=&' * 1000} HTTP/1.1",
        "GET /static/htmx.min.js HTTP/1.1\r\nRange: bytes=" + "0-," * 100 + "0-",
        "GET /sign-in HTTP/1.1" + "\r\na: b" * 200,
    ],
)
def test_what_takes_much_to_read_is_not_read(alone: tuple[int, psutil.Process], line: str) -> None:
    with socket.create_connection(("127.0.0.1", alone[0])) as asked:
        asked.sendall(f"{line}\r\nHost: localhost:{alone[0]}\r\n\r\n".encode())
        asked.settimeout(10)
        answer = asked.recv(1000)
        assert re.match(rb"HTTP/1.1 (400|416) ", answer)
        assert b"\r\nconnection: close\r\n" in answer.lower()


def test_a_form_that_never_ends_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "PATIENCE", 0.05)
    headers = {"host": ORIGIN.partition("//")[2], "origin": ORIGIN, "content-length": "100"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/sign-in",
        "query_string": b"", "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(create_app(site)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_the_token_is_looked_at_before_the_body(site: Site) -> None:
    loaded(site, pairs_study())
    client = TestClient(create_app(site), base_url=ORIGIN)
    path, broken = "/api/v1/studies/tents/questions", b'{"items": '
    assert client.post(path, content=broken).status_code == 401
    assert (
        client.post(path, content=broken, headers={"authorization": "Basic x"}).status_code == 401
    )
    good = tokens.add(site, "tents", "t", ["questions:write"], "test")
    right = {"authorization": f"Bearer {good}"}
    assert client.post(path, content=broken, headers=right).status_code == 422
    assert client.post(path, content=b"[" * 100_000, headers=right).status_code in (400, 422)
    chunks = {**right, "transfer-encoding": "chunked", "content-length": "4"}
    assert client.post(path, content=b"[]", headers=chunks).status_code == 411


def test_aliases_stand_for_so_much_and_no_more() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(
        ConfigError, match=r"x\.yaml:\d: .*aliases stand for more than 10000 values"
    ):
        parse_yaml(bomb, "x.yaml")
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_yaml("a: " + "[" * 5000, "x.yaml")
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_yaml("a: &a [*a]", "x.yaml")
    data, _ = parse_yaml("a: &a {lr: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]", "x.yaml")
    assert data["b"] == {"lr": 1, "x": 2}
    assert data["c"] == [{"lr": 1}, {"lr": 1}]


# -- guesses ------------------------------------------------------------------------------------------


@either
def test_guesses_at_the_same_time_are_counted(site: Site) -> None:
    accounts.add_account(site, "anna", PASSWORD)

    def guess(n: int) -> bool:
        try:
            return accounts.sign_in(site, "anna", f"wrong {n}", None, None) is None
        except Throttled:
            return False

    with ThreadPoolExecutor(16) as pool:
        looked_at = sum(pool.map(guess, range(40)))
    assert looked_at == FREE_BY_NAME


def test_a_right_password_is_no_try(site: Site) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    for _ in range(3 * FREE_BY_ADDRESS):
        assert accounts.sign_in(site, "anna", PASSWORD, "203.0.113.9", None)
    assert site.all(sa.select(tables.attempts)) == []


def test_behind_an_unknown_proxy_a_guesser_locks_the_name_alone(site: Site) -> None:
    for name in ("anna", "bela"):
        accounts.add_account(site, name, PASSWORD)
    for n in range(2 * FREE_BY_ADDRESS):
        accounts.sign_in(site, f"guess-{n}", "wrong", None, None)
    for _ in range(FREE_BY_NAME):
        accounts.sign_in(site, "anna", "wrong", None, None)
    with pytest.raises(Throttled):
        accounts.sign_in(site, "anna", PASSWORD, None, None)
    assert accounts.sign_in(site, "bela", PASSWORD, None, None)


def test_names_are_sprayed_from_one_network_only_so_often(site: Site) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    for n in range(FREE_BY_ADDRESS):
        accounts.sign_in(site, f"guess-{n}", "wrong", f"2001:db8::{n:x}", None)
    with pytest.raises(Throttled):
        accounts.sign_in(site, "anna", PASSWORD, "2001:db8::ffff:1", None)
    assert accounts.sign_in(site, "anna", PASSWORD, "2001:db8:0:1::1", None)


@pytest.mark.parametrize(
    ("proxied", "peer", "said", "found"),
    [
        (False, "203.0.113.5", "198.51.100.1", "203.0.113.5"),  # no proxy: what it says is hearsay
        (True, "10.0.0.7", "198.51.100.1", "198.51.100.1"),
        (
            True,
            "10.0.0.7",
            "6.6.6.6, 198.51.100.1",
            "198.51.100.1",
        ),  # the first is the browser's own word
        (True, "10.0.0.7", "198.51.100.1, 10.0.0.8", "198.51.100.1"),
        (True, "10.0.0.7", "", None),
        (True, "10.0.0.7", "unknown", None),
        (True, "172.18.0.3", "198.51.100.1", None),  # a proxy nobody named
    ],
)
def test_whose_word_for_an_address_is_taken(
    site: Site, proxied: bool, peer: str, said: str, found: str | None
) -> None:
    from starlette.requests import Request

    from accord.web.guard.security import address_of

    site.proxied, site.proxies = proxied, (ip_network("10.0.0.0/24"),)
    headers = [(b"x-forwarded-for", said.encode())] if said else []
    request = Request({"type": "http", "client": (peer, 1), "headers": headers})
    assert address_of(request, site) == found


def test_an_owner_unlocks(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    accounts.add_account(site, "anna", PASSWORD)
    accounts.set_role(site, "tents", "anna", "annotator", "test")
    for _ in range(FREE_BY_NAME):
        accounts.sign_in(site, "anna", "wrong", None, None)
    assert throttle.locked(site, ["anna", "olga"]) == {"anna"}
    assert "locked after wrong passwords" in olga.get("/studies/tents/people").text
    assert olga.post("/studies/tents/people/unlock", name="stranger").status_code == 404
    olga.get("/studies/tents/people")
    assert "anna may try again" in olga.post("/studies/tents/people/unlock", name="anna").text
    assert accounts.sign_in(site, "anna", PASSWORD, None, None)


def test_a_new_password_unlocks(site: Site) -> None:
    id = accounts.add_account(site, "anna", PASSWORD)
    for _ in range(FREE_BY_NAME):
        accounts.sign_in(site, "ANNA", "wrong", None, None)
    with pytest.raises(Throttled):
        accounts.sign_in(site, "anna", PASSWORD, None, None)
    accounts.change_password(site, id, "anna", PASSWORD + "!")
    assert accounts.sign_in(site, "anna", PASSWORD + "!", None, None)


# -- names --------------------------------------------------------------------------------------------


TWINS = {  # Cyrillic, Greek, full width, Latin alpha, and what looks alike in one case only
    "anna": [
        "Anna",
        "\u0430nna",
        "ann\u0430",
        "\uff41nna",
        " anna ",
        "\u0251nna",
        "A\u039dNA",
        "anna",
    ],
    "TOM": ["\u0422\u041e\u041c", "\u0442\u043e\u043c", "T\u041eM", "tom"],
    "bill": ["biII", "bi11", "bi|l", "Bi\u04c0l"],
    "olga": ["0lga", "\u039flga"],
    "mia": ["rnia"],
    "Iris": ["lris", "1ris", "IRIS"],
    "anna b": ["anna  b", "anna\u3000b", "Anna\u00a0B"],
}


@pytest.mark.parametrize(("name", "twin"), [(n, t) for n, found in TWINS.items() for t in found])
def test_who_looks_like_somebody_else_is_no_new_name(site: Site, name: str, twin: str) -> None:
    accounts.add_account(site, name, "a password")
    with pytest.raises(ConfigError, match=f"taken|looks like '{name}'"):
        accounts.add_account(site, twin, PASSWORD)


UNSEEN = "\u200b\u2060\u00ad\u034f\ufe0f\u180b\u3164\u2800\u115f\u17b4\U000e0100\u202e"
OURS = ("cli", "API", "live", "mia (adjudicator)", "\u0441li", "mia (Adjud\u0456cator)")


@pytest.mark.parametrize("name", [*(f"an{c}na" for c in UNSEEN), *OURS], ids=ascii)
def test_what_hides_or_is_the_server_s_own_is_no_name(site: Site, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a person"):
        accounts.add_account(site, name, PASSWORD)


def test_other_names_stay_other_names(site: Site) -> None:
    names = [
        "anna",
        "anne",
        "Анна",
        "李",
        "ann",
        "Éva",
        "Eva",
        "jose",
        "José",
        "anna-2",
        "bob",
        "ian",
        "van",
        "nan",
        "Al",
        "Clive",
    ]
    for name in names:
        accounts.add_account(site, name, PASSWORD)


def test_one_signs_in_however_one_writes_ones_name(site: Site) -> None:
    accounts.add_account(site, "Anna", PASSWORD)
    assert accounts.sign_in(site, "anna", PASSWORD, None, None)
    # two of an older store that differ by case: only the name itself will do
    site.run(
        sa.update(tables.accounts).values(name="Anna"),
        sa.insert(tables.accounts).values(
            id="2", name="ANNA", password="x", admin=False, disabled=False, at=0
        ),
    )
    assert accounts.sign_in(site, "anna", PASSWORD, None, None) is None
    assert accounts.sign_in(site, "Anna", PASSWORD, None, None)


@either
def test_the_last_owner_stays(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    olga.get("/studies/tents/people")
    told = olga.post("/studies/tents/people", name="olga", role="")
    assert told.status_code == 422
    assert "last owner" in told.text
    with pytest.raises(DataError, match="last owner"):
        accounts.set_role(site, "tents", "olga", "annotator", "test")
    accounts.add_account(site, "otto", PASSWORD)
    accounts.set_role(site, "tents", "otto", "owner", "test")
    accounts.set_role(site, "tents", "olga", None, "test")


def test_no_way_round_leaves_a_study_without_an_owner(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga, otto, mia = enter("olga", "owner"), enter("otto", "owner"), enter("mia", "manager")
    url = "/studies/tents/people"
    for browser in (olga, otto, mia):
        browser.get(url)
    assert mia.post(url, name="olga", role="annotator").status_code == 403
    mia.get(url)
    accounts.disable(site, "otto", True)  # who is shut out owns nothing
    for name, role in [("olga", ""), (" olga ", ""), ("olga", "manager"), ("olga", "reader")]:
        told = olga.post(url, name=name, role=role)
        assert (told.status_code, "last owner" in told.text) == (422, True)
    for name, role in [("OLGA", ""), ("olga", "boss"), ("\u043elga", "owner")]:
        assert olga.post(url, name=name, role=role).status_code == 422
    accounts.disable(site, "otto", False)
    otto = Browser(site).sign_in("otto")
    otto.get(url)
    both = [(olga, "otto"), (otto, "olga")]  # each takes the other's role, at once
    threads = [
        threading.Thread(target=b.post, args=(url,), kwargs={"name": n, "role": ""})
        for b, n in both
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roles = site.all(sa.select(tables.roles.c.role).where(tables.roles.c.role == "owner"))
    assert len(roles) == 1


def test_a_role_that_is_none_makes_no_account(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    olga.get("/studies/tents/people")
    assert olga.post("/studies/tents/people", name="nora", role="boss").status_code == 422
    names = site.all(sa.select(tables.accounts.c.name))
    assert [row.name for row in names] == ["olga"]
    told = olga.post("/studies/tents/people", name="nora", role="reader")
    assert "nora: " in told.text


# -- webhooks -----------------------------------------------------------------------------------------


def test_a_slow_webhook_holds_no_other(site: Site, enter: Enter, clock: Clock) -> None:
    quick: list[bytes] = []
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/slow":
                release.wait(20)
            else:
                quick.append(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        site.hooks_allowed = ("127.0.0.1",)
        loaded(site, pairs_study())
        for path in ("slow", "quick"):
            hooks.add(site, "tents", f"http://127.0.0.1:{server.server_port}/{path}", "test")
        anna = enter("anna", "annotator")
        for n in range(1, 4):
            anna.get("/studies/tents/annotate")
            anna.answer(choice="0:1")
            hooks.deliver(site, wait=0.0)
            until = time.monotonic() + 10
            while len(quick) < n and time.monotonic() < until:
                time.sleep(0.02)
            assert len(quick) == n
    finally:
        release.set()
        for thread in site.delivering.values():
            thread.join(10)
        server.shutdown()
        server.server_close()


def test_a_webhook_that_trickles_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "TIMEOUT", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as door:

        def trickle() -> None:
            one, _ = door.accept()
            with one:
                while not over.wait(0.1):  # a byte well within every single read's limit
                    try:
                        one.sendall(b"H")
                    except OSError:
                        return

        threading.Thread(target=trickle, daemon=True).start()
        with pytest.raises((OSError, http.client.HTTPException)):
            hooks._post(f"http://127.0.0.1:{door.getsockname()[1]}/", b"{}", {})
        over.set()


# -- the start ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "collect.example", "https://", "ftp://collect.example", "https://collect.example/study", 
        "https://a b", "https://collect.example:99999", "https://u@collect.example",
        "http://collect.example", "https://é.example",
        "https://[::1", "https://collect.example?x=1", "*",
    ],
)  # fmt: skip
def test_an_origin_no_browser_sends_is_refused_at_start(origin: str) -> None:
    with pytest.raises(ConfigError, match="--origin"):
        serving._origin(origin)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://Collect.Example/", "https://collect.example"),
        ("https://collect.example:443", "https://collect.example"),
        ("https://collect.example:8443", "https://collect.example:8443"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://[2001:db8::1]:444", "https://[2001:db8::1]:444"),
    ],
)
def test_an_origin_is_what_a_browser_sends(given: str, sent: str) -> None:
    assert serving._origin(given) == sent


def test_a_busy_port_costs_no_password(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "name: tents\nquestions:\n- {kind: thumb, items: [{prompt: Hi, responses: [Ho]}]}\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port}.*another --port"):
            serving.serve_study(study, str(tmp_path / "s.db"), "127.0.0.1", port, None, [])
    assert not (tmp_path / "s.db").exists()


def test_a_proxy_is_an_address() -> None:
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        serving._network("nginx")


def test_what_is_told_to_hooks_survives_the_store(tmp_path: Path) -> None:
    """A fault inside a webhook's thread reaches the caller."""
    with Store(tmp_path / "s.db") as store:
        site = Site(store, origin=ORIGIN, hooks_allowed=("127.0.0.1",))
        loaded(site, pairs_study())
        hooks.add(site, "tents", "http://127.0.0.1:9/", "test")
        with site.db.writing() as connection:
            hooks.tell(site, connection, "tents", judgment=json.dumps({}))

        def broken(*_: object) -> int:
            raise RuntimeError("no such thing")

        with pytest.raises(RuntimeError, match="no such thing"):
            hooks.deliver(site, broken)
