"""Fifty raters at once: how long a page takes, and that no judgment is lost or doubled.

    python -m benchmarks.collect                          SQLite, 50 raters, 40 s
    python -m benchmarks.collect --kill                   killed (-9) in the middle and started again
    python -m benchmarks.collect --postgres URL           an empty PostgreSQL database
    python -m benchmarks.collect --think 0                as fast as they can: the server's limit

A real server in a process of its own, over HTTP; every rater is a thread that signs in, reads the page it
gets, thinks (exponential, mean --think seconds), and submits; now and then it skips, undoes, or sends twice.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlencode

import sqlalchemy as sa

from accord.feedback.study.definition import Study
from accord.store import Store
from accord.web import tables
from accord.web.guard import accounts
from accord.web.guard.audit import verify_events
from accord.web.site import Site
from accord.web.work.studies import load_study
from benchmarks.quiet import alone

PASSWORD = "a password for the benchmark"
WORDS = [
    "tent",
    "boot",
    "rope",
    "stove",
    "filter",
    "knife",
    "kayak",
    "lantern",
    "beacon",
    "jacket",
    "parcel",
    "refund",
    "repair",
    "voucher",
]


def study_of(questions: int, overlap: int) -> dict:
    """A study of comparisons with answers of some 60 words."""
    draw = random.Random(1)
    text = lambda: " ".join(draw.choices(WORDS, k=60))  # noqa: E731
    items = [
        {"prompt": f"{n}: {text()[:120]}?", "responses": [f"{text()}.", f"{text()}!"]}
        for n in range(questions)
    ]
    return {
        "name": "bench", "overlap": {"min": overlap, "max": overlap}, "lease_minutes": 1.0,
        "questions": [{"kind": "compare", "points": 7, "items": items}],
        "guidelines": "Say which answer you would rather have sent. " * 20,
    }  # fmt: skip


class Server:
    """`accord collect serve` in a process of its own."""

    def __init__(self, folder: Path, where: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.command = [
            sys.executable, "-m", "accord", "collect", "serve", str(folder / "study.yaml"),
            "--store", where, "--port", str(self.port),
        ]  # fmt: skip
        self.log = (folder / "server.log").open("ab")

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.process.poll() is not None:
                raise SystemExit("the server did not start; see its log")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.1)

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(30)


class Rater(threading.Thread):
    """One person in a browser."""

    def __init__(self, name: str, port: int, think: float, until: float) -> None:
        super().__init__(daemon=True)
        self.who, self.port, self.think, self.until = name, port, think, until
        self.draw = random.Random(name)
        self.jar: dict[str, str] = {}
        self.pages: list[float] = []
        self.submits: list[float] = []
        self.kept: list[tuple[str, str]] = []  # (lease, base) acknowledged
        self.retries = 0
        self.faults: list[str] = []
        self.line: http.client.HTTPConnection | None = None

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """(status, location, body); tried again while the server is away, as a person would."""
        body = urlencode(form) if form is not None else None
        headers = {"cookie": "; ".join(f"{k}={v}" for k, v in self.jar.items())}
        if body is not None:
            origin = f"http://localhost:{self.port}"
            headers |= {"content-type": "application/x-www-form-urlencoded", "origin": origin}
        for tried in range(400):
            try:
                if self.line is None:
                    self.line = http.client.HTTPConnection("localhost", self.port, timeout=60)
                self.line.request(method, path, body, headers)
                answer = self.line.getresponse()
                text = answer.read().decode()
                for k, v in answer.getheaders():
                    if k.lower() == "set-cookie":
                        name, _, value = v.partition(";")[0].partition("=")
                        self.jar[name] = value
                return answer.status, answer.getheader("location", ""), text
            except (OSError, http.client.HTTPException):
                if self.line:
                    self.line.close()
                self.line, self.retries = None, self.retries + 1
                time.sleep(
                    0.1 if tried else 0
                )  # a connection that was idle too long is only opened again
        raise SystemExit("the server is gone")

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:  # told at the end
            self.faults.append(repr(error))
        finally:
            if self.line:
                self.line.close()

    def work(self) -> None:
        _, _, page = self.ask("GET", "/sign-in")
        form = {"csrf": field(page, "csrf"), "name": self.who, "password": PASSWORD}
        status, _, _ = self.ask("POST", "/sign-in", form)
        assert status == 303, status
        while time.time() < self.until:
            start = time.perf_counter()
            status, location, page = self.ask("GET", "/studies/bench/annotate")
            if "/done" in location:
                return
            assert status == 200, (status, page[:300])
            self.pages.append(time.perf_counter() - start)
            time.sleep(self.draw.expovariate(1 / self.think) if self.think else 0)
            self.answer(page)

    def answer(self, page: str) -> None:
        lease = re.search(r'action="/studies/bench/annotate/([0-9a-f]+)"', page)
        assert lease
        url, base = f"/studies/bench/annotate/{lease[1]}", field(page, "base")
        csrf, luck = field(page, "csrf"), self.draw.random()
        if luck < 0.02:
            self.ask("POST", f"{url}/skip", {"csrf": csrf, "reason": "no idea"})
            return
        choice = self.draw.choice(["0:1", "0:2", "0:3", "1:1", "1:2", "1:3", "tie", "bad"])
        form = {"csrf": csrf, "base": base, "choice": choice, "seconds": "1"}
        start = time.perf_counter()
        status, location, text = self.ask("POST", url, form)
        self.submits.append(time.perf_counter() - start)
        assert status == 303, (status, text[:300])
        if "lost" not in location:
            self.kept.append((lease[1], base))
        if luck < 0.07:  # a double click
            self.ask("POST", url, form)
        elif luck < 0.1:  # undo: the same question again, another answer
            _, location, _ = self.ask("POST", "/studies/bench/undo", {"csrf": csrf})
            if "/annotate/" in location:
                _, _, again = self.ask("GET", location)
                if field(again, "base"):
                    form = {"csrf": csrf, "base": field(again, "base"), "choice": "tie"}
                    self.ask("POST", location, form)


def field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    return found[1] if found else ""


def prepare(folder: Path, where: str, raters: int, questions: int, overlap: int) -> None:
    data = study_of(questions, overlap)
    (folder / "study.yaml").write_text(json.dumps(data))
    with Store(where) as store:
        site = Site(store)
        load_study(site, Study.model_validate(data))
        for n in range(raters):
            accounts.add_account(site, f"rater{n}", PASSWORD)
            accounts.set_role(site, "bench", f"rater{n}", "annotator", "benchmark")


def check(where: str, raters: list[Rater]) -> str:
    """What must hold afterwards; AssertionError names what does not."""
    lease = tables.leases
    with Store(where, create=False) as store:
        site = Site(store)
        rows = site.all(sa.select(lease).where(lease.c.state == "submitted"))
        kept = {row.id for row in rows}
        told = {id for rater in raters for id, _ in rater.kept}
        lost = told - kept
        assert not lost, f"{len(lost)} acknowledged answers are lost"
        seats = Counter((row.question, row.account) for row in rows)
        assert max(seats.values(), default=1) == 1, "somebody answered a question twice"
        judgments = store.judgments()
        superseded = {j.supersedes for j in judgments if j.supersedes}
        standing = [j for j in judgments if j.id not in superseded]
        assert len(standing) == len(rows), (
            f"{len(standing)} judgments stand for {len(rows)} answers"
        )
        taken = Counter(row.question for row in rows)
        for q in site.all(sa.select(tables.study_questions)):
            held = sa.select(sa.func.count()).select_from(lease)
            n = site.one(held.where(lease.c.question == q.id, lease.c.state == "held"))[0]
            assert q.answered == taken[q.id] <= q.wanted, (
                f"question {q.id} has {taken[q.id]} answers"
            )
            assert q.taken == taken[q.id] + n, f"question {q.id} counts {q.taken} seats"
        n, events = store.verify(), verify_events(site)
    more = len(kept) - len(told)
    return (
        f"{len(told)} answers acknowledged, all kept ({more} more were kept and their answer not heard); "
        f"none doubled; {n} judgments ({len(superseded)} corrected) and {events} events verified"
    )


def spread(seconds: list[float]) -> str:
    ms = sorted(1000 * s for s in seconds)
    at = lambda q: ms[min(len(ms) - 1, int(q * len(ms)))] if ms else float("nan")  # noqa: E731
    return f"p50 {at(0.5):.0f} ms, p95 {at(0.95):.0f} ms, p99 {at(0.99):.0f} ms, n={len(ms)}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--think", type=float, default=2.0)
    parser.add_argument("--questions", type=int, default=2000)
    parser.add_argument("--overlap", type=int, default=3)
    parser.add_argument("--postgres", default="")
    parser.add_argument("--kill", action="store_true")
    args = parser.parse_args()
    print(alone(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        where = args.postgres or str(folder / "study.db")
        prepare(folder, where, args.raters, args.questions, args.overlap)
        server = Server(folder, where)
        server.start()
        until = time.time() + args.seconds
        raters = [Rater(f"rater{n}", server.port, args.think, until) for n in range(args.raters)]
        for rater in raters:
            rater.start()
            time.sleep(0.1)  # people don't all sign in within the same second
        if args.kill:
            time.sleep(max(0.0, until - time.time() - args.seconds / 2))
            server.stop(signal.SIGKILL)
            server.start()
        for rater in raters:
            rater.join(args.seconds + 120)
        server.stop(signal.SIGTERM)
        faults = [fault for rater in raters for fault in rater.faults]
        database = "PostgreSQL" if args.postgres else "SQLite"
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {database}"
        )
        killed = ", server killed once" if args.kill else ""
        retries = sum(r.retries for r in raters)
        print(f"{args.raters} raters, thinking {args.think:g} s, {args.questions} questions")
        print(f"{retries} retries{killed}")
        print("page:  ", spread([s for r in raters for s in r.pages]))
        print("submit:", spread([s for r in raters for s in r.submits]))
        print(check(where, raters))
        if faults:
            print((folder / "server.log").read_text()[-3000:])
            raise SystemExit(f"{len(faults)} raters failed: {faults[0]}")


if __name__ == "__main__":
    main()
