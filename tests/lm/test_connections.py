"""Connections to a server are kept; one that has gone is replaced, and nothing is asked twice."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from accord.core.errors import ModelError
from accord.core.types import Prompt
from accord.lm import connections
from accord.lm.remote import ServerSampler
from accord.lm.sampler import Sampling


class Served:
    """What a server saw: connections, prompts."""

    def __init__(self) -> None:
        self.connections = 0
        self.asked: list[str] = []


@contextlib.contextmanager
def serving(hangs_up: bool = False) -> Iterator[tuple[str, Served]]:
    """An HTTP/1.1 server; `hangs_up`: it closes each connection after a reply without saying so."""
    seen, lock = Served(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                seen.connections += 1

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                seen.asked.append(body["messages"][0]["content"])
            said = {"role": "assistant", "content": "Yes."}
            reply = {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}]}
            sent = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)
            self.close_connection = hangs_up

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=lambda: httpd.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", seen
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def test_a_request_leaves_in_one_piece() -> None:
    """Headers alone would wake the server for nothing; the next request on the connection is whole too."""

    class Wire:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def sendall(self, data: bytes) -> None:
            self.sent.append(data)

        def close(self) -> None:
            pass

    wire = Wire()
    for body in (b'{"a": "\\r\\n\\r\\n"}', b"x\r\n\r\n"):
        connection = connections._Plain("127.0.0.1:1")
        connection.sock = wire  # type: ignore[assignment]
        connection.request("POST", "/v1", body, {"A": "b"})
        head, whole, tail = wire.sent[-1].partition(b"\r\n\r\n")
        assert (head.startswith(b"POST /v1"), whole, tail) == (True, b"\r\n\r\n", body)
    assert len(wire.sent) == 2


PROMPTS = [Prompt.user(f"question {k}") for k in range(40)]


def test_as_many_connections_as_requests_at_once() -> None:
    with serving() as (url, seen):
        sampler = ServerSampler(url, "m", at_once=4, tries=1)
        for _ in range(2):  # another call goes on with the same ones
            answers = sampler(PROMPTS, Sampling())
            assert [a[0].text for a in answers] == ["Yes."] * 40
        assert 1 <= seen.connections <= 4
        assert sorted(seen.asked) == sorted([p.last for p in PROMPTS] * 2)


def test_one_that_the_server_closed_is_replaced() -> None:
    """With a single try: a dead connection took no request, so it costs none."""
    with serving(hangs_up=True) as (url, seen):
        sampler = ServerSampler(url, "m", at_once=1, tries=1)
        assert len(sampler(PROMPTS[:6], Sampling())) == 6
        assert seen.asked == [p.last for p in PROMPTS[:6]]


def test_a_server_that_is_gone_is_an_error() -> None:
    with serving() as (url, _):
        sampler = ServerSampler(url, "m", at_once=1, tries=1, timeout=2.0)
        sampler(PROMPTS[:1], Sampling())
    with pytest.raises(ModelError, match="did not answer as expected"):
        ServerSampler(url, "m", at_once=1, tries=1, timeout=2.0)(PROMPTS[:1], Sampling())
