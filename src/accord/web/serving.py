"""Putting a site together and serving it."""

from __future__ import annotations

import contextlib
import random
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from accord.core.errors import AccordError, ConfigError
from accord.feedback.study import Study, read_study
from accord.store import Store
from accord.web import accounts, hooks, tables
from accord.web.app import create_app
from accord.web.live import check_policies, top_up
from accord.web.scoring import load_scorers
from accord.web.site import Policy, Site
from accord.web.studies import load_study

__all__ = ["serve_study"]

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
EVERY, AFTER_FAULT = 2.0, 30.0  # seconds between looks at what is due, and after a fault


def serve_study(
    path: Path, store: str, host: str, port: int, origin: str | None, sets: list[str],
    policies: Mapping[str, Policy] | None = None, hook_hosts: Sequence[str] = (),
) -> None:  # fmt: skip
    """Load the study into the store and serve until stopped. The first start makes an administrator."""
    import uvicorn

    if origin is None and host not in LOOPBACK:
        raise ConfigError(
            "plain http beyond this machine would show passwords", where=f"--host {host}",
            mend="put a TLS proxy before it and give its address with --origin https://…",
        )  # fmt: skip
    study = read_study(path, sets)
    with Store(store) as opened:
        site = Site(
            opened, origin=(origin or f"http://localhost:{port}").rstrip("/"),
            policies=policies or {}, hooks_allowed=tuple(hook_hosts),
            scorers=load_scorers(study),
        )  # fmt: skip
        check_policies(site, study)
        new = load_study(site, study)
        counts = opened.counts()["judgments"]
        print(f"study {study.name}: {new} new questions, {counts} judgments in {opened.name}")
        _first_account(site)
        print(f"serving at {site.origin}", flush=True)
        with _working(site, study):
            uvicorn.run(
                create_app(site), host=host, port=port, log_level="warning", server_header=False,
                timeout_keep_alive=60,
                proxy_headers=origin is not None, forwarded_allow_ips="127.0.0.1",
            )  # fmt: skip


def _first_account(site: Site) -> None:
    """An administrator where there is nobody yet; the password is shown once."""
    if site.one(sa.select(tables.accounts.c.id).limit(1)) is None:
        password = secrets.token_urlsafe(12)
        accounts.add_account(site, "admin", password, admin=True)
        print(f"first sign-in: name admin, password {password} (shown once; change it there)")


@contextlib.contextmanager
def _working(site: Site, study: Study) -> Iterator[None]:
    """Beside the server: deliver webhooks, sample live questions; each in its own thread, so that
    neither waits for the other."""
    stop, draw = threading.Event(), random.Random()
    jobs: dict[str, Callable[[], object]] = {
        "webhooks": lambda: hooks.deliver(site),
        "live questions": lambda: top_up(site, study, Path(study.folder or "."), draw),
    }

    def work(name: str, job: Callable[[], object]) -> None:
        while not stop.wait(EVERY):
            if not _done(site, name, job):
                stop.wait(AFTER_FAULT)

    threads = [threading.Thread(target=work, args=named, daemon=True) for named in jobs.items()]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)  # a policy in the middle of an answer: torch is not torn down under it


def _done(site: Site, name: str, job: Callable[[], object]) -> bool:
    """Whether the job went well. Any fault, a policy's own too, is told (on stderr, and to owners in the
    settings) until the job goes well again, and ends nothing."""
    try:
        job()
    except Exception as error:
        site.faults[name] = (str(error) if isinstance(error, AccordError) else repr(error))[:500]
        print(f"accord: {name}: {site.faults[name]}", file=sys.stderr, flush=True)
        return False
    site.faults.pop(name, None)
    return True
