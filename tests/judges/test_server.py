"""Judges against a server, a good one and bad ones: nothing lost, nothing invented, resumed exactly."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from accord.core.types import Prompt, Response
from accord.judges.ask import NO_MONEY, Judge, JudgeBudget, judge_items
from accord.judges.backends import SHOWN, ServerBackend
from accord.judges.cache import Cache
from accord.judges.templates import JudgedItem
from accord.lm import remote
from accord.lm.remote import ServerSampler

Answer = Callable[
    [Any, int], tuple[int, dict[str, str], bytes]
]  # body, how often this one came before


@contextlib.contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A server's address, and the bodies it was sent."""
    asked: list[Any] = []
    times: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                asked.append(body)
                text = body["messages"][0]["content"]
                before, times[text] = times[text], times[text] + 1
            status, headers, reply = answer(body, before)
            with contextlib.suppress(OSError):  # who asked may have gone
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(reply)

        def log_message(self, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=lambda: httpd.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/v1", asked
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def longest(body: Any) -> tuple[float, float]:
    """Probabilities of a judge that likes words, and the first place a little."""
    a, b = (len(found[2].split()) for found in SHOWN.findall(body["messages"][0]["content"]))
    p = 1 / (1 + math.exp(-(a - b + 0.5)))
    return p, 1 - p


def good(
    body: Any, before: int, *, id: str = "x", text: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    p = longest(body)
    said = text if text is not None else f"Verdict: {'AB'[p[1] > p[0]]}"
    top = [
        {"token": " A", "logprob": math.log(p[0] * 0.9)},
        {"token": "B", "logprob": math.log(p[1] * 0.9)},
    ]
    choices = [
        {"index": k, "message": {"role": "assistant", "content": said}, "finish_reason": "stop",
         **({"logprobs": {"content": [{**top[0], "top_logprobs": top}]}} if "top_logprobs" in body else {})}
        for k in range(body["n"])
    ]  # fmt: skip
    told = {"id": id, "choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 2}}
    return 200, {}, json.dumps(told).encode()


ROOT = Path(__file__).parents[2]
ITEMS = [
    JudgedItem(
        Prompt.user(f"question {n}"),
        (Response(text="word " * (1 + n % 4)), Response(text="term " * 2)),
    )
    for n in range(12)
]
TRUTH = [
    (1 / (1 + math.exp(-(d + 0.5))) + 1 / (1 + math.exp(-(d - 0.5)))) / 2
    for d in (n % 4 - 1 for n in range(12))
]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LONGEST", 0.02)


def backend(url: str, **more: Any) -> ServerBackend:
    return ServerBackend(ServerSampler(url, "m", at_once=4, tries=3, timeout=2.0), **more)


def test_logprobs_of_both_orders(tmp_path: Path) -> None:
    with serving(good) as (url, asked), Cache(tmp_path / "c.db") as cache:
        verdicts, spent = judge_items(Judge(), backend(url), ITEMS, cache)
        assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)
        assert (len(asked), spent.asked, spent.read, spent.written) == (24, 24, 240, 48)
        again, spent = judge_items(Judge(), backend(url), ITEMS, cache)
        assert again == verdicts
        assert (len(asked), spent.asked, spent.cached) == (24, 0, 24)


FAULTS: dict[str, Answer] = {
    "429": lambda body, before: (429, {"Retry-After": "1"}, b"slow down"),
    "500": lambda body, before: (500, {}, b"oops"),
    "garbage": lambda body, before: (200, {}, b"<html>hello</html>"),
    "half a JSON": lambda body, before: (200, {}, good(body, 0)[2][:80]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_changes_nothing(fault: str) -> None:
    """The first try of everything fails: the second is the judge's word."""
    with (
        serving(lambda b, n: FAULTS[fault](b, n) if n == 0 else good(b, n)) as (url, asked),
        Cache(":memory:") as c,
    ):
        verdicts, spent = judge_items(Judge(), backend(url), ITEMS, c)
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)
    assert (len(asked), spent.asked, spent.failed) == (48, 24, {})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_stays_is_missing_and_asked_again(fault: str) -> None:
    """Of one item every request fails: its verdict is missing with the reason, the others stand, and the next
    run asks that one alone."""
    broken = True

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        bad = broken and "question 3\n" in body["messages"][0]["content"]
        return FAULTS[fault](body, before) if bad else good(body, before)

    with serving(answer) as (url, asked), Cache(":memory:") as cache:
        verdicts, spent = judge_items(Judge(), backend(url), ITEMS, cache)
        assert [n for n, v in enumerate(verdicts) if v.probs is None] == [3]
        assert "did not answer as expected" in verdicts[3].missing
        assert (spent.asked, len(spent.failed)) == (22, 2)
        broken, before = False, len(asked)
        verdicts, spent = judge_items(Judge(), backend(url), ITEMS, cache)
        assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)
        assert (len(asked) - before, spent.asked) == (2, 2)


def test_retry_after_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(remote, "LONGEST", 30.0)
    monkeypatch.setattr(remote.time, "sleep", slept.append)
    busy: Answer = lambda b, n: (429, {"Retry-After": "7"}, b"") if n == 0 else good(b, n)  # noqa: E731
    with serving(busy) as (url, _), Cache(":memory:") as cache:
        judge_items(Judge(orders="one"), backend(url), ITEMS[:1], cache)
    assert slept == [7.0]


def test_a_server_that_hangs_is_missing() -> None:
    def slow(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        if "question 1\n" in body["messages"][0]["content"]:
            time.sleep(0.3)
        return good(body, before)

    with serving(slow) as (url, _), Cache(":memory:") as cache:
        hasty = ServerBackend(ServerSampler(url, "m", at_once=4, tries=2, timeout=0.1))
        verdicts, _ = judge_items(Judge(), hasty, ITEMS[:3], cache)
    assert [v.probs is None for v in verdicts] == [False, True, False]
    assert "timed out" in verdicts[1].missing or "timeout" in verdicts[1].missing.lower()


def test_ids_that_are_the_same_twice_mix_nothing_up() -> None:
    """A reply's id says nothing to us; two choices with one index are refused, for one is another's."""
    with serving(lambda b, n: good(b, n, id="same")) as (url, _), Cache(":memory:") as cache:
        verdicts, _ = judge_items(Judge(), backend(url), ITEMS, cache)
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)

    def twice(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        told = json.loads(good(body, before)[2])
        for choice in told["choices"]:
            choice["index"] = 0
        return 200, {}, json.dumps(told).encode()

    many = Judge(read="text", samples=3, temperature=1.0)
    with serving(twice) as (url, _), Cache(":memory:") as cache:
        verdicts, spent = judge_items(many, backend(url), ITEMS[:2], cache)
        assert all(v.probs is None and "did not answer" in v.missing for v in verdicts)
        assert cache.known(spent.failed) == {}


def test_a_text_without_a_verdict_is_kept_as_missing() -> None:
    """It was an answer: it is counted, not asked again and again, and no default."""
    with (
        serving(lambda b, n: good(b, n, text="Both are fine.")) as (url, asked),
        Cache(":memory:") as cache,
    ):
        for _ in range(2):
            verdicts, _ = judge_items(Judge(read="text"), backend(url), ITEMS, cache)
            assert {v.missing for v in verdicts} == {"no verdict in the reply"}
            assert sum(v.unread for v in verdicts) == 24
    assert len(asked) == 24


def test_a_server_without_logprobs_is_read_by_its_text() -> None:
    def silent(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        return good({k: v for k, v in body.items() if k != "top_logprobs"}, before)

    with serving(silent) as (url, _), Cache(":memory:") as cache:
        verdicts, _ = judge_items(Judge(), backend(url), ITEMS, cache)
    assert {v.probs for v in verdicts} <= {(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)}


@pytest.mark.parametrize("most", [20, 5000])
def test_an_option_the_server_does_not_tell_of_is_not_impossible(most: int) -> None:
    """B is the 30th likeliest token: of a server that tells of 20, it counts as likely as the last of them,
    the most it can be; one that tells more is asked again and gives the very log-prob. Refused, it is not
    asked again."""
    tokens = [("A", 0.5), *((f"t{k}", 0.01) for k in range(28)), ("B", 0.005)]

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        if body["top_logprobs"] > most:
            return 400, {}, b"top_logprobs must be at most 20"
        told = json.loads(good(body, before)[2])
        some = [{"token": t, "logprob": math.log(p)} for t, p in tokens[: body["top_logprobs"]]]
        told["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = some
        return 200, {}, json.dumps(told).encode()

    with serving(answer) as (url, asked), Cache(":memory:") as cache:
        one = ServerBackend(ServerSampler(url, "m", at_once=1))
        verdicts, _ = judge_items(Judge(orders="one"), one, ITEMS[:3], cache)
    assert len(asked) == (6 if most > 20 else 4)
    p = 0.5 / 0.505 if most > 20 else 0.5 / 0.51
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx([p] * 3)


def test_a_structured_reply_is_asked_for_by_a_schema_and_read_as_such() -> None:
    """The schema goes with the request; what is no object of it is missing, cut JSON too."""
    replies = [
        '{"reason": "A is A, B is not.", "verdict": "B"}',
        '{"reason": "A',
        '{"verdict": "C"}',
    ]

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        which = int(body["messages"][0]["content"].partition("question ")[2].split()[0])
        return good(body, before, text=replies[which])

    how = Judge(read="text", structured=True, rationale=True, orders="one")
    with serving(answer) as (url, asked), Cache(":memory:") as cache:
        verdicts, _ = judge_items(how, backend(url), ITEMS[:3], cache)
    assert [v.probs for v in verdicts] == [(0.0, 1.0), None, None]
    assert verdicts[0].rationale == "A is A, B is not."
    schema = asked[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["reason", "verdict"]
    assert schema["properties"]["verdict"]["enum"] == ["A", "B"]


def test_what_is_read_by_log_probs_is_short() -> None:
    """Its first token is what counts; a reason, and a verdict read from its text, may be long."""
    for how, most in ((Judge(), 16), (Judge(read="text"), 256)):
        with serving(good) as (url, asked), Cache(":memory:") as cache:
            judge_items(how, backend(url), ITEMS[:1], cache)
        assert {b["max_tokens"] for b in asked} == {most}


def test_a_budget_stops_and_goes_on(tmp_path: Path) -> None:
    """Each request costs 12 tokens: of 100 each run spends 108, and not one request more; what is asked is
    never asked again, and at last everything is there."""
    spent_by_run = []
    with serving(good) as (url, asked):
        while True:
            with Cache(tmp_path / "c.db") as cache:
                verdicts, spent = judge_items(
                    Judge(), backend(url), ITEMS, cache, budget=JudgeBudget(tokens=100)
                )
            spent_by_run.append(spent.read + spent.written)
            if not spent.failed:
                break
            assert set(spent.failed.values()) == {NO_MONEY}
            assert any(v.missing == NO_MONEY for v in verdicts)
    assert spent_by_run == [108, 108, 72]
    assert len(asked) == 24
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)


def test_a_budget_of_requests_that_cost_unlike_is_kept_to(tmp_path: Path) -> None:
    """What is asked next is what the budget lasts for by what was paid: never a chunk too many."""
    costs = iter([10, 200, 30, 90] * 20)

    def dear(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        status, headers, reply = good(body, before)
        usage = {"prompt_tokens": next(costs), "completion_tokens": 0}
        return status, headers, json.dumps({**json.loads(reply), "usage": usage}).encode()

    with serving(dear) as (url, _), Cache(":memory:") as cache:
        _, spent = judge_items(
            Judge(), backend(url), ITEMS, cache, budget=JudgeBudget(cost=1.5, prices=(1000.0, 0.0))
        )
    assert 1500 <= spent.read <= 1500 + 4 * 200  # never more than a few requests beyond
    assert spent.failed


def test_an_interrupted_run_keeps_what_it_paid_for(tmp_path: Path) -> None:
    """Ctrl-C: nothing more is sent, what is under way is waited for and kept."""
    before_it = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a job behind & ignores it
    try:
        interrupted(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before_it)


def interrupted(tmp_path: Path) -> None:
    lock, seen = threading.Lock(), [0]

    def interrupting(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        time.sleep(0.05)
        with lock:
            seen[0] += 1
            if seen[0] == 8:
                os.kill(os.getpid(), signal.SIGINT)
        return good(body, before)

    with serving(interrupting) as (url, asked):
        with Cache(tmp_path / "c.db") as cache, pytest.raises(KeyboardInterrupt):
            judge_items(Judge(), backend(url), ITEMS, cache)
        before = len(asked)
        with Cache(tmp_path / "c.db") as cache:
            verdicts, spent = judge_items(Judge(), backend(url), ITEMS, cache)
        assert 8 <= before <= 16
        assert (
            len(asked) <= 24 + 3
        )  # all that was asked before is known, but what Ctrl-C met on its way in
    assert spent.cached >= before - 3
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)


KILLED = """\
import sys
from tests.judges.test_server import ITEMS, backend, judge_items, Judge, Cache
with Cache(sys.argv[2]) as cache:
    judge_items(Judge(), backend(sys.argv[1]), ITEMS, cache)
"""


def test_a_killed_run_asks_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL while requests are under way: what had come is known, by the server's own count."""
    enough = threading.Event()
    lock, answered = threading.Lock(), [0]

    def slow(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        with lock:
            answered[0] += 1
            n = answered[0]
        if n > 12:
            enough.set()
            time.sleep(1.0)  # killed before this is answered
        time.sleep(0.02)
        return good(body, before)

    with serving(slow) as (url, asked):
        words = [sys.executable, "-c", KILLED, url, str(tmp_path / "c.db")]
        with subprocess.Popen(words, cwd=ROOT) as process:
            assert enough.wait(60)
            time.sleep(0.3)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        under_way, answered[0] = len(asked) - 12, -(10**6)
        with Cache(tmp_path / "c.db") as cache:
            verdicts, spent = judge_items(Judge(), backend(url), ITEMS, cache)
        assert (spent.cached, spent.asked) == (12, 12)
        assert len(asked) == 24 + under_way
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH)


def test_two_servers_that_call_their_models_alike_are_two(tmp_path: Path) -> None:
    with serving(good) as (one, asked), serving(good) as (two, more):
        with Cache(tmp_path / "c.db") as cache:
            for url in (one, two, one):
                judge_items(Judge(), backend(url), ITEMS[:3], cache)
        assert (len(asked), len(more)) == (6, 6)


def test_a_reason_then_the_verdict_behind_it() -> None:
    """Two requests an order: the second holds the first's reason, and is read by its log-probs."""
    with (
        serving(lambda b, n: good(b, n, text="The longer one says more.")) as (url, asked),
        Cache(":memory:") as cache,
    ):
        verdicts, _ = judge_items(Judge(rationale=True), backend(url), ITEMS[:2], cache)
    assert [v.probs[0] for v in verdicts if v.probs] == pytest.approx(TRUTH[:2])
    assert verdicts[0].rationale == "The longer one says more."
    behind = [b for b in asked if len(b["messages"]) == 3]
    assert len(asked) == 8
    assert len(behind) == 4
    assert all(b["messages"][1]["content"] == "The longer one says more." for b in behind)


def test_requests_begin_no_faster_than_asked() -> None:
    with serving(good) as (url, _), Cache(":memory:") as cache:
        started = time.monotonic()
        judge_items(Judge(), backend(url, per_second=100.0), ITEMS[:6], cache)
        assert time.monotonic() - started >= 11 / 100


def test_an_option_not_told_of_has_no_more_than_what_the_others_leave() -> None:
    """Of a server that tells of one token, A with 0.98, B has at most 0.02, in either order of the two."""

    def answer(body: Any, before: int) -> tuple[int, dict[str, str], bytes]:
        told = json.loads(good(body, before)[2])
        one = [{"token": "A", "logprob": math.log(0.98)}]
        told["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = one
        return 200, {}, json.dumps(told).encode()

    with serving(answer) as (url, _), Cache(":memory:") as cache:
        verdicts, _ = judge_items(Judge(), backend(url), ITEMS[:1], cache)
    assert verdicts[0].by_order[0] == pytest.approx((0.98, 0.02))
    assert verdicts[0].by_order[1] == pytest.approx((0.02, 0.98))
