"""What goes on beside the server."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from accord.core.errors import AccordError
from accord.feedback.study.definition import Study
from accord.lm.kernels import allocator
from accord.web.site import Site
from accord.web.work import hooks
from accord.web.work.live import top_up

__all__ = ["working"]

EVERY, AFTER_FAULT = 2.0, 30.0  # seconds between looks at what is due, and after a fault


@contextlib.contextmanager
def working(site: Site, study: Study) -> Iterator[None]:
    """Beside the server: deliver webhooks, sample live questions, give freed memory back; each in its own
    thread, so that none waits for another."""
    stop, draw = threading.Event(), random.Random()
    jobs: dict[str, Callable[[], object]] = {
        "webhooks": lambda: hooks.deliver(site, wait=EVERY),
        "live questions": lambda: top_up(site, study, Path(study.folder or "."), draw),
        **({} if site.policies else {"memory": allocator.trim}),
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
